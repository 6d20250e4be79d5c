#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
trait Interface {
    const LIMIT: u8;

    type Item;

    async fn m(&self);
}

fn main() {}
