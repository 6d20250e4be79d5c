#![deny(warnings)]

use rmi::rmi_node;

pub struct Service;

#[rmi_node]
impl Service {
    async fn m(&self) {}
}

fn call(stub: &ServiceStub) {
    stub.m();
}

fn main() {}
