#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    #[rmi(timeout = "5 seconds")]
    async fn m(&self) {}

    #[rmi(timeout = 5)]
    async fn n(&self) {}

    #[rmi(timeout = "0s")]
    async fn o(&self) {}

    #[rmi(timeout = "25h")]
    async fn p(&self) {}
}

fn main() {}
