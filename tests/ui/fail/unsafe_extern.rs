#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    unsafe fn m(&self) {}

    extern "C" fn n(&self) {}
}

fn main() {}
