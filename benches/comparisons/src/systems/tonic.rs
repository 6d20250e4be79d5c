//! tonic 0.14 over TCP, with prost's messages.
//!
//! Windows of 1 MiB for a stream and 2 MiB for a connection (64 KiB, the default, throttles large messages), messages of
//! up to 128 MiB, 4,096 streams at once. The messages and the service are written out here as `tonic-prost-build` writes
//! them, so that nobody needs `protoc`.

mod pb;

use ::tonic::transport::server::TcpIncoming;
use ::tonic::transport::{Channel, Endpoint};
use ::tonic::{Request, Response, Status};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::spawn_lanes;
use crate::workload::{self, Caller, Lane, Op, Record, Result, System};

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 2 << 20;
const LARGEST: usize = 128 << 20;
const STREAMS: u32 = 4096;

struct Server;

#[::tonic::async_trait]
impl pb::Work for Server {
    async fn add(&self, request: Request<pb::AddRequest>) -> Result<Response<pb::AddReply>, Status> {
        let request = request.into_inner();
        Ok(Response::new(pb::AddReply { sum: request.a + request.b }))
    }

    async fn echo_record(&self, request: Request<pb::Record>) -> Result<Response<pb::Record>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn echo_blob(&self, request: Request<pb::Blob>) -> Result<Response<pb::Blob>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn burn_offloaded(&self, _: Request<pb::Empty>) -> Result<Response<pb::Empty>, Status> {
        // It ends before the process does.
        let _ = tokio::task::spawn_blocking(workload::burn).await;
        Ok(Response::new(pb::Empty {}))
    }

    async fn burn_in_task(&self, _: Request<pb::Empty>) -> Result<Response<pb::Empty>, Status> {
        workload::burn();
        Ok(Response::new(pb::Empty {}))
    }
}

pub struct Tonic;

impl System for Tonic {
    type Caller = TonicCaller;

    const SKIPS: &'static [&'static str] = &["H"];

    async fn serve(ready: impl FnOnce(String)) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        ready(format!("http://{}", listener.local_addr()?));
        ::tonic::transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(STREAMS)
            .add_service(pb::WorkServer::new(Server, LARGEST))
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
            .await?;
        Ok(())
    }

    async fn connect(address: &str) -> Result<TonicCaller> {
        let channel = Endpoint::from_shared(address.to_owned())?
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .buffer_size(STREAMS as usize)
            .connect()
            .await?;
        let record = Record::example();
        let record = pb::Record {
            id: record.id,
            name: record.name,
            samples: record.samples,
            note: record.note,
            counts: record.counts.into_iter().collect(),
        };
        Ok(TonicCaller { client: pb::WorkClient::new(channel, LARGEST), record })
    }
}

#[derive(Clone)]
pub struct TonicCaller {
    client: pb::WorkClient<Channel>,
    record: pb::Record,
}

impl Caller for TonicCaller {
    type Blob = Bytes;

    fn blob(bytes: Vec<u8>) -> Bytes {
        bytes.into()
    }

    async fn add(&self, a: i64, b: i64) -> Result<i64> {
        let request = pb::AddRequest { a, b };
        let reply: pb::AddReply = self.client.clone().call(pb::ADD, request).await?;
        Ok(reply.sum)
    }

    async fn echo_record(&self) -> Result<u64> {
        let record: pb::Record = self.client.clone().call(pb::ECHO_RECORD, self.record.clone()).await?;
        Ok(record.id)
    }

    async fn echo_blob(&self, blob: Bytes) -> Result<(Bytes, usize)> {
        let reply: pb::Blob = self.client.clone().call(pb::ECHO_BLOB, pb::Blob { blob }).await?;
        let len = reply.blob.len();
        Ok((reply.blob, len))
    }

    async fn burn_offloaded(&self) -> Result<()> {
        let _: pb::Empty = self.client.clone().call(pb::BURN_OFFLOADED, pb::Empty {}).await?;
        Ok(())
    }

    async fn burn_in_task(&self) -> Result<()> {
        let _: pb::Empty = self.client.clone().call(pb::BURN_IN_TASK, pb::Empty {}).await?;
        Ok(())
    }

    fn start(&self, op: Op, lanes: Vec<Lane>) -> Vec<JoinHandle<Result<Lane>>> {
        spawn_lanes!(self, op, lanes)
    }
}
