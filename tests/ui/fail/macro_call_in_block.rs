#![allow(unused)]

use rmi::rmi_node;

struct Service;

macro_rules! methods {
    () => {};
}

#[rmi_node]
impl Service {
    methods!();

    async fn m(&self) {}
}

fn main() {}
