//! One workload, so many calls, both ends on one thread: for a tool that counts instructions.
//!
//! `benches/instructions.sh` runs it twice with different counts; the difference is what the calls cost, both ends
//! together, without the start of the program.

use std::time::Duration;

use rmi::{Blob, Peer};
use rmi_benches::service::{BenchStub, Record, client, server};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(workload), Some(Ok(n_calls))) = (arguments.next(), arguments.next().map(|text| text.parse())) else {
        eprintln!("instructions <one|pipelined|deadline|record|blob> <calls>");
        std::process::exit(2);
    };
    let server = server("tcp://127.0.0.1:0").await;
    let (client, peer) = client("client", &server.addresses()[0].to_string()).await;
    // The first calls find their way, and let the methods be known.
    calls(&peer, "pipelined", 2048).await;
    calls(&peer, &workload, 64).await;
    calls(&peer, &workload, n_calls).await;
    client.shutdown(Duration::ZERO).await;
    server.shutdown(Duration::ZERO).await;
}

async fn calls(peer: &Peer, workload: &str, n_calls: usize) {
    let in_flight = if matches!(workload, "one" | "blob") { 1 } else { 64 };
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (stub, workload) = (BenchStub::new(peer), workload.to_owned());
            tokio::spawn(async move {
                let (record, blob) = (Record::sample(), Blob::from(vec![1; 1 << 20]));
                for _ in 0..n_calls / in_flight {
                    match workload.as_str() {
                        "one" | "pipelined" => {
                            stub.add(1, 2).await.expect("a sum");
                        }
                        "deadline" => {
                            let call = stub.add(1, 2).with_timeout(Duration::from_secs(3600));
                            call.await.expect("a sum");
                        }
                        "record" => drop(stub.echo(record.clone()).await.expect("the record")),
                        _ => drop(stub.echo_blob(blob.clone()).await.expect("the blob")),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}
