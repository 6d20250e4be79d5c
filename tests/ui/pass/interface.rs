//! A trait in one module, two implementations in others, and what a trait may have.
#![deny(warnings)]

mod api {
    use rmi::{CallContext, rmi_node};

    pub trait Named {
        fn name(&self) -> String;
    }

    #[rmi_node(name = "greeting.service")]
    pub trait Greeter: Named + Send {
        async fn hello(&self, context: &CallContext, name: &str) -> Result<String, rmi::Failure>;

        async fn early(&self, n: u8) -> Result<u8, rmi::Failure> {
            if n == 0 {
                return Ok(0);
            }
            let parsed: u8 = "1".parse()?;
            Ok(n + parsed + self.name().len() as u8)
        }

        fn blocking(&self) -> u8 {
            1
        }

        #[rmi(skip)]
        fn plain(&self) -> u8 {
            2
        }

        #[rmi(skip)]
        async fn asynchronous<T: Send>(&self, t: T) -> T {
            t
        }
    }
}

mod here {
    use crate::api::{Greeter, Named};

    pub struct English;

    impl Named for English {
        fn name(&self) -> String {
            "en".into()
        }
    }

    #[rmi::rmi_node]
    impl Greeter for English {
        async fn hello(&self, _: &rmi::CallContext, name: &str) -> Result<String, rmi::Failure> {
            Ok(format!("hello {name}"))
        }

        // As good as `async fn`.
        fn early(&self, n: u8) -> impl Future<Output = Result<u8, rmi::Failure>> + Send {
            std::future::ready(Ok(n))
        }
    }
}

mod there {
    pub struct Dutch;

    impl super::api::Named for Dutch {
        fn name(&self) -> String {
            "nl".into()
        }
    }

    #[rmi::rmi_node]
    impl super::api::Greeter for Dutch {
        async fn hello(&self, _: &rmi::CallContext, name: &str) -> Result<String, rmi::Failure> {
            Ok(format!("hallo {name}"))
        }
    }
}

fn object(greeter: &dyn api::Greeter) -> u8 {
    greeter.plain()
}

fn main() {
    use api::GreeterStub;
    assert_eq!(GreeterStub::local(here::English).hello("x").wait().unwrap(), "hello x");
    assert_eq!(GreeterStub::local(there::Dutch).hello("x").wait().unwrap(), "hallo x");
    assert_eq!(GreeterStub::local(here::English).early(0).wait().unwrap(), 0);
    assert_eq!(GreeterStub::local(there::Dutch).early(1).wait().unwrap(), 4);
    assert_eq!(object(&there::Dutch), 2);
}
