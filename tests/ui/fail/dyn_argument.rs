#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    async fn m(&self, a: Box<dyn Fn() + Send>) {}

    fn n(&self) -> Box<dyn std::fmt::Debug> {
        Box::new(1)
    }
}

fn main() {}
