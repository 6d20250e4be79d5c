//! One workload, so many calls, both ends on one thread: for a tool that counts instructions.
//!
//! `benches/instructions.sh` runs it twice with different counts; the difference is what the calls cost, both ends
//! together, without the start of the program. `connections` makes them one at a time on each of 500 connections.

use std::time::Duration;

use rmi::{Blob, Node, Peer};
use rmi_benches::clock::StoppedClock;
use rmi_benches::service::{BenchStub, Record, builder};
use rmi_net::seam::Seams;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(workload), Some(Ok(n_calls))) = (arguments.next(), arguments.next().map(|text| text.parse())) else {
        eprintln!("instructions <one|pipelined|deadline|traced|record|blob|connections> <calls>");
        std::process::exit(2);
    };
    if workload == "traced" {
        // A subscriber that wants nothing of what it is offered.
        let nothing = tracing_subscriber::filter::Targets::new();
        let layer = tracing_subscriber::fmt::layer().with_filter(nothing);
        tracing_subscriber::registry().with(layer).init();
    }
    let clock = StoppedClock::default();
    let server = builder("server").seams(clock.seams()).listen("tcp://127.0.0.1:0").start().await.expect("a server");
    let (_client, peer) = client(0, &server, clock.seams()).await;
    let mut clients = Vec::new();
    while workload == "connections" && clients.len() < CONNECTIONS {
        clients.push(client(clients.len() + 1, &server, clock.seams()).await);
    }
    clock.stop();
    // The first calls find their way, and let the methods be known.
    calls(&peer, "pipelined", 2048).await;
    if workload == "connections" {
        on_all(&clients, 20).await;
        on_all(&clients, n_calls / CONNECTIONS).await;
    } else {
        calls(&peer, &workload, 64).await;
        calls(&peer, &workload, n_calls).await;
    }
    // Whatever waits for the clock waits for ever.
    std::process::exit(0);
}

/// How many there are in `connections`.
const CONNECTIONS: usize = 500;

async fn client(n: usize, server: &Node, seams: Seams) -> (Node, Peer) {
    let client =
        builder(&format!("client-{n}")).seams(seams).seeds(server.addresses()).start().await.expect("a client");
    let peer = client.peer("server").await.expect("the server");
    (client, peer)
}

/// So many calls on each connection, one at a time, on all of them at once.
async fn on_all(clients: &[(Node, Peer)], n_calls: usize) {
    let call = |(_, peer): &(Node, Peer)| {
        let stub = BenchStub::new(peer);
        tokio::spawn(async move {
            for _ in 0..n_calls {
                stub.add(1, 2).await.expect("a sum");
            }
        })
    };
    let tasks: Vec<_> = clients.iter().map(call).collect();
    for task in tasks {
        task.await.expect("no panic");
    }
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
                        "one" | "pipelined" | "traced" => {
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
