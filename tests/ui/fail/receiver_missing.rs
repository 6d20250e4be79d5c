#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    #[rmi(name = "n")]
    async fn m() {}

    fn other(#[rmi(default)] a: u8) {}
}

fn main() {}
