#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    #[rmi(oneway)]
    async fn m(&self) -> u8 {
        1
    }

    #[rmi(oneway)]
    async fn n(&self) -> Result<(), std::fmt::Error> {
        Ok(())
    }
}

fn main() {}
