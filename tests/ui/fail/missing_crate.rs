#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node(crate = nowhere)]
impl Service {
    async fn m(&self) {}
}

fn main() {}
