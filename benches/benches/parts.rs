//! The parts of a call, one by one: `cargo bench -p rmi-benches`.

use std::sync::LazyLock;

use bytes::BytesMut;
use divan::{Bencher, black_box};
use rmi::{Blob, Peer, args};
use rmi_benches::service::{Bench, BenchStub, Record, client, server};
use rmi_core::bind::bind;
use rmi_core::message::{IncomingRequest, Request, Target};
use rmi_core::payload::Payload;
use rmi_core::positional::Positional;
use rmi_core::scan::Scanner;
use rmi_core::service::Service;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

mod codec {
    use super::*;

    #[divan::bench]
    fn encode_record(bencher: Bencher<'_, '_>) {
        let record = Record::sample();
        bencher.bench(|| Payload::encode(black_box(&record)));
    }

    #[divan::bench]
    fn scan_record(bencher: Bencher<'_, '_>) {
        let payload = Payload::encode(&Record::sample()).expect("it encodes");
        bencher.bench(|| Scanner::new(black_box(payload.body())).value().is_ok());
    }

    #[divan::bench]
    fn decode_record(bencher: Bencher<'_, '_>) {
        let payload = Payload::encode(&Record::sample()).expect("it encodes");
        bencher.bench(|| payload.decode::<Record>());
    }

    #[divan::bench(args = [1 << 10, 1 << 20])]
    fn encode_bytes(bencher: Bencher<'_, '_>, len: usize) {
        let bytes = vec![1u8; len];
        bencher.bench(|| Payload::encode(black_box(&bytes)));
    }

    #[divan::bench(args = [1 << 10, 1 << 20])]
    fn decode_bytes(bencher: Bencher<'_, '_>, len: usize) {
        let payload = Payload::encode(&vec![1u8; len]).expect("it encodes");
        bencher.bench(|| payload.decode::<Vec<u8>>());
    }
}

mod request {
    use super::*;

    fn add() -> Request {
        Request::new(Target::new("Bench".into(), "add"), args![1, 2])
    }

    #[divan::bench]
    fn build() -> Request {
        add()
    }

    #[divan::bench]
    fn encode(bencher: Bencher<'_, '_>) {
        let (request, mut out) = (add(), BytesMut::with_capacity(4096));
        bencher.bench_local(|| {
            out.clear();
            request.encode(None, &mut out);
        });
    }

    #[divan::bench]
    fn read(bencher: Bencher<'_, '_>) {
        let mut body = BytesMut::new();
        add().encode(None, &mut body);
        bencher.bench(|| IncomingRequest::decode(black_box(&body)).is_ok());
    }

    #[divan::bench]
    fn bind_positional(bencher: Bencher<'_, '_>) {
        let method = &<Bench as Service<BenchStub>>::DESCRIPTOR.methods()[0];
        let args = Positional::read(&[0x92, 1, 2]).expect("an array");
        bencher.bench(|| bind(method, black_box(args), None).is_ok());
    }
}

/// Two nodes of this process over loopback TCP.
mod call {
    use super::*;

    static NODES: LazyLock<(Runtime, Peer)> = LazyLock::new(|| {
        let runtime = Runtime::new().expect("a runtime");
        let peer = runtime.block_on(async {
            let server = server("tcp://127.0.0.1:0").await;
            let (client, peer) = client("client", &server.addresses()[0].to_string()).await;
            // They live as long as the process.
            std::mem::forget((server, client));
            peer
        });
        (runtime, peer)
    });

    #[divan::bench]
    fn one(bencher: Bencher<'_, '_>) {
        let (runtime, peer) = &*NODES;
        let stub = BenchStub::new(peer);
        bencher.bench(|| runtime.block_on(stub.add(1, 2).into_future()));
    }

    #[divan::bench(args = [64, 1024])]
    fn pipelined(bencher: Bencher<'_, '_>, in_flight: usize) {
        let (runtime, peer) = &*NODES;
        let stub = BenchStub::new(peer);
        bencher.counter(divan::counter::ItemsCount::new(in_flight)).bench(|| {
            runtime.block_on(async {
                let calls: Vec<_> = (0..in_flight).map(|_| stub.add(1, 2).send()).collect();
                for call in calls {
                    call.await.expect("a sum");
                }
            });
        });
    }

    #[divan::bench(args = [64 << 10, 1 << 20, 16 << 20])]
    fn blob(bencher: Bencher<'_, '_>, len: usize) {
        let (runtime, peer) = &*NODES;
        let (stub, blob) = (BenchStub::new(peer), Blob::from(vec![1; len]));
        bencher
            .counter(divan::counter::BytesCount::new(2 * len))
            .bench(|| runtime.block_on(stub.echo_blob(blob.clone()).into_future()));
    }
}
