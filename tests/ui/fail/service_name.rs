#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node(name = "no good", stub = First)]
impl Service {}

#[rmi_node(name = "rmi.mine", stub = Second)]
impl Service {}

#[rmi_node(name = "", stub = Third)]
impl Service {}

fn main() {}
