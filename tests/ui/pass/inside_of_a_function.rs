#![deny(warnings)]

use rmi::rmi_node;

fn main() {
    struct Service;

    #[rmi_node]
    impl Service {
        async fn m(&self) -> u8 {
            1
        }
    }

    assert_eq!(ServiceStub::local(Service).m().wait().unwrap(), 1);
}
