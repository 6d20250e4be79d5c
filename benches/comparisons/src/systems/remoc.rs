//! remoc 0.20 over TCP: remote trait calls with its default codec and configuration.
//!
//! `set_parallelism` lets as many calls run as the workloads have in flight (the default is 32). Names of methods and
//! arguments are short, as its documentation advises. The caller's own client is handed over once, for nested calls.

use std::sync::{Arc, OnceLock};

use remoc::prelude::*;
use remoc::rtc::{CallError, Client, ServerShared};
use serde_bytes::ByteBuf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::spawn_lanes;
use crate::workload::{self, Caller, Lane, Op, Record, Result, System};

const LARGEST: usize = 128 << 20;
const PARALLELISM: usize = 2048;

#[rtc::remote]
trait Work {
    #[serde(rename = "_0")]
    async fn add(&self, #[serde(rename = "_0")] a: i64, #[serde(rename = "_1")] b: i64) -> Result<i64, CallError>;
    #[serde(rename = "_1")]
    async fn echo_record(&self, #[serde(rename = "_0")] record: Record) -> Result<Record, CallError>;
    #[serde(rename = "_2")]
    async fn echo_blob(&self, #[serde(rename = "_0")] blob: ByteBuf) -> Result<ByteBuf, CallError>;
    #[serde(rename = "_3")]
    async fn attach(&self, #[serde(rename = "_0")] back: BackClient) -> Result<(), CallError>;
    #[serde(rename = "_4")]
    async fn nested(&self, #[serde(rename = "_0")] x: i64) -> Result<i64, CallError>;
    #[serde(rename = "_5")]
    async fn burn_offloaded(&self) -> Result<(), CallError>;
    #[serde(rename = "_6")]
    async fn burn_in_task(&self) -> Result<(), CallError>;
}

#[rtc::remote]
trait Back {
    #[serde(rename = "_0")]
    async fn add(&self, #[serde(rename = "_0")] a: i64, #[serde(rename = "_1")] b: i64) -> Result<i64, CallError>;
}

/// One for each connection.
#[derive(Default)]
struct Server {
    back: OnceLock<BackClient>,
}

impl Work for Server {
    async fn add(&self, a: i64, b: i64) -> Result<i64, CallError> {
        Ok(a + b)
    }

    async fn echo_record(&self, record: Record) -> Result<Record, CallError> {
        Ok(record)
    }

    async fn echo_blob(&self, blob: ByteBuf) -> Result<ByteBuf, CallError> {
        Ok(blob)
    }

    async fn attach(&self, back: BackClient) -> Result<(), CallError> {
        // The caller does this once.
        let _ = self.back.set(back);
        Ok(())
    }

    async fn nested(&self, x: i64) -> Result<i64, CallError> {
        self.back.get().ok_or(CallError::Dropped)?.add(x, 1).await
    }

    async fn burn_offloaded(&self) -> Result<(), CallError> {
        // It ends before the process does.
        let _ = tokio::task::spawn_blocking(workload::burn).await;
        Ok(())
    }

    async fn burn_in_task(&self) -> Result<(), CallError> {
        workload::burn();
        Ok(())
    }
}

/// What the caller serves.
struct CallerSide;

impl Back for CallerSide {
    async fn add(&self, a: i64, b: i64) -> Result<i64, CallError> {
        Ok(a + b)
    }
}

pub struct Remoc;

impl System for Remoc {
    type Caller = RemocCaller;

    async fn serve(ready: impl FnOnce(String)) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        ready(listener.local_addr()?.to_string());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(serve_connection(stream));
        }
    }

    async fn connect(address: &str) -> Result<RemocCaller> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (rx, tx) = stream.into_split();
        let mut client: WorkClient = remoc::Connect::io(remoc::Cfg::default(), rx, tx).consume().await?;
        client.set_max_request_size(LARGEST);
        client.set_max_response_size(LARGEST);
        let (mut server, back) = BackServerShared::<_, remoc::codec::Default>::new(Arc::new(CallerSide));
        server.set_parallelism(PARALLELISM);
        tokio::spawn(server.serve());
        client.attach(back).await?;
        Ok(RemocCaller { client, record: Record::example() })
    }
}

async fn serve_connection(stream: TcpStream) -> Result<()> {
    let (rx, tx) = stream.into_split();
    let (mut server, mut client) = WorkServerShared::<_, remoc::codec::Default>::new(Arc::new(Server::default()));
    server.set_parallelism(PARALLELISM);
    client.set_max_request_size(LARGEST);
    client.set_max_response_size(LARGEST);
    remoc::Connect::io(remoc::Cfg::default(), rx, tx).provide(client).await?;
    server.serve().await.map_err(|error| error.to_string().into())
}

#[derive(Clone)]
pub struct RemocCaller {
    client: WorkClient,
    record: Record,
}

impl Caller for RemocCaller {
    type Blob = ByteBuf;

    fn blob(bytes: Vec<u8>) -> ByteBuf {
        ByteBuf::from(bytes)
    }

    async fn add(&self, a: i64, b: i64) -> Result<i64> {
        Ok(self.client.add(a, b).await?)
    }

    async fn echo_record(&self) -> Result<u64> {
        Ok(self.client.echo_record(self.record.clone()).await?.id)
    }

    async fn echo_blob(&self, blob: ByteBuf) -> Result<(ByteBuf, usize)> {
        let blob = self.client.echo_blob(blob).await?;
        let len = blob.len();
        Ok((blob, len))
    }

    async fn nested(&self, x: i64) -> Result<i64> {
        Ok(self.client.nested(x).await?)
    }

    async fn burn_offloaded(&self) -> Result<()> {
        Ok(self.client.burn_offloaded().await?)
    }

    async fn burn_in_task(&self) -> Result<()> {
        Ok(self.client.burn_in_task().await?)
    }

    fn start(&self, op: Op, lanes: Vec<Lane>) -> Vec<JoinHandle<Result<Lane>>> {
        spawn_lanes!(self, op, lanes)
    }
}
