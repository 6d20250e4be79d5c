#![allow(unused)]

use rmi::rmi_node;

async fn pause() {}

struct Service;

#[rmi_node]
impl Service {
    async fn m(&self) {
        let r = std::rc::Rc::new(1);
        pause().await;
        drop(r);
    }
}

fn main() {}
