#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
struct Other;

fn main() {}
