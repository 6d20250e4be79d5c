#![deny(warnings)]

use rmi::rmi_node;

struct Service;

#[rmi_node]
impl Service {}

#[rmi_node]
trait Interface {}

#[rmi_node]
impl Interface for Service {}

fn main() {
    let _ = ServiceStub::local(Service);
    let _ = InterfaceStub::local(Service);
}
