#![deny(warnings)]

use rmi_core::rmi_node;

struct Service;

#[rmi_node]
impl Service {
    async fn m(&self, a: u8) -> u8 {
        a
    }
}

fn main() {
    assert_eq!(ServiceStub::local(Service).m(1).wait().unwrap(), 1);
}
