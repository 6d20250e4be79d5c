#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    async fn a(&self) {}
}

#[rmi_node]
impl Service {
    async fn b(&self) {}
}

fn main() {}
