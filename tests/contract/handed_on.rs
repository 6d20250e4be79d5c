//! What becomes of an error that a method hands on: the cause stays what it is, and the class is that of the last call.

use rmi::{Class, InvocationException, Kind, Node, RemoteError, root_exc};

use crate::common::{virtually, within};
use crate::service::{Faulty, FaultyStub, Oops};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_two_hops_the_root_is_the_innermost_cause() {
    within(async {
        let far =
            Node::builder().name("far").listen("tcp://127.0.0.1:0").serve(Faulty::default()).start().await.unwrap();
        let near = Node::builder().name("near").listen("tcp://127.0.0.1:0").seeds(far.addresses());
        let near = near.serve(Faulty::default()).start().await.unwrap();
        let client = Node::builder().name("client").seeds(near.addresses()).start().await.unwrap();
        let stub = FaultyStub::new(client.peer("near").await.unwrap());

        let error: InvocationException<RemoteError> = stub.hand_on("far", "Faulty.raise").await.unwrap_err();
        assert_eq!((error.kind(), error.peer(), error.method()), (Kind::Raised, "near", "Faulty.hand_on"));
        assert_eq!(root_exc(&error).to_string(), "it is far away");
        let remote: &RemoteError = root_exc(&error).downcast_ref().unwrap();
        assert_eq!((remote.node(), remote.method()), ("far", "Faulty.raise"));
        assert_eq!(remote.decode::<Oops>().unwrap(), Oops("far away".into()));
        let story = format!("{error:?}");
        for part in
            ["`Faulty.hand_on` failed", "raised on node `near`", "`Faulty.raise` failed", "raised on node `far`"]
        {
            assert!(story.contains(part), "{part}: {story}");
        }
        let error = stub.hand_on_typed("far").await.unwrap_err();
        assert_eq!(root_exc(&error).to_string(), "it is typed");
        assert_eq!(
            root_exc(&error).downcast_ref::<RemoteError>().unwrap().decode::<Oops>().unwrap(),
            Oops("typed".into())
        );

        // A refusal on the second hop is an error that the first method raised.
        let error = stub.hand_on("far", "Faulty.gone").await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Raised, Class::Executed), "{error:?}");
        assert!(root_exc(&error).to_string().contains("has no method `gone`"), "{error:?}");
        assert!(format!("{error:?}").contains("refused by node `far` (not executed)"), "{error:?}");
    })
    .await;
}

/// `client` knows `near`, which knows `far`.
async fn three() -> (Vec<Node>, FaultyStub) {
    three_at(["tcp://127.0.0.1:0"; 2]).await
}

async fn three_at([far, near]: [&str; 2]) -> (Vec<Node>, FaultyStub) {
    let far = Node::builder().name("far").listen(far).serve(Faulty::default()).start().await.unwrap();
    let near = Node::builder().name("near").listen(near).seeds(far.addresses());
    let near = near.serve(Faulty::default()).start().await.unwrap();
    let client = Node::builder().name("client").seeds(near.addresses()).start().await.unwrap();
    let stub = FaultyStub::new(client.peer("near").await.unwrap());
    (vec![far, near, client], stub)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_that_a_method_returns_does_not_say_that_the_method_was_refused() {
    within(async {
        let (_nodes, stub) = three().await;
        let error = stub.hand_on_remote("far", "Faulty.gone").await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Raised, Class::Executed), "{error:?}");
        assert!(!error.is_safe_to_retry());
        let story = format!("{error:?}");
        for part in ["raised on node `near`", "refused by node `far` (not executed)", "has no method `gone`"] {
            assert!(story.contains(part), "{part}: {story}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cause_is_the_same_however_it_is_handed_on() {
    within(async {
        let (_nodes, stub) = three().await;
        let calls = [
            stub.hand_on("far", "Faulty.raise"),
            stub.hand_on_remote("far", "Faulty.raise"),
            stub.hand_on_cause("far", "Faulty.raise"),
        ];
        for (n, call) in calls.into_iter().enumerate() {
            let error = call.await.unwrap_err();
            let remote: &RemoteError = root_exc(&error).downcast_ref().unwrap();
            assert!(remote.type_name().ends_with("::Oops"), "{n}: {}", remote.type_name());
            assert_eq!(remote.decode::<Oops>().unwrap(), Oops("far away".into()), "{n}");
            assert_eq!((remote.node(), remote.method()), ("far", "Faulty.raise"), "{n}");
            assert!(format!("{error:?}").contains("raised on node `far`"), "{n}: {error:?}");
        }
    })
    .await;
}

/// In virtual time, so that the call has left when its time is over.
#[test]
fn a_call_that_a_method_gave_up_is_told_with_the_type_of_its_cause() {
    virtually(async {
        let (_nodes, stub) = three_at(["mem://late-far", "mem://late-near"]).await;
        let error = stub.hand_on_late("far").await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (Kind::Raised, Class::Executed), "{error:?}");
        let remote = error.remote().unwrap();
        assert!(remote.type_name().ends_with("::CallError"), "{}", remote.type_name());
        assert_eq!(remote.message(), "no answer came in time");
        let story = format!("{error:?}");
        assert!(story.contains("node `far` did not answer in time (may have executed)"), "{story}");
    });
}
