#![allow(unused)]

use rmi::rmi_node;

struct Service;

struct Borrowing<'a>(&'a str);

#[rmi_node]
impl<'a> Borrowing<'a> {
    async fn m(&self) {}
}

fn main() {}
