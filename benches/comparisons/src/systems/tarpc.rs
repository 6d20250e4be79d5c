//! tarpc 0.38 over TCP, with bincode or MessagePack.
//!
//! Frames of up to 128 MiB; queues that hold what the workloads have in flight (their defaults, 100 and 1,000, would cap
//! 1,024 calls). A handler runs as a task, as in tarpc's examples.

use std::marker::PhantomData;

use futures::StreamExt;
use serde_bytes::ByteBuf;
use tarpc::context::{self, Context};
use tarpc::server::{BaseChannel, Channel};
use tarpc::{client, server};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_serde::formats::{Bincode, MessagePack};
use tokio_util::codec::LengthDelimitedCodec;

use crate::spawn_lanes;
use crate::workload::{self, Caller, Lane, Op, Record, Result, System};

const MAX_FRAME: usize = 128 << 20;

#[tarpc::service]
pub trait Work {
    async fn add(a: i64, b: i64) -> i64;
    async fn echo_record(record: Record) -> Record;
    async fn echo_blob(blob: ByteBuf) -> ByteBuf;
    async fn burn_offloaded();
    async fn burn_in_task();
}

#[derive(Clone)]
struct Server;

impl Work for Server {
    async fn add(self, _: Context, a: i64, b: i64) -> i64 {
        a + b
    }

    async fn echo_record(self, _: Context, record: Record) -> Record {
        record
    }

    async fn echo_blob(self, _: Context, blob: ByteBuf) -> ByteBuf {
        blob
    }

    async fn burn_offloaded(self, _: Context) {
        // It ends before the process does.
        let _ = tokio::task::spawn_blocking(workload::burn).await;
    }

    async fn burn_in_task(self, _: Context) {
        workload::burn();
    }
}

/// Which codec.
pub trait Format: 'static {
    fn spawn_server(stream: TcpStream);
    fn new_client(stream: TcpStream) -> WorkClient;
}

macro_rules! format {
    ($name:ident, $codec:ident) => {
        pub struct $name;

        impl Format for $name {
            fn spawn_server(stream: TcpStream) {
                let framed = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_framed(stream);
                let transport = tarpc::serde_transport::new(framed, $codec::default());
                let config = server::Config { pending_response_buffer: 1024 };
                let requests = BaseChannel::new(config, transport).execute(Server.serve());
                tokio::spawn(requests.for_each(|request| async {
                    tokio::spawn(request);
                }));
            }

            fn new_client(stream: TcpStream) -> WorkClient {
                let framed = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_framed(stream);
                let transport = tarpc::serde_transport::new(framed, $codec::default());
                let mut config = client::Config::default();
                config.max_in_flight_requests = 4096;
                config.pending_request_buffer = 1024;
                WorkClient::new(config, transport).spawn()
            }
        }
    };
}

format!(WithBincode, Bincode);
format!(WithMessagePack, MessagePack);

pub struct Tarpc<F>(PhantomData<F>);

impl<F: Format> System for Tarpc<F> {
    type Caller = TarpcCaller;

    const SKIPS: &'static [&'static str] = &["H"];

    async fn serve(ready: impl FnOnce(String)) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        ready(listener.local_addr()?.to_string());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            F::spawn_server(stream);
        }
    }

    async fn connect(address: &str) -> Result<TarpcCaller> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(TarpcCaller { client: F::new_client(stream), record: Record::example() })
    }
}

#[derive(Clone)]
pub struct TarpcCaller {
    client: WorkClient,
    record: Record,
}

impl Caller for TarpcCaller {
    type Blob = ByteBuf;

    fn blob(bytes: Vec<u8>) -> ByteBuf {
        ByteBuf::from(bytes)
    }

    async fn add(&self, a: i64, b: i64) -> Result<i64> {
        Ok(self.client.add(context::current(), a, b).await?)
    }

    async fn echo_record(&self) -> Result<u64> {
        Ok(self.client.echo_record(context::current(), self.record.clone()).await?.id)
    }

    async fn echo_blob(&self, blob: ByteBuf) -> Result<(ByteBuf, usize)> {
        let blob = self.client.echo_blob(context::current(), blob).await?;
        let len = blob.len();
        Ok((blob, len))
    }

    async fn burn_offloaded(&self) -> Result<()> {
        Ok(self.client.burn_offloaded(context::current()).await?)
    }

    async fn burn_in_task(&self) -> Result<()> {
        Ok(self.client.burn_in_task(context::current()).await?)
    }

    fn start(&self, op: Op, lanes: Vec<Lane>) -> Vec<JoinHandle<Result<Lane>>> {
        spawn_lanes!(self, op, lanes)
    }
}
