#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node(name = "a", name = "b")]
impl Service {
    #[rmi(idempotent)]
    #[rmi(idempotent)]
    async fn m(&self) {}
}

fn main() {}
