#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    async fn m<T>(&self, a: T) {}

    fn konst<const N: usize>(&self) {}
}

fn main() {}
