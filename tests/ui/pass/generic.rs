#![deny(warnings)]

use rmi::{Reply, rmi_node};

pub struct Cache<K, V: ?Sized, const N: usize>(K, Box<V>);

#[rmi_node]
impl<K, V: ?Sized, const N: usize> Cache<K, V, N>
where
    K: Reply + Clone + Sync,
    V: AsRef<str> + Send + Sync + 'static,
{
    pub const SIZE: usize = 2;

    pub async fn key(&self) -> K {
        self.0.clone()
    }

    pub async fn keys(&self, key: K) -> Vec<K> {
        vec![key; N]
    }

    pub fn value(&self) -> String {
        self.1.as_ref().as_ref().to_owned()
    }

    pub fn sized(&self, a: [u8; Cache::<u8, str, 0>::SIZE]) -> [u8; 2] {
        a
    }
}

struct Pair<T>(T, T);

// Not generic, but of a generic type.
#[rmi_node]
impl Pair<u8> {
    async fn sum(&self) -> u8 {
        self.0 + self.1
    }
}

#[rmi_node(stub = WordsStub)]
impl Pair<String> {
    async fn joined(&self) -> String {
        format!("{}{}", self.0, self.1)
    }
}

fn main() {
    let stub = CacheStub::<u8, str, 3>::local(Cache(1, "x".into()));
    assert_eq!(stub.key().wait().unwrap(), 1);
    assert_eq!(stub.keys(4).wait().unwrap(), [4, 4, 4]);
    assert_eq!(stub.value().wait().unwrap(), "x");
    assert_eq!(stub.sized([1, 2]).wait().unwrap(), [1, 2]);
    assert_eq!(PairStub::local(Pair(1, 2)).sum().wait().unwrap(), 3);
    assert_eq!(WordsStub::local(Pair("a".into(), "b".into())).joined().wait().unwrap(), "ab");
}
