#![allow(unused)]

use rmi::rmi_node;

type Outcome = Result<u8, String>;

struct Service;

#[rmi_node]
impl Service {
    async fn m(&self) -> Outcome {
        Ok(1)
    }
}

fn main() {}
