#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
trait Greeter {
    async fn hello(&self, name: &str);
}

#[rmi_node(name = "g")]
impl Greeter for Service {
    #[rmi(timeout = "5s")]
    async fn hello(&self, #[rmi(default = "x")] name: &str) {}
}

fn main() {}
