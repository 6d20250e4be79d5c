#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    async fn m(&self, (a, b): (u8, u8), _: u8) {}
}

fn main() {}
