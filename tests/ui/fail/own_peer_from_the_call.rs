#![allow(unused)]

use rmi::rmi_node;

struct Peer;

struct Service;

#[rmi_node]
impl Service {
    async fn m(&self, a: &Peer) {}
}

fn main() {}
