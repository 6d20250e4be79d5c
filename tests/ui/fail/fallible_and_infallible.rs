#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    #[rmi(fallible, infallible)]
    async fn m(&self) -> u8 {
        1
    }

    #[rmi(fallible)]
    async fn n(&self) {}
}

fn main() {}
