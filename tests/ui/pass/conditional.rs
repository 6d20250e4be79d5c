#![deny(warnings)]

use rmi::rmi_node;

#[rmi_node]
#[cfg(any())]
impl Gone {
    async fn m(&self, a: DoesNotExist) {}
}

#[cfg(any())]
#[rmi_node]
trait GoneToo {
    async fn m(&self, a: DoesNotExist);
}

struct Service;

#[rmi_node]
#[cfg(not(any()))]
impl Service {
    #[cfg(any())]
    async fn version(&self) -> DoesNotExist {}

    /// Which of two is there depends on the configuration.
    #[cfg(not(any()))]
    async fn version(&self) -> u8 {
        2
    }

    #[cfg(any())]
    #[rmi(name = "version")]
    async fn other(&self) -> DoesNotExist {}

    async fn parameters(&self, #[cfg(any())] gone: DoesNotExist, #[cfg(not(any()))] #[rmi(default)] here: u8) -> u8 {
        here
    }
}

#[rmi_node]
trait Interface {
    #[cfg(any())]
    async fn gone(&self) -> DoesNotExist;

    async fn here(&self, #[cfg(any())] a: DoesNotExist) -> u8 {
        1
    }
}

#[rmi_node]
impl Interface for Service {}

fn main() {
    assert_eq!(ServiceStub::local(Service).version().wait().unwrap(), 2);
    assert_eq!(ServiceStub::local(Service).parameters(None).wait().unwrap(), 0);
    assert_eq!(InterfaceStub::local(Service).here().wait().unwrap(), 1);
}
