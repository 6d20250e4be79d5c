#![deny(warnings)]

use rmi::rmi_node;

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Point {
    x: u8,
}

#[rmi_node]
impl Point {
    const SIZE: usize = 2;

    async fn doubled(&self, other: &Self, more: Vec<Self>) -> Option<Self> {
        let _ = (other, more);
        Some(Self { x: self.x * 2 })
    }

    async fn array(&self, a: [u8; Self::SIZE], #[rmi(default = Self::SIZE)] b: usize) -> Result<Self, rmi::Failure> {
        let _ = b;
        Ok(Self { x: a[0] })
    }
}

fn main() {
    let stub = PointStub::local(Point { x: 1 });
    assert_eq!(stub.doubled(&Point { x: 1 }, vec![]).wait().unwrap().unwrap().x, 2);
    assert_eq!(stub.array([1, 2], None).wait().unwrap().x, 1);
}
