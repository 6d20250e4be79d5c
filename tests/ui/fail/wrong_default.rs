#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    async fn m(&self, #[rmi(default = "x")] a: u8) {}
}

fn main() {}
