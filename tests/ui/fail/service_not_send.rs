#![allow(unused)]

use rmi::rmi_node;

struct Service;

struct Local(std::rc::Rc<u8>);

#[rmi_node]
impl Local {
    async fn m(&self) {}
}

fn main() {}
