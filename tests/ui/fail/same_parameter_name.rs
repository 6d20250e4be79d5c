#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    async fn m(&self, a: u8, #[rmi(name = "a")] b: u8) {}
}

fn main() {}
