//! kameo 0.22, `remote`: an actor on one swarm that is called from another, over libp2p's TCP with noise and yamux.
//!
//! Messages of up to 512 MiB and 4,096 streams (1 MiB and 100 by default). The actor answers small messages by itself;
//! what takes long it gives to a task, as a delegated reply.

use std::time::{Duration, Instant};

use ::kameo::prelude::*;
use ::kameo::remote::{Behaviour, messaging};
use futures::StreamExt;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, SwarmBuilder, multiaddr::Protocol, noise, tcp, yamux};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::spawn_lanes;
use crate::workload::{self, Caller, Lane, Op, Record, Result, System};

const LARGEST: u64 = 512 << 20;
const WORKER: &str = "worker";
const CALLER: &str = "caller";

/// Works for others, or, at the caller, answers what is asked back.
#[derive(Actor, RemoteActor, Default)]
struct Worker {
    /// Whom nested calls ask.
    back: Option<RemoteActorRef<Worker>>,
}

#[derive(Serialize, Deserialize)]
struct Add(i64, i64);

#[derive(Serialize, Deserialize)]
struct EchoRecord(Record);

#[derive(Serialize, Deserialize)]
struct EchoBlob(ByteBuf);

#[derive(Serialize, Deserialize)]
struct Nested(i64);

#[derive(Serialize, Deserialize)]
struct BurnOffloaded;

#[derive(Serialize, Deserialize)]
struct BurnInTask;

#[derive(Serialize, Deserialize, Reply)]
struct RecordReply(Record);

#[derive(Serialize, Deserialize, Reply)]
struct BlobReply(ByteBuf);

#[remote_message]
impl Message<Add> for Worker {
    type Reply = i64;

    async fn handle(&mut self, Add(a, b): Add, _: &mut Context<Self, Self::Reply>) -> i64 {
        a + b
    }
}

#[remote_message]
impl Message<EchoRecord> for Worker {
    type Reply = RecordReply;

    async fn handle(&mut self, EchoRecord(record): EchoRecord, _: &mut Context<Self, Self::Reply>) -> RecordReply {
        RecordReply(record)
    }
}

#[remote_message]
impl Message<EchoBlob> for Worker {
    type Reply = BlobReply;

    async fn handle(&mut self, EchoBlob(blob): EchoBlob, _: &mut Context<Self, Self::Reply>) -> BlobReply {
        BlobReply(blob)
    }
}

#[remote_message]
impl Message<Nested> for Worker {
    type Reply = DelegatedReply<Option<i64>>;

    async fn handle(&mut self, Nested(x): Nested, context: &mut Context<Self, Self::Reply>) -> Self::Reply {
        if self.back.is_none() {
            self.back = lookup(CALLER).await.ok();
        }
        let back = self.back.clone();
        context.spawn(async move { back?.ask(&Add(x, 1)).await.ok() })
    }
}

#[remote_message]
impl Message<BurnOffloaded> for Worker {
    type Reply = DelegatedReply<()>;

    async fn handle(&mut self, _: BurnOffloaded, context: &mut Context<Self, Self::Reply>) -> Self::Reply {
        context.spawn(async {
            // It ends before the process does.
            let _ = tokio::task::spawn_blocking(workload::burn).await;
        })
    }
}

#[remote_message]
impl Message<BurnInTask> for Worker {
    type Reply = DelegatedReply<()>;

    async fn handle(&mut self, _: BurnInTask, context: &mut Context<Self, Self::Reply>) -> Self::Reply {
        context.spawn(async { workload::burn() })
    }
}

/// Looks for an actor until the swarm knows of it.
async fn lookup(name: &'static str) -> Result<RemoteActorRef<Worker>> {
    let longest = Instant::now() + Duration::from_secs(10);
    while Instant::now() < longest {
        if let Some(found) = RemoteActorRef::<Worker>::lookup(name).await? {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Err("the swarm knows of no such actor".into())
}

/// Each call is a stream of its own.
fn multiplexer() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(8192);
    config
}

/// Starts the process's swarm, which dials `peer`. Gives back the address on which it listens, with its id.
async fn start_swarm(peer: Option<Multiaddr>) -> Result<Multiaddr> {
    let config = messaging::Config::default()
        .with_request_timeout(Duration::from_secs(60))
        .with_max_concurrent_streams(4096)
        .with_request_size_maximum(LARGEST)
        .with_response_size_maximum(LARGEST);
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, multiplexer)?
        .with_behaviour(|key| Behaviour::new(key.public().to_peer_id(), config))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build();
    swarm.behaviour().try_init_global()?;
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    if let Some(peer) = peer {
        let Some(Protocol::P2p(id)) = peer.iter().last() else { return Err("an address without an id".into()) };
        swarm.add_peer_address(id, peer.clone());
        swarm.dial(peer)?;
    }
    let id: PeerId = *swarm.local_peer_id();
    let (tx, rx) = oneshot::channel();
    tokio::spawn(async move {
        let mut tx = Some(tx);
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address, .. } => {
                    swarm.add_external_address(address.clone());
                    if let Some(tx) = tx.take() {
                        // The receiver waits for this.
                        let _ = tx.send(address.with(Protocol::P2p(id)));
                    }
                }
                SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => {
                    swarm.add_peer_address(peer_id, endpoint.get_remote_address().clone());
                }
                _ => {}
            }
        }
    });
    Ok(rx.await?)
}

pub struct Kameo;

impl System for Kameo {
    type Caller = KameoCaller;

    // A process has one swarm, and that one connection to another.
    const SKIPS: &'static [&'static str] = &["E", "Eidle"];

    async fn serve(ready: impl FnOnce(String)) -> Result<()> {
        let address = start_swarm(None).await?;
        Worker::spawn(Worker::default()).register(WORKER).await?;
        ready(address.to_string());
        std::future::pending().await
    }

    async fn connect(address: &str) -> Result<KameoCaller> {
        start_swarm(Some(address.parse()?)).await?;
        let worker = lookup(WORKER).await?;
        Worker::spawn(Worker::default()).register(CALLER).await?;
        Ok(KameoCaller { worker, record: Record::example() })
    }
}

#[derive(Clone)]
pub struct KameoCaller {
    worker: RemoteActorRef<Worker>,
    record: Record,
}

impl Caller for KameoCaller {
    type Blob = ByteBuf;

    fn blob(bytes: Vec<u8>) -> ByteBuf {
        ByteBuf::from(bytes)
    }

    async fn add(&self, a: i64, b: i64) -> Result<i64> {
        Ok(self.worker.ask(&Add(a, b)).await?)
    }

    async fn echo_record(&self) -> Result<u64> {
        let RecordReply(record) = self.worker.ask(&EchoRecord(self.record.clone())).await.map_err(|e| e.to_string())?;
        Ok(record.id)
    }

    async fn echo_blob(&self, blob: ByteBuf) -> Result<(ByteBuf, usize)> {
        let BlobReply(blob) = self.worker.ask(&EchoBlob(blob)).await.map_err(|e| e.to_string())?;
        let len = blob.len();
        Ok((blob, len))
    }

    async fn nested(&self, x: i64) -> Result<i64> {
        let sum = self.worker.ask(&Nested(x)).await.map_err(|e| e.to_string())?;
        sum.ok_or_else(|| "the caller cannot be called".into())
    }

    async fn burn_offloaded(&self) -> Result<()> {
        Ok(self.worker.ask(&BurnOffloaded).await.map_err(|e| e.to_string())?)
    }

    async fn burn_in_task(&self) -> Result<()> {
        Ok(self.worker.ask(&BurnInTask).await.map_err(|e| e.to_string())?)
    }

    fn start(&self, op: Op, lanes: Vec<Lane>) -> Vec<JoinHandle<Result<Lane>>> {
        spawn_lanes!(self, op, lanes)
    }
}
