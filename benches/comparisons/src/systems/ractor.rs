//! ractor_cluster 0.16 over TCP: an actor on one node that is called from another.
//!
//! Frames of up to 256 MiB. Bytes travel as they are and records as MessagePack, by `BytesConvertable`. The actor answers
//! small messages by itself; what takes long it gives to a task, with the port for its answer.

use ::ractor::{Actor, ActorProcessingErr, ActorRef, BytesConvertable, RpcReplyPort, pg};
use ractor_cluster::{NodeServer, RactorClusterMessage};
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

use crate::spawn_lanes;
use crate::workload::{self, Caller, Lane, Op, Record, Result, System};

const LARGEST: u64 = 256 << 20;
const WORKERS: &str = "workers";
const CALLERS: &str = "callers";

#[derive(RactorClusterMessage)]
enum Work {
    #[rpc]
    Add(i64, i64, RpcReplyPort<i64>),
    #[rpc]
    EchoRecord(Packed, RpcReplyPort<Packed>),
    #[rpc]
    EchoBlob(Vec<u8>, RpcReplyPort<Vec<u8>>),
    #[rpc]
    Nested(i64, RpcReplyPort<i64>),
    #[rpc]
    BurnOffloaded(RpcReplyPort<bool>),
    #[rpc]
    BurnInTask(RpcReplyPort<bool>),
}

/// A record that travels as MessagePack.
struct Packed(Record);

impl BytesConvertable for Packed {
    fn into_bytes(self) -> Vec<u8> {
        rmp_serde::to_vec_named(&self.0).expect("a record can be encoded")
    }

    fn from_bytes(bytes: Vec<u8>) -> Self {
        // The trait has no way to say that this fails.
        Self(rmp_serde::from_slice(&bytes).expect("the other end sent no record"))
    }
}

/// Works for others, or, at the caller, answers what is asked back.
struct Worker;

impl Actor for Worker {
    type Msg = Work;
    /// Whom nested calls ask.
    type State = Option<ActorRef<Work>>;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Work>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok(None)
    }

    async fn handle(&self, _: ActorRef<Work>, message: Work, back: &mut Self::State) -> Result<(), ActorProcessingErr> {
        match message {
            Work::Add(a, b, reply) => reply.send(a + b)?,
            Work::EchoRecord(record, reply) => reply.send(record)?,
            Work::EchoBlob(blob, reply) => reply.send(blob)?,
            Work::Nested(x, reply) => {
                if back.is_none() {
                    *back = Some(remote_member(CALLERS).await?);
                }
                let Some(back) = back.clone() else { return Ok(()) };
                tokio::spawn(async move {
                    if let Ok(sum) = ::ractor::call!(back, Work::Add, x, 1) {
                        // A caller that is gone misses nothing.
                        let _ = reply.send(sum);
                    }
                });
            }
            Work::BurnOffloaded(reply) => {
                tokio::task::spawn_blocking(move || {
                    workload::burn();
                    let _ = reply.send(true);
                });
            }
            Work::BurnInTask(reply) => {
                tokio::spawn(async move {
                    workload::burn();
                    let _ = reply.send(true);
                });
            }
        }
        Ok(())
    }
}

/// Waits until a member of the group is there that lives on another node.
async fn remote_member(group: &str) -> Result<ActorRef<Work>> {
    let longest = Instant::now() + Duration::from_secs(10);
    loop {
        let members = pg::get_members(&group.to_owned());
        if let Some(member) = members.into_iter().find(|member| !member.get_id().is_local()) {
            return Ok(member.into());
        }
        if Instant::now() > longest {
            return Err("no remote actor has appeared".into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Starts a node with one actor. Gives back the port on which it listens.
async fn start_node(name: &str, group: &str) -> Result<(ActorRef<ractor_cluster::NodeServerMessage>, u16)> {
    // The node does not tell which port it got, so it is given a free one.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let server = NodeServer::new(port, "cookie".into(), name.into(), "localhost".into(), None, None)
        .with_listen_addr(Ipv4Addr::LOCALHOST.into())
        .with_max_inbound_frame_size(LARGEST);
    let (node, _) = Actor::spawn(None, server, ()).await?;
    let (worker, _) = Actor::spawn(None, Worker, ()).await?;
    pg::join(group.to_owned(), vec![worker.get_cell()]);
    Ok((node, port))
}

pub struct Ractor;

impl System for Ractor {
    type Caller = RactorCaller;

    // A node has one connection to another.
    const SKIPS: &'static [&'static str] = &["E", "Eidle"];

    async fn serve(ready: impl FnOnce(String)) -> Result<()> {
        let (_node, port) = start_node("server", WORKERS).await?;
        let address = format!("127.0.0.1:{port}");
        while tokio::net::TcpStream::connect(&address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ready(address);
        std::future::pending().await
    }

    async fn connect(address: &str) -> Result<RactorCaller> {
        let (node, _) = start_node("client", CALLERS).await?;
        ractor_cluster::client_connect(&node, address).await?;
        Ok(RactorCaller { worker: remote_member(WORKERS).await?, record: Record::example() })
    }
}

#[derive(Clone)]
pub struct RactorCaller {
    worker: ActorRef<Work>,
    record: Record,
}

impl Caller for RactorCaller {
    type Blob = Vec<u8>;

    fn blob(bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    async fn add(&self, a: i64, b: i64) -> Result<i64> {
        ::ractor::call!(self.worker, Work::Add, a, b).map_err(|error| error.to_string().into())
    }

    async fn echo_record(&self) -> Result<u64> {
        let record = Packed(self.record.clone());
        let record = ::ractor::call!(self.worker, Work::EchoRecord, record).map_err(|error| error.to_string())?;
        Ok(record.0.id)
    }

    async fn echo_blob(&self, blob: Vec<u8>) -> Result<(Vec<u8>, usize)> {
        let blob = ::ractor::call!(self.worker, Work::EchoBlob, blob).map_err(|error| error.to_string())?;
        let len = blob.len();
        Ok((blob, len))
    }

    async fn nested(&self, x: i64) -> Result<i64> {
        ::ractor::call!(self.worker, Work::Nested, x).map_err(|error| error.to_string().into())
    }

    async fn burn_offloaded(&self) -> Result<()> {
        ::ractor::call!(self.worker, Work::BurnOffloaded).map_err(|error| error.to_string())?;
        Ok(())
    }

    async fn burn_in_task(&self) -> Result<()> {
        ::ractor::call!(self.worker, Work::BurnInTask).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn start(&self, op: Op, lanes: Vec<Lane>) -> Vec<JoinHandle<Result<Lane>>> {
        spawn_lanes!(self, op, lanes)
    }
}
