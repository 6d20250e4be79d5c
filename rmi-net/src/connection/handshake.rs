//! The first exchange on a connection: who is there, and do we talk.
//!
//! The dialer sends the preamble and its Hello, and nothing more until the other's Hello is here. The acceptor answers
//! when it has checked them: with its own Hello, or with the reason why not. To what does not begin like RMI it says
//! nothing at all. What is read before the end of the handshake is bounded by one Hello.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use rmi_core::frame::{
    FrameError, FrameHeader, GoAway, GoAwayReason, HEADER_LEN, MAX_HELLO, PREAMBLE, VERSIONS, frame_type, put_frame,
};
use rmi_core::hello::{Hello, features};
use rmi_core::scan::ScanError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::limits::LINGER;
use crate::seam::{Clock, Stream};

/// What a handshake gives.
#[derive(Debug)]
pub(crate) struct Greeting {
    /// The peer's Hello.
    pub(crate) hello: Hello,
    pub(crate) stream: Stream,
    /// What the peer has sent behind its Hello.
    pub(crate) buffer: BytesMut,
}

/// Why two ends do not talk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The network failed.
    #[error("the network failed during the handshake")]
    Io(#[from] std::io::Error),
    /// The other end closed the connection before it said who it is.
    #[error("the other end closed the connection before it said who it is")]
    Closed,
    /// The other end is something else.
    #[error("the other end does not speak RMI")]
    NotRmi,
    /// The other end's first frames break the protocol.
    #[error("the other end breaks the protocol")]
    Frame(#[from] FrameError),
    /// The first frame is no Hello, or is larger than one may be.
    #[error("the first frame of the other end is no Hello, or has more than {MAX_HELLO} bytes")]
    NoHello,
    /// The other end's Hello cannot be read.
    #[error("the other end's Hello cannot be read")]
    BadHello(#[source] ScanError),
    /// There is no version, or not every feature, that both ends know.
    #[error(
        "the other end speaks versions {theirs:?} of the protocol, this node {VERSIONS:?}, and it requires features {required:#x}"
    )]
    Version {
        /// The oldest and the newest version that the other end speaks.
        theirs: (u64, u64),
        /// The features without which it does not talk.
        required: u64,
    },
    /// The two nodes belong to different clusters.
    #[error("the other end belongs to cluster `{theirs}`, this node to `{ours}`")]
    ForeignCluster {
        /// This node's cluster.
        ours: String,
        /// The other's.
        theirs: String,
    },
    /// Both ends are this node.
    #[error("the address leads to this node itself")]
    SelfConnect,
    /// This node is shutting down.
    #[error("this node is shutting down")]
    Stopping,
    /// This node has as many connections as it may.
    #[error("this node has as many connections as it may: raise `Limits::with_connections`")]
    Full,
    /// The other end has as many connections with this node as one process may.
    #[error("the other end has too many connections with this node already")]
    TooManyConnections,
    /// The other end does not want to talk.
    #[error("the other end refused: {message} ({reason:?})")]
    Refused {
        /// Why.
        reason: GoAwayReason,
        /// Its words.
        message: String,
    },
    /// It took too long.
    #[error("the handshake was not done in time")]
    TimedOut,
}

/// A handshake that came to nothing.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: HandshakeError,
    pub(crate) farewell: Farewell,
}

/// What the other end is told of a handshake that came to nothing.
#[derive(Debug)]
pub(crate) struct Farewell {
    stream: Stream,
    /// Nothing, to those who do not speak RMI or are gone.
    words: Option<BytesMut>,
}

/// Exchanges Hellos. The caller bounds the time. `is_welcome` is asked last, about somebody who could come in.
pub(crate) async fn greet(
    mut stream: Stream,
    ours: &Hello,
    is_dialer: bool,
    is_welcome: impl FnOnce(&Hello) -> Result<(), HandshakeError>,
) -> Result<Greeting, Refusal> {
    let mut buffer = BytesMut::new();
    match exchange(&mut stream, &mut buffer, ours, is_dialer, is_welcome).await {
        Ok(hello) => Ok(Greeting { hello, stream, buffer }),
        Err(error) => {
            let words = farewell(&error, is_dialer);
            Err(Refusal { error, farewell: Farewell { stream, words } })
        }
    }
}

async fn exchange(
    stream: &mut Stream,
    buffer: &mut BytesMut,
    ours: &Hello,
    is_dialer: bool,
    is_welcome: impl FnOnce(&Hello) -> Result<(), HandshakeError>,
) -> Result<Hello, HandshakeError> {
    if is_dialer {
        send_hello(stream, ours).await?;
    }
    let hello = read_hello(stream, buffer).await?;
    check(ours, &hello)?;
    is_welcome(&hello)?;
    if !is_dialer {
        send_hello(stream, ours).await?;
    }
    Ok(hello)
}

async fn send_hello(stream: &mut Stream, hello: &Hello) -> std::io::Result<()> {
    let mut out = BytesMut::from(&PREAMBLE[..]);
    put_frame(&mut out, frame_type::HELLO, 0, 0, |out| hello.encode(out));
    stream.writer.write_all(&out).await
}

impl Farewell {
    /// Says it. It takes as long as the other end goes on to send, 2 s at most.
    pub(crate) async fn say(mut self, clock: Arc<dyn Clock>) {
        let Some(words) = self.words.take() else { return };
        let say = async {
            self.stream.writer.write_all(&words).await?;
            self.stream.writer.shutdown().await?;
            // Closing with unread input would throw the words away.
            tokio::io::copy(&mut self.stream.reader, &mut tokio::io::sink()).await
        };
        tokio::select! {
            biased;
            // Looked at first: reading what never ends would leave it no turn.
            () = clock.sleep_until(clock.now() + LINGER) => {}
            // Who cannot be told is not told.
            _ = say => {}
        }
    }
}

fn farewell(error: &HandshakeError, is_dialer: bool) -> Option<BytesMut> {
    let reason = match error {
        HandshakeError::Frame(_) | HandshakeError::BadHello(_) | HandshakeError::NoHello => GoAwayReason::Protocol,
        HandshakeError::Version { .. } => GoAwayReason::Version,
        HandshakeError::ForeignCluster { .. } => GoAwayReason::ForeignCluster,
        HandshakeError::SelfConnect => GoAwayReason::SelfConnect,
        HandshakeError::Stopping => GoAwayReason::Shutdown,
        HandshakeError::Full | HandshakeError::TooManyConnections => GoAwayReason::TooMuch,
        HandshakeError::Io(_)
        | HandshakeError::Closed
        | HandshakeError::NotRmi
        | HandshakeError::Refused { .. }
        | HandshakeError::TimedOut => return None,
    };
    // In words that are right where they are read: there "this node" is the other one.
    let message = match error {
        HandshakeError::ForeignCluster { ours, theirs } => format!("its cluster is `{ours}`, and not `{theirs}`"),
        HandshakeError::SelfConnect => "both ends are the same node".to_owned(),
        HandshakeError::Stopping => "it is shutting down".to_owned(),
        HandshakeError::Full => "it has as many connections as it may".to_owned(),
        HandshakeError::TooManyConnections => "there are too many connections between the two nodes already".to_owned(),
        HandshakeError::Version { theirs, .. } => {
            format!("it speaks versions {VERSIONS:?} of the protocol, and not {theirs:?}, or lacks a feature")
        }
        error => error.to_string(),
    };
    let goaway = GoAway { reason, last_accepted: 0, message };
    // The dialer's preamble went out with its Hello.
    let mut words = if is_dialer { BytesMut::new() } else { BytesMut::from(&PREAMBLE[..]) };
    put_frame(&mut words, frame_type::GOAWAY, 0, 0, |out| goaway.encode(out));
    Some(words)
}

async fn read_hello(stream: &mut Stream, buffer: &mut BytesMut) -> Result<Hello, HandshakeError> {
    // Looked at byte by byte as they come: what is not RMI is not waited for.
    while buffer.len() < PREAMBLE.len() {
        read_some(stream, buffer, PREAMBLE.len() - buffer.len()).await?;
        if !PREAMBLE.starts_with(buffer) {
            return Err(HandshakeError::NotRmi);
        }
    }
    buffer.clear();
    let header = loop {
        if let Some(header) = FrameHeader::decode(buffer)? {
            break header;
        }
        read_some(stream, buffer, HEADER_LEN - buffer.len()).await?;
    };
    let is_hello = header.frame_type == frame_type::HELLO;
    if header.payload_len > MAX_HELLO || !(is_hello || header.frame_type == frame_type::GOAWAY) {
        return Err(HandshakeError::NoHello);
    }
    let frame_len = HEADER_LEN + header.payload_len;
    while buffer.len() < frame_len {
        read_some(stream, buffer, frame_len - buffer.len()).await?;
    }
    buffer.advance(HEADER_LEN);
    let payload = buffer.split_to(header.payload_len);
    if is_hello {
        return Hello::decode(&payload).map_err(HandshakeError::BadHello);
    }
    let GoAway { reason, message, .. } = GoAway::decode(&payload)?;
    Err(HandshakeError::Refused { reason, message })
}

/// Reads no more than `most` bytes, into memory that is no larger than what came before plus a page.
async fn read_some(stream: &mut Stream, buffer: &mut BytesMut, most: usize) -> Result<(), HandshakeError> {
    use bytes::BufMut;
    buffer.reserve(most.min(4096));
    match stream.reader.read_buf(&mut buffer.limit(most)).await? {
        0 => Err(HandshakeError::Closed),
        _ => Ok(()),
    }
}

fn check(ours: &Hello, theirs: &Hello) -> Result<(), HandshakeError> {
    let speak_the_same = ours.versions.0.max(theirs.versions.0) <= ours.versions.1.min(theirs.versions.1);
    if !speak_the_same || theirs.required & !features::KNOWN != 0 {
        return Err(HandshakeError::Version { theirs: theirs.versions, required: theirs.required });
    }
    if ours.cluster != theirs.cluster {
        return Err(HandshakeError::ForeignCluster { ours: ours.cluster.clone(), theirs: theirs.cluster.clone() });
    }
    if ours.node.instance == theirs.node.instance {
        return Err(HandshakeError::SelfConnect);
    }
    Ok(())
}
