#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    async fn new(&self) {}

    async fn local(&self) {}
}

fn main() {}
