//! What does a node say to an end that breaks the protocol? A GOAWAY that says so, and then it closes.

#![cfg(feature = "net")]

use std::time::Duration;

use rmi::Node;
use rmi_core::frame::{FrameHeader, GoAway, GoAwayReason, HEADER_LEN, PREAMBLE, frame_flag, frame_type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The least HELLO of `docs/wire.md`, with the cluster that a node belongs to by default, and this instance.
fn hello(instance: u8) -> Vec<u8> {
    hello_of(b"\x92\x01\x01", b"\xa7default", &[instance])
}

fn hello_of(versions: &[u8], cluster: &[u8], instance: &[u8]) -> Vec<u8> {
    [b"\x84\x00", versions, b"\x03", cluster, b"\x05", instance, b"\x06\x01"].concat()
}

fn frame(frame_type: u8, flags: u8, id: u64, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader::new(frame_type, id, payload.len()).with_flags(flags);
    [&header.encode()[..], payload].concat()
}

async fn node() -> (Node, String) {
    let node = Node::builder().name("calc").listen("tcp://127.0.0.1:0").start().await.unwrap();
    let address = node.addresses()[0].to_string();
    (node, address.strip_prefix("tcp://").unwrap().to_owned())
}

/// Sends the preamble and `frames` in one write. Gives back the GOAWAY that comes.
async fn goaway_after(address: &str, frames: &[Vec<u8>]) -> GoAway {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&[&PREAMBLE[..], &frames.concat()].concat()).await.unwrap();
    read_goaway(&mut stream).await
}

/// Reads to the end.
async fn read_goaway(stream: &mut TcpStream) -> GoAway {
    let mut read = Vec::new();
    timeout(Duration::from_secs(10), stream.read_to_end(&mut read)).await.expect("the node closes").unwrap();
    let mut rest = read.strip_prefix(&PREAMBLE).expect("a preamble, whatever follows");
    let mut goaway = None;
    while let Some(header) = FrameHeader::decode(rest).unwrap() {
        let (frame, behind) = rest.split_at(HEADER_LEN + header.payload_len);
        if header.frame_type == frame_type::GOAWAY {
            goaway = Some(GoAway::decode(&frame[HEADER_LEN..]).unwrap());
        }
        rest = behind;
    }
    goaway.expect("a GOAWAY")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breach_is_answered_with_goaway_even_right_behind_the_hello() {
    let (_node, address) = node().await;
    let nobody = b"\x91\xa6nobody";
    let breaches = [
        ("an unknown type", frame(0x8f, 0, 0, b"")),
        ("a second hello", frame(frame_type::HELLO, 0, 0, &hello(7))),
        ("a request 0", frame(frame_type::REQUEST, 0, 0, nobody)),
        ("an answer to no call", frame(frame_type::RESPONSE, 0, 5, b"\xc0")),
        ("the opening of an answer to no call", {
            frame(frame_type::RESPONSE, frame_flag::MORE, 5, b"\x10\x27\0\0\0\0\0\0\xc0")
        }),
        ("a part of no message", frame(frame_type::PART, 0, 5, &[0; 5000])),
        ("seven bytes of credit", frame(frame_type::WINDOW, 0, 0, &[0; 7])),
    ];
    for (what, breach) in breaches {
        // Often enough to meet the node before it has begun to write.
        for instance in 1..20 {
            let frames = [frame(frame_type::HELLO, 0, 0, &hello(instance)), breach.clone()];
            let goaway = goaway_after(&address, &frames).await;
            assert_eq!((goaway.reason, goaway.last_accepted), (GoAwayReason::Protocol, 0), "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breach_says_which_requests_were_accepted() {
    let (_node, address) = node().await;
    let request = |id| frame(frame_type::REQUEST, 0, id, b"\x91\xa6nobody");
    let frames = [frame(frame_type::HELLO, 0, 0, &hello(1)), request(3), request(8), request(8)];
    let goaway = goaway_after(&address, &frames).await;
    assert_eq!((goaway.reason, goaway.last_accepted), (GoAwayReason::Protocol, 8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_fails_is_answered_with_goaway() {
    let (_node, address) = node().await;
    let hellos = [
        ("no map", b"\xc0".to_vec(), GoAwayReason::Protocol),
        ("no instance", hello(0), GoAwayReason::Protocol),
        ("an early end", b"\x84\x00".to_vec(), GoAwayReason::Protocol),
        ("another version", hello_of(b"\x92\x02\x03", b"\xa7default", b"\x07"), GoAwayReason::Version),
        ("another cluster", hello_of(b"\x92\x01\x01", b"\xa5other", b"\x07"), GoAwayReason::ForeignCluster),
        ("another version first", hello_of(b"\x92\x02\x03", b"\xa5other", b"\x07"), GoAwayReason::Version),
    ];
    for (what, hello, reason) in hellos {
        let goaway = goaway_after(&address, &[frame(frame_type::HELLO, 0, 0, &hello)]).await;
        assert_eq!((goaway.reason, goaway.last_accepted), (reason, 0), "{what}");
    }
    let goaway = goaway_after(&address, &[frame(frame_type::PING, 0, 0, b"")]).await;
    assert_eq!(goaway.reason, GoAwayReason::Protocol);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dialer_that_refuses_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let _node = Node::builder().name("calc").seed(address.as_str()).start().await.unwrap();
    let (mut stream, _) = timeout(Duration::from_secs(10), listener.accept()).await.expect("it dials").unwrap();
    let foreign = hello_of(b"\x92\x01\x01", b"\xa5other", b"\x07");
    stream.write_all(&[&PREAMBLE[..], &frame(frame_type::HELLO, 0, 0, &foreign)].concat()).await.unwrap();
    assert_eq!(read_goaway(&mut stream).await.reason, GoAwayReason::ForeignCluster);
}
