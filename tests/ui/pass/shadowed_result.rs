#![deny(warnings)]

use rmi::rmi_node;

type Result<T> = std::result::Result<T, rmi::Failure>;

mod inner {
    pub type CalcResult<T, E = rmi::Failure> = std::result::Result<T, E>;
}

struct Service;

#[rmi_node]
impl Service {
    async fn a(&self) -> Result<u8> {
        Ok(1)
    }

    async fn b(&self) -> inner::CalcResult<u8> {
        Ok(1)
    }

    async fn c(&self) -> rmi::Result<u8> {
        Ok(1)
    }
}

fn main() {
    let _: rmi::Invocation<u8> = ServiceStub::local(Service).a();
    let _: rmi::Invocation<u8> = ServiceStub::local(Service).b();
    let _: rmi::Invocation<u8> = ServiceStub::local(Service).c();
}
