#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    async fn add(&self) {}

    #[rmi(name = "add")]
    async fn plus(&self) {}
}

fn main() {}
