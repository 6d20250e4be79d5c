#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    async fn m<'a>(&self, a: &'a str) {}

    fn n(&self, a: &'static str) {}
}

fn main() {}
