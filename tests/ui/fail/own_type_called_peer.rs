#![allow(unused)]

use rmi::rmi_node;

struct Peer;

#[derive(Default)]
struct Node;

struct Service;

#[rmi_node]
impl Service {
    async fn m(&self, a: &Peer) {}

    async fn n(&self, #[rmi(default)] a: Node) {}

    async fn o(&self, #[rmi(arg, context)] a: u8) {}
}

fn main() {}
