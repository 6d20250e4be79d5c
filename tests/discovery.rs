//! Nodes find each other, whoever else does not answer.

mod common;

use common::{Raw, hello, host_port, within};
use rmi::{InstanceId, Node, Role};
use rmi_core::frame::{GoAway, GoAwayReason, frame_type};
use rmi_core::hello::PeerLimits;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// On one thread, where what was begun first is at work first.
#[tokio::test]
async fn a_seed_that_says_nothing_holds_up_no_other() {
    within(async {
        let mut listeners =
            [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        listeners.sort_by_key(|listener| listener.local_addr().unwrap().port());
        // Seeds are knocked on in the order of their addresses.
        let [silent, taken] = listeners;
        let address = format!("tcp://{}", taken.local_addr().unwrap());
        drop(taken);
        let server = Node::builder().name("server").listen(address.clone()).start().await.unwrap();
        let silent_address = format!("tcp://{}", silent.local_addr().unwrap());
        let client = Node::builder().name("client").seeds([silent_address, address]).start().await.unwrap();
        let (mut knocked, _) = silent.accept().await.unwrap();
        let given_up = async {
            let mut hello = Vec::new();
            knocked.read_to_end(&mut hello).await
        };
        tokio::select! {
            peer = client.peer("server") => assert_eq!(peer.unwrap().name(), server.name()),
            _ = given_up => panic!("the silent seed was given up first"),
        }
    })
    .await;
}

/// Dials a node and is dialled by it, as the process `instance`. Whether the node keeps the connection that it has
/// dialled itself.
async fn keeps_its_own(instance: InstanceId) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut hello = hello("default", "peer", Role::Member, PeerLimits::default());
    hello.node.instance = instance;
    hello.node.addresses = vec![format!("tcp://{}", listener.local_addr().unwrap())];
    let node = Node::builder().name("node").listen("tcp://127.0.0.1:0").seeds(hello.node.addresses.clone());
    let node = node.start().await.unwrap();
    let mut accepted = Raw::accept(&listener, &hello).await;
    node.peers().wait_for(|peers| peers.connected() == 1).await.unwrap();
    let mut dialled = Raw::dial(&host_port(&node)).await;
    dialled.say_hello(&hello).await;
    // Each ping is answered meanwhile: both connections live.
    tokio::select! {
        (_, goaway) = accepted.frame_of(frame_type::GOAWAY) => {
            assert_eq!(GoAway::decode(&goaway).unwrap().reason, GoAwayReason::Duplicate);
            false
        }
        (_, goaway) = async {
            dialled.read_preamble().await;
            dialled.frame_of(frame_type::GOAWAY).await
        } => {
            assert_eq!(GoAway::decode(&goaway).unwrap().reason, GoAwayReason::Duplicate);
            true
        }
    }
}

#[tokio::test]
async fn of_two_connections_the_one_stays_that_the_greater_instance_has_dialled() {
    within(async {
        assert!(keeps_its_own(InstanceId(1)).await);
        assert!(!keeps_its_own(InstanceId(u64::MAX)).await);
    })
    .await;
}
