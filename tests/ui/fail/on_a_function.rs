#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
pub async fn other() {}

fn main() {}
