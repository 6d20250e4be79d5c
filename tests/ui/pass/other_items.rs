//! What is not a remote method is left as it is.
#![deny(warnings)]

use rmi::rmi_node;

struct Service {
    n: u8,
}

#[rmi_node]
impl Service {
    #![allow(clippy::needless_lifetimes)]

    pub const A: fn() -> Self = { Self::create };
    const B: u8 = { 1 };

    const fn create() -> Self {
        Self { n: Self::B }
    }

    pub unsafe fn no_receiver<T>(_: T) {}

    #[rmi(skip)]
    fn set<'a>(&'a mut self, (n, _): (u8, u8)) -> &'a mut Self {
        self.n = n;
        self
    }

    #[rmi(skip)]
    fn _into(self) -> u8 {
        self.n
    }

    #[inline]
    #[must_use]
    const fn n(&self) -> u8 {
        #![allow(unused)]
        self.n
    }
}

fn main() {
    let mut service = Service::A();
    service.set((3, 0));
    assert_eq!(ServiceStub::local(service).n().wait().unwrap(), 3);
    assert_eq!(Service::create()._into(), 1);
    #[allow(unused_unsafe)]
    unsafe {
        Service::no_receiver(1)
    };
}
