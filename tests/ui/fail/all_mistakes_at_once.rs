#![allow(unused)]

use rmi::rmi_node;

struct Service;

#[rmi_node(nmae = "x")]
impl Service {
    async fn a(&mut self) {}

    async fn b(&self, #[rmi(deflaut)] a: u8) {}

    #[rmi(direct)]
    async fn c(&self, a: &mut u8) -> &str {
        "x"
    }

    async fn fine(&self, a: u8) -> u8 {
        a
    }
}

// None of these is an error: the stub and the service are there all the same.
fn elsewhere(stub: &ServiceStub) -> rmi::Invocation<u8> {
    fn is_service<M>(_: impl rmi::Service<M>) {}
    is_service(Service);
    let _ = stub.b(1);
    stub.fine(1)
}

fn main() {}
