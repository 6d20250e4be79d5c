//! capnp-rpc 0.27 over TCP: one thread at each end, as the library demands.
//!
//! Buffered I/O, and no limit on how much of a message may be read: the default, 64 MiB, is for the suspicious.

use std::rc::Rc;

use ::capnp::message::ReaderOptions;
use capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty};
use futures::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::spawn_lanes;
use crate::workload::{self, Caller, Lane, Op, Record, Result, System};

#[allow(clippy::all, clippy::pedantic, elided_lifetimes_in_paths, unused)]
#[rustfmt::skip]
#[path = "generated/comparison_capnp.rs"]
pub mod comparison_capnp;

use comparison_capnp::{back, record, work};

struct Server;

impl work::Server for Server {
    async fn add(self: Rc<Self>, params: work::AddParams, mut results: work::AddResults) -> Result<(), ::capnp::Error> {
        let params = params.get()?;
        results.get().set_sum(params.get_a() + params.get_b());
        Ok(())
    }

    async fn echo_record(
        self: Rc<Self>,
        params: work::EchoRecordParams,
        mut results: work::EchoRecordResults,
    ) -> Result<(), ::capnp::Error> {
        // As everywhere else, the method gets the record as a Rust value and gives one back.
        let record = read_record(params.get()?.get_record()?)?;
        write_record(&record, results.get().init_record());
        Ok(())
    }

    async fn echo_blob(
        self: Rc<Self>,
        params: work::EchoBlobParams,
        mut results: work::EchoBlobResults,
    ) -> Result<(), ::capnp::Error> {
        results.get().set_blob(params.get()?.get_blob()?);
        Ok(())
    }

    async fn nested(
        self: Rc<Self>,
        params: work::NestedParams,
        mut results: work::NestedResults,
    ) -> Result<(), ::capnp::Error> {
        let params = params.get()?;
        let mut request = params.get_back()?.add_request();
        request.get().set_a(params.get_x());
        request.get().set_b(1);
        results.get().set_sum(request.send().promise.await?.get()?.get_sum());
        Ok(())
    }

    async fn burn_offloaded(
        self: Rc<Self>,
        _: work::BurnOffloadedParams,
        _: work::BurnOffloadedResults,
    ) -> Result<(), ::capnp::Error> {
        // It ends before the process does.
        let _ = tokio::task::spawn_blocking(workload::burn).await;
        Ok(())
    }

    async fn burn_in_task(
        self: Rc<Self>,
        _: work::BurnInTaskParams,
        _: work::BurnInTaskResults,
    ) -> Result<(), ::capnp::Error> {
        workload::burn();
        Ok(())
    }
}

/// What the caller serves.
struct CallerSide;

impl back::Server for CallerSide {
    async fn add(self: Rc<Self>, params: back::AddParams, mut results: back::AddResults) -> Result<(), ::capnp::Error> {
        let params = params.get()?;
        results.get().set_sum(params.get_a() + params.get_b());
        Ok(())
    }
}

fn read_record(reader: record::Reader<'_>) -> Result<Record, ::capnp::Error> {
    let text = |text: ::capnp::text::Reader<'_>| Ok::<_, ::capnp::Error>(text.to_str()?.to_owned());
    Ok(Record {
        id: reader.get_id(),
        name: text(reader.get_name()?)?,
        samples: reader.get_samples()?.iter().collect(),
        note: if reader.get_has_note() { Some(text(reader.get_note()?)?) } else { None },
        counts: reader
            .get_counts()?
            .iter()
            .map(|count| Ok((text(count.get_name()?)?, count.get_n())))
            .collect::<Result<_, ::capnp::Error>>()?,
    })
}

fn write_record(record: &Record, mut builder: record::Builder<'_>) {
    builder.set_id(record.id);
    builder.set_name(&record.name);
    let mut samples = builder.reborrow().init_samples(record.samples.len() as u32);
    for (idx, sample) in record.samples.iter().enumerate() {
        samples.set(idx as u32, *sample);
    }
    if let Some(note) = &record.note {
        builder.set_has_note(true);
        builder.set_note(note);
    }
    let mut counts = builder.init_counts(record.counts.len() as u32);
    for (idx, (name, n)) in record.counts.iter().enumerate() {
        let mut count = counts.reborrow().get(idx as u32);
        count.set_name(name);
        count.set_n(*n);
    }
}

fn options() -> ReaderOptions {
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(None);
    options
}

fn network(stream: TcpStream, side: Side) -> Result<Box<twoparty::VatNetwork<impl futures::AsyncRead + Unpin>>> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.compat().split();
    let (reader, writer) = (futures::io::BufReader::new(reader), futures::io::BufWriter::new(writer));
    Ok(Box::new(twoparty::VatNetwork::new(reader, writer, side, options())))
}

pub struct Capnp;

impl System for Capnp {
    type Caller = CapnpCaller;

    async fn serve(ready: impl FnOnce(String)) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        ready(listener.local_addr()?.to_string());
        let client: work::Client = capnp_rpc::new_client(Server);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(RpcSystem::new(network(stream, Side::Server)?, Some(client.clone().client)));
        }
    }

    async fn connect(address: &str) -> Result<CapnpCaller> {
        let stream = TcpStream::connect(address).await?;
        let mut system = RpcSystem::new(network(stream, Side::Client)?, None);
        let client: work::Client = system.bootstrap(Side::Server);
        tokio::task::spawn_local(system);
        Ok(CapnpCaller { client, back: capnp_rpc::new_client(CallerSide), record: Rc::new(Record::example()) })
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        tokio::task::LocalSet::new().block_on(&runtime.expect("no runtime can be started"), future)
    }
}

#[derive(Clone)]
pub struct CapnpCaller {
    client: work::Client,
    back: back::Client,
    record: Rc<Record>,
}

impl Caller for CapnpCaller {
    type Blob = Vec<u8>;

    fn blob(bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    async fn add(&self, a: i64, b: i64) -> Result<i64> {
        let mut request = self.client.add_request();
        request.get().set_a(a);
        request.get().set_b(b);
        Ok(request.send().promise.await?.get()?.get_sum())
    }

    async fn echo_record(&self) -> Result<u64> {
        let mut request = self.client.echo_record_request();
        write_record(&self.record, request.get().init_record());
        let response = request.send().promise.await?;
        Ok(read_record(response.get()?.get_record()?)?.id)
    }

    async fn echo_blob(&self, blob: Vec<u8>) -> Result<(Vec<u8>, usize)> {
        let mut request = self.client.echo_blob_request();
        request.get().set_blob(&blob);
        let response = request.send().promise.await?;
        // What came back lies in the message, where it can be used; it is not copied out only to be sent again.
        let len = response.get()?.get_blob()?.len();
        Ok((blob, len))
    }

    async fn nested(&self, x: i64) -> Result<i64> {
        let mut request = self.client.nested_request();
        request.get().set_back(self.back.clone());
        request.get().set_x(x);
        Ok(request.send().promise.await?.get()?.get_sum())
    }

    async fn burn_offloaded(&self) -> Result<()> {
        self.client.burn_offloaded_request().send().promise.await?;
        Ok(())
    }

    async fn burn_in_task(&self) -> Result<()> {
        self.client.burn_in_task_request().send().promise.await?;
        Ok(())
    }

    fn start(&self, op: Op, lanes: Vec<Lane>) -> Vec<JoinHandle<Result<Lane>>> {
        spawn_lanes!(self, op, lanes, tokio::task::spawn_local)
    }
}
