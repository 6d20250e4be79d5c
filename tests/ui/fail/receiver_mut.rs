#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    async fn m(&mut self) {}

    fn n(&mut self, a: u8) -> u8 {
        a
    }
}

fn main() {}
