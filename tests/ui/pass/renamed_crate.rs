#![deny(warnings)]

mod vendored {
    pub mod deep {
        pub use rmi as renamed;
    }
}

use vendored::deep::renamed::rmi_node;

struct Service;

#[rmi_node(crate = vendored::deep::renamed)]
impl Service {
    async fn m(&self, a: u8) -> u8 {
        a
    }
}

#[rmi_node(crate = crate::vendored::deep::renamed)]
trait Greeter {
    async fn hello(&self) -> u8;
}

#[rmi_node(crate = vendored::deep::renamed)]
impl Greeter for Service {
    async fn hello(&self) -> u8 {
        2
    }
}

fn main() {
    assert_eq!(ServiceStub::local(Service).m(1).wait().unwrap(), 1);
    assert_eq!(GreeterStub::local(Service).hello().wait().unwrap(), 2);
}
