//! The service that is called, and the nodes that offer and call it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rmi::{Blob, Limits, Node, NodeBuilder, Peer, args, rmi_node};
use serde::{Deserialize, Serialize};

/// A record of a usual kind: about 400 bytes, with field names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// A number.
    pub id: u64,
    /// 32 characters.
    pub name: String,
    /// 32 numbers.
    pub values: Vec<f64>,
    /// Or not.
    pub note: Option<String>,
    /// Three entries.
    pub tags: BTreeMap<String, i64>,
}

impl Record {
    /// One to send.
    pub fn sample() -> Self {
        Self {
            id: 123_456_789,
            name: "abcdefghijklmnopqrstuvwxyz012345".to_owned(),
            values: (0..32).map(|n| f64::from(n) * 1.25).collect(),
            note: Some("a short remark".to_owned()),
            tags: ["alpha", "beta", "gamma"].map(str::to_owned).into_iter().zip(1..).collect(),
        }
    }
}

/// What the benches call.
#[derive(Debug, Default)]
pub struct Bench;

#[rmi_node]
impl Bench {
    /// The smallest call that does something.
    pub async fn add(&self, a: i64, b: i64) -> i64 {
        a.wrapping_add(b)
    }

    /// There and back.
    pub async fn echo(&self, record: Record) -> Record {
        record
    }

    /// There and back, uncopied.
    pub async fn echo_blob(&self, blob: Blob) -> Blob {
        blob
    }

    /// Calls its caller.
    pub async fn add_back(&self, caller: &Peer, a: i64, b: i64) -> rmi::Result<i64> {
        Ok(caller.invoke("Bench.add", args![a, b]).await?)
    }

    /// An `async` method that computes for this long, as it should not.
    pub async fn burn(&self, micros: u64) -> u64 {
        burn(micros)
    }

    /// A method that computes, and says so.
    #[rmi(cpu)]
    pub fn compute(&self, micros: u64) -> u64 {
        burn(micros)
    }
}

/// Keeps a core busy.
fn burn(micros: u64) -> u64 {
    let until = Instant::now() + Duration::from_micros(micros);
    let mut rounds = 0;
    while Instant::now() < until {
        rounds += 1;
    }
    rounds
}

/// Limits that let every workload through.
fn limits() -> Limits {
    Limits::default().with_message(128 << 20).with_calls_per_peer(4096).with_connections(4096)
}

/// A node that offers [`Bench`] at this address.
pub async fn server(address: &str) -> Node {
    builder("server").listen(address).start().await.expect("the server starts")
}

/// A node with the limits and the service of the benches, not started yet.
pub fn builder(name: &str) -> NodeBuilder {
    Node::builder().name(name).limits(limits()).serve(Bench)
}

/// A node that knows the server, and offers [`Bench`] too, for those that call back.
pub async fn client(name: &str, address: &str) -> (Node, Peer) {
    let node = builder(name).seed(address).start().await.expect("the client starts");
    let peer = node.peer("server").await.expect("the server is found");
    (node, peer)
}
