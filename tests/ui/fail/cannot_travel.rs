#![allow(unused)]

use rmi::rmi_node;

struct Opaque;

struct Service;

#[rmi_node]
impl Service {
    async fn m(&self, a: Opaque) {}

    async fn n(&self) -> Opaque {
        Opaque
    }
}

fn main() {}
