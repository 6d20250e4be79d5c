//! The service whose methods run into whatever they are told to, and nodes that offer and call it.

use std::sync::Arc;
use std::time::Duration;

use rmi::{Blob, Class, Invocation, InvocationException, Kind, Limits, Node, Peer, RemoteError, Role, args, rmi_node};
use rmi_core::frame::{frame_flag, frame_type};
use rmi_core::hello::PeerLimits;
use rmi_core::message::{Message, Response};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::common::{Counter, Raw, hello, only_link, until_quiet};

#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[error("it is {0}")]
pub(crate) struct Oops(pub(crate) String);

/// Runs into whatever it is told to.
pub(crate) struct Faulty {
    /// How often a method has begun.
    pub(crate) runs: Counter,
    /// Methods wait for this.
    pub(crate) gate: Arc<Semaphore>,
}

impl Default for Faulty {
    fn default() -> Self {
        Self { runs: Counter::default(), gate: Arc::new(Semaphore::new(0)) }
    }
}

/// A value that fails where it is told to.
#[derive(Debug, Clone)]
pub(crate) struct Bomb(pub(crate) Trigger);

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Trigger {
    Never,
    EncodeFails,
    EncodePanics,
    DecodeFails,
    DecodePanics,
    DropPanics,
}

impl Serialize for Bomb {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Trigger::EncodeFails => Err(serde::ser::Error::custom("the bomb does not encode")),
            Trigger::EncodePanics => panic!("on purpose: encode"),
            trigger => trigger.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Bomb {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Trigger::deserialize(deserializer)? {
            Trigger::DecodeFails => Err(serde::de::Error::custom("the bomb does not decode")),
            Trigger::DecodePanics => panic!("on purpose: decode"),
            trigger => Ok(Bomb(trigger)),
        }
    }
}

/// Panics in its drop, once decoded by the callee.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Mine {
    pub(crate) armed: bool,
}

impl Drop for Mine {
    fn drop(&mut self) {
        if self.armed && !std::thread::panicking() {
            panic!("on purpose: drop");
        }
    }
}

#[rmi_node]
impl Faulty {
    pub(crate) async fn fine(&self) -> usize {
        self.runs.add()
    }

    pub(crate) async fn raise(&self, text: String) -> Result<(), Oops> {
        self.runs.add();
        Err(Oops(text))
    }

    pub(crate) async fn panic(&self) -> u8 {
        self.runs.add();
        panic!("on purpose: method")
    }

    pub(crate) async fn panic_later(&self) -> u8 {
        self.runs.add();
        tokio::task::yield_now().await;
        panic!("on purpose: method")
    }

    pub(crate) fn panic_blocking(&self) -> u8 {
        self.runs.add();
        panic!("on purpose: method")
    }

    #[rmi(cpu)]
    pub(crate) fn panic_cpu(&self) -> u8 {
        self.runs.add();
        panic!("on purpose: method")
    }

    #[rmi(direct)]
    pub(crate) fn panic_direct(&self) -> u8 {
        self.runs.add();
        panic!("on purpose: method")
    }

    pub(crate) async fn take_mine(&self, _mine: &Mine) -> u8 {
        self.runs.add();
        1
    }

    pub(crate) fn take_mine_blocking(&self, _mine: &Mine) -> u8 {
        self.runs.add();
        1
    }

    pub(crate) async fn give(&self, trigger: Trigger) -> Bomb {
        self.runs.add();
        Bomb(trigger)
    }

    pub(crate) fn give_blocking(&self, trigger: Trigger) -> Bomb {
        self.runs.add();
        Bomb(trigger)
    }

    pub(crate) async fn take(&self, bomb: Bomb) -> bool {
        self.runs.add();
        bomb.0 == Trigger::Never
    }

    pub(crate) async fn large(&self, len: usize) -> Vec<u8> {
        self.runs.add();
        vec![1; len]
    }

    pub(crate) async fn raise_large(&self, len: usize) -> Result<(), Oops> {
        self.runs.add();
        Err(Oops("a".repeat(len)))
    }

    pub(crate) async fn size(&self, blob: Blob) -> usize {
        self.runs.add();
        blob.len()
    }

    pub(crate) async fn wait(&self) -> u8 {
        self.runs.add();
        let _permit = self.gate.acquire().await;
        1
    }

    pub(crate) fn plain(&self) -> usize {
        self.runs.add()
    }

    #[rmi(allow = "admin")]
    pub(crate) async fn secret(&self) -> usize {
        self.runs.add()
    }

    /// Calls in a way that would block the runtime.
    pub(crate) async fn block(&self, node: &Node) -> rmi::Result<String> {
        let error = FaultyStub::new(&node.peer("server").await?).fine().wait().expect_err("it has blocked");
        assert_eq!((error.kind(), error.class()), (Kind::WouldBlock, Class::NotExecuted));
        Ok(format!("{error:?}"))
    }

    pub(crate) async fn hand_on(&self, node: &Node, to: &str, method: &str) -> rmi::Result<u8> {
        self.runs.add();
        let peer = node.peer(to).await?;
        Ok(peer.invoke(method, args!["far away"]).await?)
    }

    /// Returns the error of the further node as the error that it is.
    pub(crate) async fn hand_on_remote(&self, node: &Node, to: &str, method: &str) -> Result<u8, RemoteError> {
        self.runs.add();
        let peer = node.peer(to).await.expect("it is known");
        let call = peer.invoke::<u8>(method, args!["far away"]);
        call.await.map_err(|error| error.into_cause().expect("it came from another node"))
    }

    /// The same by `?`.
    pub(crate) async fn hand_on_cause(&self, node: &Node, to: &str, method: &str) -> rmi::Result<u8> {
        Ok(self.hand_on_remote(node, to, method).await?)
    }

    pub(crate) async fn hand_on_late(&self, node: &Node, to: &str) -> rmi::Result<u8> {
        self.runs.add();
        let peer = node.peer(to).await?;
        Ok(FaultyStub::new(&peer).wait().with_timeout(Duration::from_millis(20)).await?)
    }

    pub(crate) async fn hand_on_typed(&self, node: &Node, to: &str) -> rmi::Result<()> {
        let peer = node.peer(to).await?;
        Ok(FaultyStub::new(&peer).raise("typed".into()).await?)
    }
}

pub(crate) struct Pair {
    pub(crate) faulty: Arc<Faulty>,
    pub(crate) server: Node,
    pub(crate) client: Node,
    pub(crate) peer: Peer,
    pub(crate) stub: FaultyStub,
}

impl Pair {
    pub(crate) async fn start() -> Self {
        Self::with_limits(Limits::default()).await
    }

    pub(crate) async fn with_limits(limits: Limits) -> Self {
        Self::listening("tcp://127.0.0.1:0", limits).await
    }

    pub(crate) async fn listening(address: &str, limits: Limits) -> Self {
        let faulty = Arc::new(Faulty::default());
        let server = Node::builder().name("server").listen(address).limits(limits.clone());
        let server = server.serve_arc(Arc::clone(&faulty)).start().await.unwrap();
        let client = Node::builder().name("client").seeds(server.addresses()).limits(limits).start().await.unwrap();
        let peer = client.peer("server").await.unwrap();
        let stub = FaultyStub::new(&peer);
        Self { faulty, server, client, peer, stub }
    }

    /// Makes a call that fails, and looks at all that has to be so afterwards.
    pub(crate) async fn fails<T: std::fmt::Debug + serde::de::DeserializeOwned, E: rmi::RemoteCause>(
        &self,
        call: Invocation<T, E>,
        kind: Kind,
        class: Class,
    ) -> InvocationException<E> {
        let (link, before) = (only_link(&self.client), self.faulty.runs.get());
        let error = call.await.unwrap_err();
        assert_eq!((error.kind(), error.class()), (kind, class), "{error:?}");
        assert_eq!(error.is_safe_to_retry(), class == Class::NotExecuted);
        let n_runs = self.faulty.runs.get() - before;
        match class {
            Class::NotExecuted => assert_eq!(n_runs, 0, "{error:?}"),
            Class::Executed => assert_eq!(n_runs, 1, "{error:?}"),
            Class::MaybeExecuted => assert!(n_runs <= 1, "{error:?}"),
        }
        let story = format!("{error:?}");
        assert_eq!(error.peer(), "server");
        assert!(story.contains("Faulty."), "it does not name the method: {story}");
        if !matches!(kind, Kind::RequestEncode | Kind::WouldBlock | Kind::LocalShutdown) {
            assert!(story.contains("server"), "it does not name the peer: {story}");
        }
        self.stub.fine().await.unwrap();
        assert_eq!(only_link(&self.client), link, "the connection is another one");
        until_quiet(&[&self.client, &self.server]).await;
        error
    }
}
/// A request as a stranger writes it: method, no arguments, remaining milliseconds.
pub(crate) fn request(method: &str, remaining: Option<u8>) -> Vec<u8> {
    let mut body = vec![if remaining.is_some() { 0x94 } else { 0x91 }, 0xa0 | method.len() as u8];
    body.extend_from_slice(method.as_bytes());
    body.extend(remaining.into_iter().flat_map(|ms| [0x90, 0x80, ms]));
    body
}

pub(crate) async fn answer(raw: &mut Raw) -> (u64, Response) {
    let (header, payload) = raw.frame_of(frame_type::RESPONSE).await;
    let response = Response::decode(&Message::Borrowed(&payload), header.has(frame_flag::EXCEPTION)).unwrap();
    (header.id, response)
}

/// A peer of which only the handshake is honest, and a node that is connected to it.
pub(crate) async fn impostor(limits: PeerLimits) -> (Raw, Node, Peer, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let seed = format!("tcp://{}", listener.local_addr().unwrap());
    let client = Node::builder().name("client").seed(&seed).start().await.unwrap();
    let raw = Raw::accept(&listener, &hello("default", "server", Role::Client, limits)).await;
    let peer = client.peer("server").await.unwrap();
    (raw, client, peer, listener)
}
