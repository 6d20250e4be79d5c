#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    async fn m(self) {}

    async fn n(self: std::sync::Arc<Self>) {}
}

fn main() {}
