#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    async fn m(&self) -> u8 {
        undefined
    }
}

fn main() {}
