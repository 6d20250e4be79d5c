//! A method is called by its name, with Python's rules for arguments, and a mistake is answered with what to write.

mod common;

use std::collections::BTreeMap;

use common::{only_link, within};
use rmi::{
    Args, Blob, Class, InvocationException, Kind, Node, ParamKind, Peer, RemoteError, Value, args, rmi_node, root_exc,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
enum MathError {
    #[error("division by zero")]
    DivisionByZero,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i32,
    y: Option<i32>,
}

struct Calculator;

/// Calculates.
#[rmi_node]
impl Calculator {
    /// Adds two integers.
    async fn add(&self, a: i64, #[rmi(default = 1)] b: i64) -> i64 {
        a + b
    }

    /// Divides, or raises.
    #[rmi(idempotent)]
    async fn div(&self, a: i64, b: i64) -> Result<i64, MathError> {
        a.checked_div(b).ok_or(MathError::DivisionByZero)
    }

    async fn shapes(&self, #[rmi(positional)] a: u8, b: u8, #[rmi(keyword)] c: u8, caller: &Peer) -> String {
        format!("{a}{b}{c} {}", caller.name())
    }

    async fn point(&self, point: Point) -> Point {
        point
    }

    async fn nested(&self) -> BTreeMap<String, Vec<Option<f64>>> {
        BTreeMap::from([("a".into(), vec![Some(0.5), None])])
    }

    async fn blob(&self, blob: Blob) -> Blob {
        blob
    }

    #[rmi(oneway)]
    async fn forget(&self) {}

    #[rmi(name = "re-named")]
    async fn renamed(&self) -> u8 {
        1
    }

    #[rmi(skip)]
    #[allow(dead_code)]
    fn hidden(&self) {}
}

struct Journal;

#[rmi_node(name = "app.journal")]
impl Journal {
    async fn add(&self, line: String) -> usize {
        line.len()
    }

    async fn flush(&self) {}
}

async fn nodes() -> (Node, Node, Peer) {
    let server = Node::builder().name("server").listen("tcp://127.0.0.1:0").serve(Calculator).serve(Journal);
    let server = server.start().await.unwrap();
    let client = Node::builder().name("client").seeds(server.addresses()).start().await.unwrap();
    let peer = client.peer("server").await.unwrap();
    (server, client, peer)
}

/// The refusal of a call: it did not run, it names method and peer, and the connection stays.
async fn refusal(client: &Node, peer: &Peer, method: &str, args: Args, kind: Kind) -> String {
    let link = only_link(client);
    let error = peer.invoke::<Value>(method, args).await.unwrap_err();
    assert_eq!((error.kind(), error.class()), (kind, Class::NotExecuted), "{method}: {error:?}");
    assert_eq!((error.method(), error.peer()), (method, "server"));
    assert!(error.is_safe_to_retry());
    let story = format!("{error:?}");
    assert!(story.contains("server") && story.contains(method), "{story}");
    assert_eq!(only_link(client), link);
    root_exc(&error).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positional_and_keyword_arguments_find_their_parameters() {
    within(async {
        let (_server, _client, peer) = nodes().await;
        let sum: i64 = peer.invoke("Calculator.add", args![1, b = 2]).await.unwrap();
        assert_eq!(sum, 3);
        assert_eq!(peer.invoke::<i64>("Calculator.add", args![1]).await.unwrap(), 2);
        assert_eq!(peer.invoke::<i64>("Calculator.add", args![b = 2, a = 5]).await.unwrap(), 7);
        assert_eq!(peer.invoke::<String>("Calculator.shapes", args![1, 2, c = 3]).await.unwrap(), "123 client");
        assert_eq!(peer.invoke::<String>("shapes", args![1, c = 3, b = 2]).await.unwrap(), "123 client");
        assert_eq!(peer.invoke::<u8>("Calculator.re-named", args![]).await.unwrap(), 1);
        peer.invoke::<()>("flush", args![]).await.unwrap();
        let point = Point { x: 1, y: None };
        assert_eq!(peer.invoke::<Point>("point", args![point]).await.unwrap(), Point { x: 1, y: None });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bare_name_resolves_where_one_service_has_it() {
    within(async {
        let (server, client, peer) = nodes().await;
        assert_eq!(peer.invoke::<i64>("div", args![6, 2]).await.unwrap(), 3);
        let text = refusal(&client, &peer, "add", args![1], Kind::NoSuchMethod).await;
        assert_eq!(text, "`add` is not unique: write `Calculator.add` or `app.journal.add`");
        // The service is what stands before the last dot.
        assert_eq!(peer.invoke::<usize>("app.journal.add", args!["abc"]).await.unwrap(), 3);
        server.unserve("app.journal");
        assert_eq!(peer.invoke::<i64>("add", args![1]).await.unwrap(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_name_is_answered_with_the_closest_one() {
    within(async {
        let (_server, client, peer) = nodes().await;
        for (method, text) in [
            ("Calculator.ad", "service `Calculator` has no method `ad`; did you mean `add`?"),
            ("Calculater.add", "node `server` has no service `Calculater`; did you mean `Calculator`?"),
            ("divv", "no service of node `server` has a method `divv`; did you mean `div`?"),
            ("something_else", "no service of node `server` has a method `something_else`"),
            ("Calculator.hidden", "service `Calculator` has no method `hidden`"),
            ("", "no service of node `server` has a method ``"),
            ("describe", "no service of node `server` has a method `describe`"),
        ] {
            assert_eq!(refusal(&client, &peer, method, args![], Kind::NoSuchMethod).await, text);
        }
        let long = "x".repeat(300);
        let text = refusal(&client, &peer, &long, args![], Kind::NoSuchMethod).await;
        assert_eq!(text, "the name of the method is too long");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_arguments_are_refused_in_pythons_words() {
    within(async {
        let (_server, client, peer) = nodes().await;
        for (method, args, text) in [
            ("Calculator.add", args![], "add() missing 1 required positional argument: 'a'"),
            ("Calculator.add", args![1, 2, 3], "add() takes from 1 to 2 positional arguments but 3 were given"),
            ("Calculator.add", args![1, a = 2], "add() got multiple values for argument 'a'"),
            ("Calculator.div", args![1], "div() missing 1 required positional argument: 'b'"),
            ("Calculator.shapes", args![1, 2], "shapes() missing 1 required keyword-only argument: 'c'"),
            (
                "Calculator.shapes",
                args![b = 1, a = 2, c = 3],
                "shapes() got some positional-only arguments passed as keyword arguments: 'a'",
            ),
        ] {
            assert_eq!(refusal(&client, &peer, method, args, Kind::BadArguments).await, text);
        }
        let text = refusal(&client, &peer, "Calculator.add", args![1, c = 2], Kind::BadArguments).await;
        assert!(text.starts_with("add() got an unexpected keyword argument 'c'"), "{text}");
        let text =
            refusal(&client, &peer, "Calculator.shapes", args![1, 2, c = 3, caller = 4], Kind::BadArguments).await;
        assert!(text.starts_with("shapes() got an unexpected keyword argument 'caller'"), "{text}");
        for args in [args!["1"], args![1.5], args![()], args![u64::MAX]] {
            let text = refusal(&client, &peer, "Calculator.add", args, Kind::BadArguments).await;
            assert!(text.starts_with("add() argument 'a': "), "{text}");
        }
        let text = refusal(&client, &peer, "point", args![Value::Map(vec![])], Kind::BadArguments).await;
        assert_eq!(text, "point() argument 'point': missing field `x`");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_of_any_type_come_as_values() {
    within(async {
        let (_server, _client, peer) = nodes().await;
        let sum = peer.invoke::<()>("Calculator.add", args![1]).returning::<Value>().await.unwrap();
        assert_eq!(sum.as_i64(), Some(2));
        let point: Value = peer.invoke("point", args![Point { x: 1, y: Some(-2) }]).await.unwrap();
        assert_eq!(point.to_string(), r#"{"x": 1, "y": -2}"#);
        // A value goes wherever its content would.
        assert_eq!(peer.invoke::<Point>("point", args![&point]).await.unwrap(), Point { x: 1, y: Some(-2) });
        let nested: Value = peer.invoke("nested", args![]).await.unwrap();
        assert_eq!(nested.get("a").unwrap().as_array().unwrap(), [Value::Float(0.5), Value::Nil]);
        assert!(peer.invoke::<Value>("flush", args![]).await.unwrap().is_nil());
        let blob = peer.invoke::<Value>("blob", args![Blob::from(vec![1; 100_000])]).await.unwrap();
        assert_eq!(blob.as_bytes().unwrap().len(), 100_000);
        let bytes = peer.invoke::<Value>("blob", args![vec![1u8, 2]]).await.unwrap();
        assert_eq!(bytes.as_bytes().unwrap(), [1, 2]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_of_another_type_is_an_error_that_says_so() {
    within(async {
        let (_server, client, peer) = nodes().await;
        let link = only_link(&client);
        let error = peer.invoke::<String>("Calculator.add", args![1]).await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::ResponseDecode, Class::Executed));
        assert!(root_exc(&error).to_string().contains("invalid type: integer `2`, expected a string"), "{error:?}");
        assert_eq!(only_link(&client), link);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raising_gives_the_error_its_type() {
    within(async {
        let (_server, _client, peer) = nodes().await;
        let call = peer.invoke::<i64>("div", args![1, 0]).raising::<MathError>();
        let error: InvocationException<MathError> = call.await.unwrap_err();
        assert_eq!(error.cause(), Some(&MathError::DivisionByZero));
        let error: InvocationException<RemoteError> = peer.invoke::<i64>("div", args![1, 0]).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Raised);
        let remote = error.remote().unwrap();
        assert_eq!((remote.message(), remote.method()), ("division by zero", "Calculator.div"));
        assert_eq!(remote.decode::<MathError>().unwrap(), MathError::DivisionByZero);
        // Another type than the method's: the words are still there.
        let error = peer.invoke::<i64>("div", args![1, 0]).raising::<Never>().await.unwrap_err();
        assert!(error.cause().is_none());
        assert_eq!(error.remote().unwrap().message(), "division by zero");
        assert_eq!(root_exc(&error).to_string(), "division by zero");
    })
    .await;
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[error("never")]
struct Never {
    never: u8,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn describe_says_what_a_node_offers() {
    within(async {
        let (server, client, peer) = nodes().await;
        let description = peer.describe().await.unwrap();
        assert_eq!(description.name, "server");
        let names: Vec<_> = description.services.iter().map(|service| &*service.name).collect();
        assert_eq!(names, ["Calculator", "app.journal"]);
        let calculator = &description.services[0];
        assert_eq!(calculator.doc, "Calculates.");
        let signatures: Vec<_> = calculator.methods.iter().map(ToString::to_string).collect();
        assert_eq!(signatures[0], "add(a: i64, b: i64 = 1) -> i64");
        assert_eq!(signatures[2], "shapes(a: u8, /, b: u8, *, c: u8) -> String");
        let method = |name: &str| calculator.methods.iter().find(|method| method.name == name).unwrap();
        assert_eq!(method("add").doc, "Adds two integers.");
        assert_eq!(method("add").params[1].default.as_deref(), Some("1"));
        assert_eq!(method("shapes").params[2].kind, ParamKind::KeywordOnly);
        assert_eq!(method("div").raises.as_deref(), Some("MathError"));
        assert!(method("div").idempotent && !method("add").idempotent);
        assert!(method("forget").one_way);
        assert!(!calculator.methods.iter().any(|method| method.name == "hidden"));
        // The hash changes with what is offered, and only with that.
        assert_eq!(peer.describe().await.unwrap(), description);
        server.unserve("app.journal");
        let less = peer.describe().await.unwrap();
        assert_ne!(less.hash, description.hash);
        server.serve(Journal).unwrap();
        assert_eq!(peer.describe().await.unwrap().hash, description.hash);
        // By name as well, and of oneself.
        assert_eq!(
            peer.invoke::<Value>("rmi.describe", args![]).await.unwrap().get("name").unwrap().as_str(),
            Some("server")
        );
        assert_eq!(client.peer("client").await.unwrap().describe().await.unwrap().services, []);
        peer.ping().await.unwrap();
    })
    .await;
}
