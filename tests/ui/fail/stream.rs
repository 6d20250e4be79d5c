#![allow(unused)]

use rmi::rmi_node;

trait Stream {
    type Item;
}

struct Service;

struct Empty;

impl Stream for Empty {
    type Item = u8;
}

fn stream() -> Empty {
    Empty
}

#[rmi_node]
impl Service {
    fn m(&self) -> impl Stream<Item = u8> {
        stream()
    }
}

fn main() {}
