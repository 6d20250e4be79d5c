#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    #[rmi(direct)]
    async fn m(&self) {}

    #[rmi(cpu)]
    async fn n(&self) {}

    #[rmi(spawn)]
    fn o(&self) {}

    #[rmi(direct, cpu)]
    fn p(&self) {}
}

fn main() {}
