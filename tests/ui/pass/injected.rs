#![deny(warnings)]

use rmi::{CallContext, FromCall, rmi_node};

/// Stands for the one of the network layer.
mod net {
    pub struct Peer(pub String);
    pub struct Node;
}

impl FromCall for net::Peer {
    fn from_call(context: &CallContext) -> Result<Self, rmi_core::rejection::Rejection> {
        Ok(Self(context.caller_name().to_owned()))
    }
}

impl FromCall for net::Node {
    fn from_call(_: &CallContext) -> Result<Self, rmi_core::rejection::Rejection> {
        Ok(Self)
    }
}

struct Own(String);

impl FromCall for Own {
    fn from_call(context: &CallContext) -> Result<Self, rmi_core::rejection::Rejection> {
        Ok(Self(context.caller_name().to_owned()))
    }
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Node(u8);

struct Service;

#[rmi_node]
impl Service {
    async fn greet(&self, peer: &net::Peer, text: &str, node: net::Node, _context: CallContext) -> String {
        let _ = node;
        format!("{text} {}", peer.0)
    }

    fn own(&self, #[rmi(context)] own: &Own, #[rmi(arg)] node: &Node) -> String {
        format!("{} {}", own.0, node.0)
    }
}

fn main() {
    let stub = ServiceStub::local(Service);
    assert_eq!(stub.greet("hello").wait().unwrap(), "hello local");
    assert_eq!(stub.own(&Node(1)).wait().unwrap(), "local 1");
}
