#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node(nmae = "x")]
impl Service {
    #[rmi(tiemout = "5s")]
    async fn m(&self, #[rmi(defualt)] a: u8) {}

    #[rmi(default)]
    async fn n(&self, #[rmi(skip)] a: u8) {}

    #[rmi(xyz)]
    async fn o(&self) {}
}

fn main() {}
