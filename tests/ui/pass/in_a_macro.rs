#![deny(warnings)]

macro_rules! service {
    ($name:ident, $stub:ident, $method:ident, $ty:ty, $default:expr) => {
        pub struct $name;

        #[rmi::rmi_node(stub = $stub)]
        impl $name {
            pub async fn $method(&self, a: $ty, b: &$ty, #[rmi(default = $default)] c: $ty) -> $ty {
                let local = a + *b;
                local + c
            }

            pub fn fixed(&self, a: Option<$ty>) -> Option<$ty> {
                a
            }
        }
    };
}

macro_rules! interface {
    ($name:ident, $method:ident) => {
        #[rmi::rmi_node]
        pub trait $name {
            async fn $method(&self, a: u8) -> u8 {
                let b = self.other(a).await;
                a + b
            }

            async fn other(&self, a: u8) -> u8;
        }

        #[rmi::rmi_node]
        impl $name for First {
            async fn other(&self, a: u8) -> u8 {
                a
            }
        }
    };
}

service!(First, FirstStub, add, i64, 1 + 2);
interface!(Interface, double);

fn main() {
    assert_eq!(FirstStub::local(First).add(1, &2, None).wait().unwrap(), 6);
    assert_eq!(InterfaceStub::local(First).double(2).wait().unwrap(), 4);
}
