//! Every shape of a method, called through `Stub::local`: arguments and results are encoded and decoded as between two
//! nodes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rmi::{CallContext, Invocation, InvocationException, Kind, RemoteError, args, rmi_node, root_exc};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
enum MathError {
    #[error("division by zero")]
    DivisionByZero,
}

type MathResult<T> = std::result::Result<T, MathError>;
type Outcome<T> = std::result::Result<T, MathError>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i32,
    y: i32,
}

#[derive(Default)]
struct Shapes {
    calls: AtomicU32,
}

/// All of them.
#[rmi_node]
impl Shapes {
    const LIMIT: i64 = 40;

    fn start() -> Self {
        Self::default()
    }

    /// Adds.
    async fn add(&self, a: i64, #[rmi(default = 1)] b: i64) -> i64 {
        a + b
    }

    async fn nothing(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    fn blocking(&self, x: u8) -> u32 {
        u32::from(x) + self.calls.load(Ordering::Relaxed)
    }

    #[rmi(cpu)]
    fn computed(&self, values: &[u32]) -> u32 {
        values.iter().sum()
    }

    #[rmi(direct)]
    fn direct(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    #[rmi(spawn, idempotent, no_cancel, timeout = "5s", allow = "admin")]
    async fn flags(&self) {}

    async fn div(&self, a: i64, b: i64) -> Result<i64, MathError> {
        a.checked_div(b).ok_or(MathError::DivisionByZero)
    }

    async fn aliased(&self, a: i64) -> MathResult<i64> {
        self.div(a, 0).await
    }

    #[rmi(fallible)]
    fn hidden(&self, a: i64) -> Outcome<i64> {
        a.checked_div(0).ok_or(MathError::DivisionByZero)
    }

    #[rmi(infallible)]
    fn as_value(&self, ok: bool) -> Result<u8, String> {
        if ok { Ok(1) } else { Err("no".into()) }
    }

    async fn any_error(&self, text: &str) -> rmi::Result<i32> {
        Ok(text.parse::<i32>()?)
    }

    #[allow(clippy::ptr_arg)]
    async fn lent(&self, text: &str, points: &[Point], point: &Point, bytes: &Vec<u8>) -> String {
        format!("{text} {} {} {}", points.len(), point.x, bytes.len())
    }

    async fn defaults(
        &self,
        #[rmi(default)] a: u8,
        #[rmi(default = "you")] name: &str,
        #[rmi(default = Shapes::LIMIT + 2)] limit: i64,
        #[rmi(default = &[1, 2])] list: &[u8],
    ) -> (u8, String, i64, usize) {
        (a, name.to_owned(), limit, list.len())
    }

    async fn kinds(
        &self,
        #[rmi(positional)] a: u8,
        b: u8,
        #[rmi(keyword)] c: u8,
        #[rmi(keyword, default = 7)] d: u8,
        #[rmi(keyword)] e: &str,
    ) -> String {
        format!("{a} {b} {c} {d} {e}")
    }

    async fn positional_defaults(
        &self,
        #[rmi(positional, default = 1)] a: u8,
        #[rmi(positional, default = 2)] b: u8,
    ) -> u8 {
        a * 10 + b
    }

    async fn injected(&self, a: u8, caller: &CallContext, b: u8, by_value: CallContext) -> String {
        format!("{} {} {a}{b}", caller.caller_name(), by_value.roles().len())
    }

    #[rmi(name = "re-named")]
    async fn renamed(&self, #[rmi(name = "from")] from_: u8) -> u8 {
        from_
    }

    async fn r#type(&self, r#match: u8) -> u8 {
        r#match
    }

    async fn own_type(&self, p: Point) -> Option<Point> {
        Some(Point { x: p.y, y: p.x })
    }

    async fn map(&self, map: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
        map
    }

    #[rmi(oneway)]
    async fn tell(&self, by: u32) {
        self.calls.fetch_add(by, Ordering::Relaxed);
    }

    #[cfg(not(test))]
    async fn never(&self) -> DoesNotExist {}

    #[cfg(test)]
    async fn conditional(&self, #[cfg(not(test))] gone: DoesNotExist, #[cfg(test)] here: u8) -> u8 {
        here
    }

    #[deprecated = "use add"]
    async fn old(&self) -> u8 {
        1
    }

    async fn panics(&self) -> u8 {
        panic!("on purpose")
    }

    async fn unused_and_mut(&self, _unused: u8, mut n: u8) -> u8 {
        n += 1;
        n
    }

    #[allow(clippy::too_many_arguments)]
    async fn many(
        &self,
        a: u8,
        b: u8,
        c: u8,
        d: u8,
        e: u8,
        f: u8,
        g: u8,
        h: u8,
        i: u8,
        j: u8,
        k: u8,
        l: u8,
        m: u8,
        n: u8,
        o: u8,
        p: u8,
        q: u8,
    ) -> u32 {
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q].into_iter().map(u32::from).sum()
    }

    #[rmi(skip)]
    fn local_only<T: Clone>(&self, value: &T) -> T {
        value.clone()
    }
}

fn shapes() -> ShapesStub {
    ShapesStub::local(Shapes::start())
}

/// A call of any name with any arguments, as from a dynamic caller.
fn invoke<T>(method: &str, args: rmi::Args) -> Invocation<T> {
    rmi_core::local::local::<ShapesStub>(Shapes::default()).invoke(&format!("Shapes.{method}"), args)
}

fn message<T: std::fmt::Debug>(result: Result<T, InvocationException>) -> String {
    root_exc(&result.unwrap_err()).to_string()
}

#[test]
fn values_come_back() {
    let stub = shapes();
    assert_eq!(stub.add(1, Some(2)).wait().unwrap(), 3);
    assert_eq!(stub.add(1, None).wait().unwrap(), 2);
    stub.nothing().wait().unwrap();
    assert_eq!(stub.blocking(3).wait().unwrap(), 4);
    assert_eq!(stub.computed(&[1, 2, 3]).wait().unwrap(), 6);
    assert_eq!(stub.direct().wait().unwrap(), 1);
    assert_eq!(stub.lent("a", &[], &Point { x: 5, y: 0 }, &vec![0; 3]).wait().unwrap(), "a 0 5 3");
    assert_eq!(stub.own_type(Point { x: 1, y: 2 }).wait().unwrap(), Some(Point { x: 2, y: 1 }));
    let map = BTreeMap::from([("a".to_owned(), vec![1, 2])]);
    assert_eq!(stub.map(map.clone()).wait().unwrap(), map);
    assert_eq!(stub.unused_and_mut(0, 1).wait().unwrap(), 2);
    assert_eq!(stub.conditional(9).wait().unwrap(), 9);
    assert_eq!(stub.many(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1).wait().unwrap(), 17);
    assert_eq!(Shapes::default().local_only(&1), 1);
}

#[test]
fn the_service_is_shared_by_the_calls_of_a_stub() {
    let stub = shapes();
    let other = stub.clone();
    stub.tell(5).wait().unwrap();
    other.nothing().wait().unwrap();
    assert_eq!(stub.direct().wait().unwrap(), 6);
}

#[test]
fn defaults_are_evaluated_by_the_callee() {
    let stub = shapes();
    assert_eq!(stub.defaults(None, None, None, None).wait().unwrap(), (0, "you".into(), 42, 2));
    assert_eq!(stub.defaults(None, Some("me"), None, Some(&[])).wait().unwrap(), (0, "me".into(), 42, 0));
    assert_eq!(stub.defaults(Some(1), None, Some(2), None).wait().unwrap(), (1, "you".into(), 2, 2));
    assert_eq!(stub.positional_defaults(None, None).wait().unwrap(), 12);
    assert_eq!(stub.positional_defaults(Some(3), None).wait().unwrap(), 32);
    let error = stub.positional_defaults(None, Some(3)).wait().unwrap_err();
    assert_eq!(error.kind(), Kind::RequestEncode);
}

#[test]
fn keywords_and_positions_are_pythons() {
    assert_eq!(shapes().kinds(1, 2, 3, None, "e").wait().unwrap(), "1 2 3 7 e");
    assert_eq!(shapes().kinds(1, 2, 3, Some(4), "e").wait().unwrap(), "1 2 3 4 e");
    assert_eq!(invoke::<String>("kinds", args![1, e = "e", b = 2, c = 3]).wait().unwrap(), "1 2 3 7 e");
    assert_eq!(invoke::<u8>("type", args![r#match = 3]).wait().unwrap(), 3);
    assert_eq!(invoke::<u8>("re-named", args![from = 3]).wait().unwrap(), 3);
    assert_eq!(shapes().renamed(4).wait().unwrap(), 4);
    assert_eq!(shapes().r#type(4).wait().unwrap(), 4);
}

#[test]
fn arguments_that_do_not_fit_are_refused_in_pythons_words() {
    for (method, args, text) in [
        ("add", args![], "add() missing 1 required positional argument: 'a'"),
        ("add", args![1, 2, 3], "add() takes from 1 to 2 positional arguments but 3 were given"),
        ("add", args![1, a = 2], "add() got multiple values for argument 'a'"),
        ("add", args![1, c = 2], "add() got an unexpected keyword argument 'c'"),
        ("direct", args![1], "direct() takes 0 positional arguments but 1 was given"),
        ("kinds", args![1, 2], "kinds() missing 2 required keyword-only arguments: 'c' and 'e'"),
    ] {
        let error = invoke::<u8>(method, args).wait().unwrap_err();
        assert_eq!(error.kind(), Kind::BadArguments, "{method}");
        assert_eq!(root_exc(&error).to_string(), text);
    }
    let error = message(invoke::<i64>("add", args![1, "2"]).wait());
    assert!(error.starts_with("add() argument 'b': invalid type: string"), "{error}");
    assert_eq!(invoke::<u8>("never", args![]).wait().unwrap_err().kind(), Kind::NoSuchMethod);
    assert_eq!(invoke::<u8>("local_only", args![]).wait().unwrap_err().kind(), Kind::NoSuchMethod);
    assert_eq!(invoke::<u8>("start", args![]).wait().unwrap_err().kind(), Kind::NoSuchMethod);
}

#[test]
fn errors_come_back_typed() {
    let stub = shapes();
    assert_eq!(stub.div(6, 2).wait().unwrap(), 3);
    let error: InvocationException<MathError> = stub.div(1, 0).wait().unwrap_err();
    assert_eq!(error.cause(), Some(&MathError::DivisionByZero));
    assert_eq!(stub.aliased(1).wait().unwrap_err().cause(), Some(&MathError::DivisionByZero));
    assert_eq!(stub.hidden(1).wait().unwrap_err().cause(), Some(&MathError::DivisionByZero));
    assert_eq!(stub.as_value(true).wait().unwrap(), Ok(1));
    assert_eq!(stub.as_value(false).wait().unwrap(), Err("no".into()));
    assert_eq!(stub.any_error("12").wait().unwrap(), 12);
    let error: InvocationException<RemoteError> = stub.any_error("x").wait().unwrap_err();
    assert_eq!(root_exc(&error).to_string(), "invalid digit found in string");
    assert_eq!(stub.panics().wait().unwrap_err().kind(), Kind::Panicked);
}

#[test]
fn what_the_node_gives_is_not_sent() {
    assert_eq!(shapes().injected(1, 2).wait().unwrap(), "local 0 12");
}

#[test]
#[allow(deprecated)]
fn deprecated_methods_have_deprecated_stubs() {
    assert_eq!(shapes().old().wait().unwrap(), 1);
}

#[test]
fn the_description_says_what_was_written() {
    let descriptor = <Shapes as rmi::Service<ShapesStub>>::DESCRIPTOR;
    assert_eq!((descriptor.name(), descriptor.doc()), ("Shapes", "All of them."));
    let add = descriptor.method("add").unwrap();
    assert_eq!((add.doc(), add.returns(), add.raised_type()), ("Adds.", "i64", None));
    assert_eq!(add.params()[0].default_text(), None);
    assert_eq!(add.params()[1].default_text(), Some("1"));
    let div = descriptor.method("div").unwrap();
    assert_eq!((div.returns(), div.raised_type()), ("Result<i64, MathError>", Some("MathError")));
    assert_eq!(descriptor.method("aliased").unwrap().raised_type(), Some("_"));
    let lent: Vec<_> = descriptor.method("lent").unwrap().params().iter().map(|param| param.type_name()).collect();
    assert_eq!(lent, ["&str", "&[Point]", "&Point", "&Vec<u8>"]);
    let defaults: Vec<_> = descriptor.method("defaults").unwrap().params().iter().map(|p| p.default_text()).collect();
    assert_eq!(defaults, [Some("Default::default()"), Some("\"you\""), Some("Shapes::LIMIT + 2"), Some("&[1, 2]")]);
    let injected: Vec<_> = descriptor.method("injected").unwrap().params().iter().map(|param| param.name()).collect();
    assert_eq!(injected, ["a", "b"]);
    let flags = descriptor.method("flags").unwrap();
    assert!(flags.is_idempotent() && flags.is_no_cancel() && !flags.is_one_way());
    assert_eq!(flags.default_timeout(), Some(Duration::from_secs(5)));
    assert_eq!(flags.allowed_role(), Some("admin"));
    assert!(descriptor.method("tell").unwrap().is_one_way());
    use rmi_core::descriptor::Execution;
    for (method, execution) in [
        ("add", Execution::Async),
        ("flags", Execution::Spawned),
        ("blocking", Execution::Blocking),
        ("computed", Execution::Compute),
        ("direct", Execution::Direct),
    ] {
        assert_eq!(descriptor.method(method).unwrap().execution(), execution, "{method}");
    }
}

/// A generic service.
struct Cache<V> {
    value: V,
}

#[rmi_node(name = "cache.of", stub = Cached, serial)]
impl<V> Cache<V>
where
    V: Clone + Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    pub(crate) async fn get(&self) -> V {
        self.value.clone()
    }

    pub(crate) async fn is(&self, other: V) -> bool {
        let _ = other;
        true
    }
}

#[test]
fn a_generic_type_has_a_generic_stub() {
    let stub: Cached<String> = Cached::local(Cache { value: "v".to_owned() });
    assert_eq!(stub.get().wait().unwrap(), "v");
    assert!(stub.clone().is("x".into()).wait().unwrap());
    assert!(format!("{stub:?}").starts_with("Cached"), "{stub:?}");
    let descriptor = <Cache<u8> as rmi::Service<Cached<u8>>>::DESCRIPTOR;
    assert_eq!((descriptor.name(), descriptor.is_serial()), ("cache.of", true));
}

struct Guarded;

#[rmi_node(allow = "reader")]
impl Guarded {
    async fn read(&self) {}
}

#[test]
fn a_service_may_be_for_some_callers_only() {
    assert_eq!(<Guarded as rmi::Service<GuardedStub>>::DESCRIPTOR.allowed_role(), Some("reader"));
    // Roles are for peers: who is in this process needs nobody's leave.
    GuardedStub::local(Guarded).read().wait().unwrap();
}

mod interfaces {
    use rmi::rmi_node;

    /// Greets.
    #[rmi_node]
    pub(crate) trait Greeter: Send + Sync {
        /// Says hello.
        async fn hello(&self, name: &str, #[rmi(default = 1)] times: usize) -> String;

        async fn twice(&self, name: &str) -> String {
            let once = self.hello(name, 1).await;
            format!("{once} {once}")
        }

        fn parsed(&self, text: &str) -> Result<i32, super::MathError>;

        #[rmi(direct)]
        fn language(&self) -> String {
            "?".into()
        }

        #[rmi(skip)]
        fn plain(&self) -> u8 {
            1
        }

        fn create() -> u8 {
            2
        }
    }

    #[rmi_node(name = "kv", stub = KeyValueStub)]
    pub(crate) trait Store<K, V = String>
    where
        K: rmi::Reply,
        V: rmi::Reply,
    {
        async fn get(&self, key: K) -> Option<V>;
    }
}

struct English;

mod implementations {
    use super::interfaces::{Greeter as Renamed, Store};
    use super::{English, MathError};
    use rmi::rmi_node;

    #[rmi_node]
    impl Renamed for English {
        async fn hello(&self, name: &str, times: usize) -> String {
            format!("hello {name}{}", "!".repeat(times))
        }

        fn parsed(&self, text: &str) -> Result<i32, MathError> {
            text.parse().map_err(|_| MathError::DivisionByZero)
        }
    }

    #[rmi_node]
    impl Store<u8> for English {
        async fn get(&self, key: u8) -> Option<String> {
            (key == 1).then(|| "one".into())
        }
    }

    pub(super) struct Constant<V>(pub(super) V);

    #[rmi_node]
    impl<V: rmi::Reply + Clone + Sync> Store<String, V> for Constant<V> {
        async fn get(&self, _key: String) -> Option<V> {
            Some(self.0.clone())
        }
    }
}

#[test]
fn a_type_has_several_interfaces() {
    use interfaces::{Greeter, GreeterStub, KeyValueStub};
    let stub = GreeterStub::local(English);
    assert_eq!(stub.hello("you", None).wait().unwrap(), "hello you!");
    assert_eq!(stub.hello("you", Some(2)).wait().unwrap(), "hello you!!");
    assert_eq!(stub.twice("you").wait().unwrap(), "hello you! hello you!");
    assert_eq!(stub.language().wait().unwrap(), "?");
    assert_eq!(stub.parsed("3").wait().unwrap(), 3);
    assert_eq!(stub.parsed("x").wait().unwrap_err().cause(), Some(&MathError::DivisionByZero));
    assert_eq!((English.plain(), English::create()), (1, 2));

    let stub = KeyValueStub::<u8, String>::local(English);
    assert_eq!(stub.get(1).wait().unwrap(), Some("one".into()));
    let stub = KeyValueStub::<String, u32>::local(implementations::Constant(5));
    assert_eq!(stub.get("k".into()).wait().unwrap(), Some(5));

    let descriptor = <English as rmi::Service<GreeterStub>>::DESCRIPTOR;
    assert_eq!((descriptor.name(), descriptor.doc(), descriptor.methods().len()), ("Greeter", "Greets.", 4));
    assert_eq!(<English as rmi::Service<KeyValueStub<u8, String>>>::DESCRIPTOR.name(), "kv");
}

#[test]
fn the_futures_of_an_interface_can_be_sent() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    fn greet<G: interfaces::Greeter>(greeter: &G) -> impl Future<Output = String> + Send {
        greeter.hello("x", 0)
    }
    drop(is_send(greet(&English)));
}

/// Two interfaces of one type by two blocks, one without a stub.
struct Twice;

#[rmi_node(name = "first", stub = FirstStub)]
impl Twice {
    async fn first(&self) -> u8 {
        1
    }
}

#[rmi_node(name = "second", stub = false)]
impl Twice {
    async fn second(&self) -> u8 {
        2
    }
}

#[test]
fn a_block_may_have_no_stub() {
    assert_eq!(FirstStub::local(Twice).first().wait().unwrap(), 1);
    let remote = rmi_core::local::local::<rmi_core::__private::NoStub<Twice>>(Twice);
    assert_eq!(remote.invoke::<u8>("second", args![]).wait().unwrap(), 2);
}
