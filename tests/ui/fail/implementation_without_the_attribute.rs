#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
trait Greeter {
    async fn hello(&self);
}

impl Greeter for Service {
    async fn hello(&self) {}
}

fn stub() -> GreeterStub {
    GreeterStub::local(Service)
}

fn main() {}
