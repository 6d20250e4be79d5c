#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
#[rmi(name = "s")]
impl Service {
    async fn m(&self) {}
}

fn main() {}
