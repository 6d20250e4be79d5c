#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    #[rmi(name = "a.b")]
    async fn m(&self) {}

    #[rmi(name = "1")]
    async fn n(&self, #[rmi(name = "a b")] a: u8) {}

    async fn _o(&self) {}
}

fn main() {}
