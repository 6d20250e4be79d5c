#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    async fn m(&self) -> Result<u8, std::io::Error> {
        Ok(1)
    }

    async fn n(&self) -> Result<u8, String> {
        Ok(1)
    }
}

fn main() {}
