#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    #[rmi(skip, name = "n")]
    async fn m(&self, #[rmi(default)] a: u8) {}
}

fn main() {}
