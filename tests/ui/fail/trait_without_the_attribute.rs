#![allow(unused)]

use rmi::rmi_node;

struct Service;

trait Greeter {
    fn hello(&self) -> impl Future<Output = ()> + Send;
}

#[rmi_node]
impl Greeter for Service {
    async fn hello(&self) {}
}

fn main() {}
