//! Names that the prelude has mean something else here, or nothing.
#![no_implicit_prelude]
#![deny(warnings)]

#[allow(dead_code)]
struct String;
#[allow(dead_code)]
struct Option;
#[allow(dead_code)]
struct Vec;
#[allow(dead_code)]
struct Box;
#[allow(dead_code, non_camel_case_types)]
trait Send {}
#[allow(dead_code)]
mod core {}
#[allow(dead_code)]
mod std {}
#[allow(dead_code)]
mod rmi {}

struct Service;

#[::rmi::rmi_node]
impl Service {
    async fn add(&self, a: i64, #[rmi(default = 1)] b: i64, #[rmi(default)] text: &str) -> i64 {
        let _ = text;
        a + b
    }

    fn plain(&self, #[rmi(keyword)] a: &[u8]) -> ::core::result::Result<usize, ::rmi::Failure> {
        ::core::result::Result::Ok(a.len())
    }

    #[rmi(direct, oneway, timeout = "1s")]
    fn direct(&self, context: &::rmi::CallContext) {
        let _ = context;
    }
}

#[::rmi::rmi_node]
trait Greeter {
    async fn hello(&self, name: &str) -> ::std::string::String;

    async fn provided(&self) -> ::core::result::Result<u8, ::rmi::Failure> {
        ::core::result::Result::Ok(1)
    }
}

#[::rmi::rmi_node]
impl Greeter for Service {
    async fn hello(&self, name: &str) -> ::std::string::String {
        ::core::convert::Into::into(name)
    }
}

struct Generic<T>(T);

#[::rmi::rmi_node]
impl<T: ::rmi::Reply + ::core::marker::Sync + ::core::clone::Clone> Generic<T> {
    async fn get(&self) -> T {
        ::core::clone::Clone::clone(&self.0)
    }
}

fn main() {
    let _ = ServiceStub::local(Service).add(1, ::core::option::Option::None, ::core::option::Option::None);
    let _ = ServiceStub::local(Service).plain(&[]);
    let _ = GreeterStub::local(Service).hello("x");
    let _ = GenericStub::local(Generic(1u8)).get();
}
