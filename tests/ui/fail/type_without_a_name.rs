#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl (u8, u8) {
    async fn m(&self) {}
}

fn main() {}
