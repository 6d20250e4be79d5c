//! volo-thrift 0.12 over TCP: Thrift's binary protocol in TTHeader and frames, its default.
//!
//! Frames of up to 128 MiB (16 MiB by default), and timeouts that nothing reaches. Its client has a pool with a connection
//! for each call in flight, so that "one connection" is 64 of them in B, and two in F.

use std::net::SocketAddr;
use std::time::Duration;

use ::volo::FastStr;
use ::volo::net::Address;
use bytes::Bytes;
use pilota::AHashMap;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use volo_thrift::ServerError;
use volo_thrift::codec::default::DefaultMakeCodec;
use volo_thrift::codec::default::framed::MakeFramedCodec;
use volo_thrift::codec::default::thrift::MakeThriftCodec;
use volo_thrift::codec::default::ttheader::MakeTTHeaderCodec;

use crate::spawn_lanes;
use crate::workload::{self, Caller, Lane, Op, Record, Result, System};

#[allow(clippy::all, clippy::pedantic, elided_lifetimes_in_paths, unused)]
#[rustfmt::skip]
#[path = "generated/comparison_thrift.rs"]
mod comparison_thrift;

use comparison_thrift::volo_gen::comparison;

const LARGEST: i32 = 128 << 20;
const LONGEST: Duration = Duration::from_secs(60);

fn codec() -> DefaultMakeCodec<MakeTTHeaderCodec<MakeFramedCodec<MakeThriftCodec>>> {
    let framed = MakeFramedCodec::new(MakeThriftCodec::default()).with_max_frame_size(LARGEST);
    DefaultMakeCodec::new(MakeTTHeaderCodec::new(framed))
}

struct Server;

impl comparison::Work for Server {
    async fn add(&self, a: i64, b: i64) -> Result<i64, ServerError> {
        Ok(a + b)
    }

    async fn echo_record(&self, record: comparison::Record) -> Result<comparison::Record, ServerError> {
        Ok(record)
    }

    async fn echo_blob(&self, blob: Bytes) -> Result<Bytes, ServerError> {
        Ok(blob)
    }

    async fn burn_offloaded(&self) -> Result<(), ServerError> {
        // It ends before the process does.
        let _ = tokio::task::spawn_blocking(workload::burn).await;
        Ok(())
    }

    async fn burn_in_task(&self) -> Result<(), ServerError> {
        workload::burn();
        Ok(())
    }
}

pub struct Volo;

impl System for Volo {
    type Caller = VoloCaller;

    const SKIPS: &'static [&'static str] = &["H"];

    async fn serve(ready: impl FnOnce(String)) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        ready(listener.local_addr()?.to_string());
        let incoming = ::volo::net::incoming::DefaultIncoming::from(listener);
        comparison::WorkServer::new(Server).make_codec(codec()).run(incoming).await?;
        Ok(())
    }

    async fn connect(address: &str) -> Result<VoloCaller> {
        let address: SocketAddr = address.parse()?;
        let client = comparison::WorkClientBuilder::new("work")
            .make_codec(codec())
            .address(Address::from(address))
            .rpc_timeout(Some(LONGEST))
            .read_write_timeout(Some(LONGEST))
            .build();
        let record = Record::example();
        let record = comparison::Record {
            id: record.id as i64,
            name: record.name.into(),
            samples: record.samples,
            note: record.note.map(FastStr::from),
            counts: record.counts.into_iter().map(|(name, n)| (name.into(), n as i32)).collect::<AHashMap<_, _>>(),
        };
        Ok(VoloCaller { client, record })
    }
}

#[derive(Clone)]
pub struct VoloCaller {
    client: comparison::WorkClient,
    record: comparison::Record,
}

impl Caller for VoloCaller {
    type Blob = Bytes;

    fn blob(bytes: Vec<u8>) -> Bytes {
        bytes.into()
    }

    async fn add(&self, a: i64, b: i64) -> Result<i64> {
        Ok(self.client.add(a, b).await?)
    }

    async fn echo_record(&self) -> Result<u64> {
        Ok(self.client.echo_record(self.record.clone()).await?.id as u64)
    }

    async fn echo_blob(&self, blob: Bytes) -> Result<(Bytes, usize)> {
        let blob = self.client.echo_blob(blob).await?;
        let len = blob.len();
        Ok((blob, len))
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
