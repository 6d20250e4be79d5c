#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
mod other {}

fn main() {}
