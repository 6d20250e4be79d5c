#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    async fn m(&self, #[rmi(default)] a: u8, b: u8) {}
}

fn main() {}
