//! RMI, from this repository, with the defaults of its documentation but for limits that the workloads exceed.

use bytes::Bytes;
use rmi::{Blob, Limits, Node, Peer, rmi_node};
use tokio::task::JoinHandle;

use crate::spawn_lanes;
use crate::workload::{self, Caller, Lane, Op, Record, Result, System};

pub struct Rmi;

struct Work;

#[rmi_node]
impl Work {
    async fn add(&self, a: i64, b: i64) -> i64 {
        a + b
    }

    async fn echo_record(&self, record: Record) -> Record {
        record
    }

    async fn echo_blob(&self, blob: Blob) -> Blob {
        blob
    }

    async fn nested(&self, caller: &Peer, x: i64) -> rmi::Result<i64> {
        Ok(BackStub::new(caller).add(x, 1).await?)
    }

    #[rmi(cpu)]
    fn burn_offloaded(&self) {
        workload::burn();
    }

    async fn burn_in_task(&self) {
        workload::burn();
    }
}

/// What the caller serves.
struct Back;

#[rmi_node]
impl Back {
    async fn add(&self, a: i64, b: i64) -> i64 {
        a + b
    }
}

fn limits() -> Limits {
    Limits::default()
        .with_message(128 << 20)
        .with_memory_per_peer(256 << 20)
        .with_calls_per_peer(4096)
        .with_connections(4096)
        .with_known_peers(8192)
}

impl System for Rmi {
    type Caller = RmiCaller;

    async fn serve(ready: impl FnOnce(String)) -> Result<()> {
        let node =
            Node::builder().name("server").listen("tcp://127.0.0.1:0").limits(limits()).serve(Work).start().await?;
        ready(node.addresses().first().ok_or("no address")?.to_string());
        std::future::pending().await
    }

    async fn connect(address: &str) -> Result<RmiCaller> {
        let node = Node::builder().seed(address).limits(limits()).serve(Back).start().await?;
        let peer = node.peer("server").await?;
        Ok(RmiCaller { work: WorkStub::new(&peer), record: Record::example(), _node: node })
    }
}

#[derive(Clone)]
pub struct RmiCaller {
    work: WorkStub,
    record: Record,
    _node: Node,
}

impl Caller for RmiCaller {
    type Blob = Blob;

    fn blob(bytes: Vec<u8>) -> Blob {
        Bytes::from(bytes).into()
    }

    async fn add(&self, a: i64, b: i64) -> Result<i64> {
        Ok(self.work.add(a, b).await?)
    }

    async fn echo_record(&self) -> Result<u64> {
        Ok(self.work.echo_record(self.record.clone()).await?.id)
    }

    async fn echo_blob(&self, blob: Blob) -> Result<(Blob, usize)> {
        let blob = self.work.echo_blob(blob).await?;
        let len = blob.len();
        Ok((blob, len))
    }

    async fn nested(&self, x: i64) -> Result<i64> {
        Ok(self.work.nested(x).await?)
    }

    async fn burn_offloaded(&self) -> Result<()> {
        Ok(self.work.burn_offloaded().await?)
    }

    async fn burn_in_task(&self) -> Result<()> {
        Ok(self.work.burn_in_task().await?)
    }

    fn start(&self, op: Op, lanes: Vec<Lane>) -> Vec<JoinHandle<Result<Lane>>> {
        spawn_lanes!(self, op, lanes)
    }
}
