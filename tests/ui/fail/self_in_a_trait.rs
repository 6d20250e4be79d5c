#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
trait Twins {
    async fn twin(&self) -> Option<Self>;
}

fn main() {}
