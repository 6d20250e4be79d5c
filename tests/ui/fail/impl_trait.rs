#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    async fn m(&self, a: impl Into<String>) {}

    fn n(&self) -> impl Future<Output = ()> {
        async {}
    }
}

fn main() {}
