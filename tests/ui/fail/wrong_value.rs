#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node(name, stub = "X", crate = "rmi", serial = true)]
impl Service {
    #[rmi(name = 1)]
    async fn m(&self) {}

    #[rmi(name("x"))]
    async fn n(&self, #[rmi(default = )] a: u8) {}

    #[rmi]
    async fn o(&self) {}
}

fn main() {}
