#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
trait Copies: Clone {
    async fn copy(&self);
}

fn main() {}
