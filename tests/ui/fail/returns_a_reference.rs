#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    fn m(&self) -> &str {
        "x"
    }
}

fn main() {}
