//! The bytes of `docs/wire.md`, as the code writes and reads them.
//!
//! [`cases`] is the list: what each message says, and, where this code would write it, the bytes that it writes.
//! `golden/wire.txt` holds the bytes that must come out; they change only together with the version of the protocol.
//! The blocks in `docs/wire.md` that begin with a fence and `hex NAME` are held to the same list.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rmi_core::{
    Args, Blob, Class, Kind, Value, args,
    exception::{Exception, Place},
    frame::{self, FrameHeader, GoAway, GoAwayReason, HEADER_LEN, PREAMBLE, frame_flag, frame_type, put_frame},
    hello::{Hello, InstanceId, NodeRecord, PeerLimits, Role, decode_records, encode_records},
    message::{IncomingRequest, Message, Request, Response, Target},
    payload::Payload,
    scan::Scanner,
    scope::Scope,
};
use serde::Serialize;

/// The bytes that must come out: `[name]`, then hex. `61*3` is `61 61 61`, and behind a `#` stands what it means.
const GOLDEN: &str = include_str!("golden/wire.txt");

/// The specification.
const WIRE_MD: &str = include_str!("../../docs/wire.md");

// What a frame says, in a form that can be compared.

#[derive(Debug, Clone, PartialEq)]
enum Said {
    Skipped,
    Peers(Vec<NodeRecord>),
    Hello(Box<Hello>),
    Call(Called),
    Opening { total: u64, first: Vec<u8> },
    Part(Vec<u8>),
    Value(Value),
    Exception(Box<Raised>),
    Window(u64),
    Cancel,
    GoAway(GoAway),
    Ping,
    Pong,
}

#[derive(Debug, Clone, PartialEq)]
struct Called {
    method: String,
    args: Value,
    kwargs: Option<Value>,
    remaining: Option<Duration>,
    is_one_way: bool,
    is_no_cancel: bool,
    trace_parent: Option<String>,
}

/// [`Exception`] with its payload decoded.
#[derive(Debug, Clone, PartialEq)]
struct Raised {
    kind: Kind,
    class: Class,
    type_name: String,
    message: String,
    chain: Vec<String>,
    payload: Option<Value>,
    node: String,
    method: String,
    via: Vec<Place>,
    retry_after: Option<Duration>,
}

impl From<Exception> for Raised {
    fn from(exception: Exception) -> Self {
        let Exception { kind, class, type_name, message, chain, payload, node, method, via, retry_after } = exception;
        let type_name = type_name.into_owned();
        let payload = payload.map(|payload| payload.decode().expect("a payload that is kept has passed the scanner"));
        Self { kind, class, type_name, message, chain, payload, node, method, via, retry_after }
    }
}

/// Reads what one frame says: every decoder of this crate is behind this.
fn read(header: FrameHeader, payload: &[u8]) -> Result<Said, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let message = || {
        Message::from_bytes(&Bytes::copy_from_slice(payload), header.has(frame_flag::ATTACHMENTS))
            .map_err(|error| text(&error))
    };
    match header.frame_type {
        frame_type::PEERS => decode_records(payload).map(Said::Peers).map_err(|error| text(&error)),
        0..0x80 => Ok(Said::Skipped),
        frame_type::HELLO => {
            Hello::decode(payload).map(|hello| Said::Hello(Box::new(hello))).map_err(|error| text(&error))
        }
        frame_type::REQUEST | frame_type::RESPONSE if header.has(frame_flag::MORE) => {
            let (total, first) = frame::split_opening(payload).map_err(|error| text(&error))?;
            Ok(Said::Opening { total, first: first.to_vec() })
        }
        frame_type::REQUEST => read_request(&message()?).map(Said::Call),
        frame_type::RESPONSE => read_response(&message()?, header.has(frame_flag::EXCEPTION)),
        frame_type::PART => Ok(Said::Part(payload.to_vec())),
        frame_type::WINDOW => frame::decode_window(payload).map(Said::Window).map_err(|error| text(&error)),
        frame_type::CANCEL => Ok(Said::Cancel),
        frame_type::GOAWAY => GoAway::decode(payload).map(Said::GoAway).map_err(|error| text(&error)),
        frame_type::PING => Ok(Said::Ping),
        frame_type::PONG => Ok(Said::Pong),
        frame_type => Err(frame::FrameError::UnknownType(frame_type).to_string()),
    }
}

fn read_request(message: &Message<'_>) -> Result<Called, String> {
    let request = IncomingRequest::decode(message.body()).map_err(|error| error.to_string())?;
    let value = |bytes: &[u8]| {
        let payload = Payload::shared(Bytes::copy_from_slice(bytes), message.attachments().to_vec());
        payload.decode::<Value>().map_err(|error| error.to_string())
    };
    let mut args = request.args;
    let args: Result<Vec<_>, _> = std::iter::from_fn(|| args.take()).map(value).collect();
    Ok(Called {
        method: request.method().map_err(|error| error.to_string())?.to_owned(),
        args: args.map(Value::Array)?,
        kwargs: request.kwargs.map(value).transpose()?,
        remaining: request.remaining,
        is_one_way: request.is_one_way(),
        is_no_cancel: request.is_no_cancel(),
        trace_parent: request.trace_parent.map(str::to_owned),
    })
}

fn read_response(message: &Message<'_>, is_exception: bool) -> Result<Said, String> {
    match Response::decode(message, is_exception).map_err(|error| error.to_string())? {
        Response::Value(payload) => payload.decode().map(Said::Value).map_err(|error| error.to_string()),
        Response::Exception(exception) => {
            // A blob in the payload can point to an attachment that is not there: the text is still good.
            if let Some(Err(error)) = exception.payload.as_ref().map(Payload::decode::<Value>) {
                return Err(error.to_string());
            }
            Ok(Said::Exception(Box::new((*exception).into())))
        }
    }
}

// The cases.

struct Case {
    name: &'static str,
    flags: u8,
    frame_type: u8,
    id: u64,
    /// What this code writes; `None` for what only others write.
    written: Option<Vec<u8>>,
    said: Said,
}

fn case(name: &'static str, frame_type: u8, id: u64, said: Said) -> Case {
    Case { name, flags: 0, frame_type, id, written: None, said }
}

impl Case {
    fn flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    fn written(self, payload: impl FnOnce(&mut BytesMut)) -> Self {
        let mut frame = BytesMut::new();
        put_frame(&mut frame, self.frame_type, self.flags, self.id, payload);
        Self { written: Some(frame.to_vec()), ..self }
    }
}

fn written_message(encode: impl FnOnce(&mut BytesMut), attachments: &[Bytes]) -> Vec<u8> {
    let mut message = BytesMut::new();
    encode(&mut message);
    attachments.iter().for_each(|attachment| message.extend_from_slice(attachment));
    message.to_vec()
}

fn written_request(request: &Request, remaining: Option<Duration>) -> Vec<u8> {
    written_message(|out| request.encode(remaining, out), request.args.attachments())
}

fn written_response(response: &Response) -> Vec<u8> {
    written_message(|out| response.encode(out), response.attachments())
}

fn request(name: &'static str, id: u64, request: &Request, remaining: Option<Duration>, said: Called) -> Case {
    let flags = if request.args.attachments().is_empty() { 0 } else { frame_flag::ATTACHMENTS };
    let message = written_request(request, remaining);
    case(name, frame_type::REQUEST, id, Said::Call(said)).flags(flags).written(|out| out.extend_from_slice(&message))
}

fn response(name: &'static str, id: u64, response: &Response, said: Said) -> Case {
    let is_exception = matches!(response, Response::Exception(_));
    let flags = if is_exception { frame_flag::EXCEPTION } else { 0 }
        | if response.attachments().is_empty() { 0 } else { frame_flag::ATTACHMENTS };
    let message = written_response(response);
    case(name, frame_type::RESPONSE, id, said).flags(flags).written(|out| out.extend_from_slice(&message))
}

fn exception(name: &'static str, id: u64, exception: Exception) -> Case {
    let said = Said::Exception(Box::new(exception.clone().into()));
    response(name, id, &Response::exception(exception), said)
}

fn called(method: &str, args: Value) -> Called {
    Called {
        method: method.to_owned(),
        args,
        kwargs: None,
        remaining: None,
        is_one_way: false,
        is_no_cancel: false,
        trace_parent: None,
    }
}

fn call(method: &str, args: Args) -> Request {
    Request::new(Target::by_name(method), args)
}

fn flagged(one_way: bool, no_cancel: bool, scope: Option<Scope>, mut request: Request) -> Request {
    (request.one_way, request.no_cancel, request.scope) = (one_way, no_cancel, scope);
    request
}

fn array(items: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(items.into_iter().collect())
}

fn map(name: &str, value: impl Into<Value>) -> Value {
    Value::Map(vec![(Value::from(name), value.into())])
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn traced() -> Option<Scope> {
    Some(Scope::new(None).with_trace_parent(Some(Arc::from(TRACE))))
}

fn cases() -> Vec<Case> {
    let mut cases = handshake_cases();
    cases.extend(request_cases());
    cases.extend(response_cases());
    cases.extend(part_cases());
    cases.extend(control_cases());
    cases
}

fn dialer() -> Hello {
    let mut node = NodeRecord::new(InstanceId(0x1122_3344_5566_7788), "desk");
    node.role = Role::Client;
    Hello::new("demo", node, PeerLimits::default())
}

fn acceptor() -> Hello {
    let mut node = NodeRecord::new(InstanceId(0x99aa_bbcc_ddee_ff00), "calc");
    node.addresses = vec!["tcp://10.0.0.7:5000".to_owned()];
    node.labels = BTreeMap::from([("zone".to_owned(), "north".to_owned())]);
    node.node_type = "worker".to_owned();
    node.machine = "host7".to_owned();
    node.pid = 4711;
    node.services = vec!["Calculator".to_owned()];
    Hello::new("demo", node, PeerLimits::default())
}

fn handshake_cases() -> Vec<Case> {
    let hello = |name, hello: Hello| {
        case(name, frame_type::HELLO, 0, Said::Hello(Box::new(hello.clone()))).written(|out| hello.encode(out))
    };
    let mut least = Hello::new("demo", NodeRecord::new(InstanceId(7), ""), PeerLimits::default());
    least.node.role = Role::Client;
    let mut future = least.clone();
    future.versions = (1, 3);
    future.features = 0x8000_0000_0000_0001;
    future.required = 1;
    future.limits = PeerLimits { message: 1 << 20, in_flight: 0, window: 1 << 16, reassembly: 64 << 20 };
    let records = [acceptor().node, dialer().node];
    vec![
        hello("hello-dialer", dialer()),
        hello("hello-acceptor", acceptor()),
        case("hello-least", frame_type::HELLO, 0, Said::Hello(Box::new(least))),
        case("hello-future", frame_type::HELLO, 0, Said::Hello(Box::new(future))),
        case("peers", frame_type::PEERS, 0, Said::Peers(records.to_vec())).written(|out| {
            encode_records(&records, out);
        }),
        case("peers-none", frame_type::PEERS, 0, Said::Peers(Vec::new())).written(|out| {
            encode_records(&[], out);
        }),
    ]
}

fn request_cases() -> Vec<Case> {
    let add = called("Calculator.add", array([Value::Int(1)]));
    let add = Called { kwargs: Some(map("b", 2)), ..add };
    let ping = || called("Calculator.ping", array([]));
    let ms = Duration::from_millis;
    let one_way = |one_way, no_cancel| flagged(one_way, no_cancel, None, call("Calculator.ping", args![]));
    let all = flagged(true, true, traced(), call("Calculator.add", args![1, b = 2]));
    let blob = || Blob::from(vec![0xde, 0xad, 0xbe, 0xef]);
    vec![
        request("request-add", 1, &call("Calculator.add", args![1, b = 2]), None, add.clone()),
        request(
            "request-div",
            2,
            &call("Calculator.div", args![1, 0]),
            None,
            called("Calculator.div", array([Value::Int(1), Value::Int(0)])),
        ),
        request("request-least", 3, &call("Calculator.ping", args![]), None, ping()),
        request(
            "request-kwargs",
            4,
            &call("Calculator.add", args![a = 1, b = 2]),
            None,
            Called {
                args: array([]),
                kwargs: Some(Value::Map(vec![(Value::from("a"), Value::Int(1)), (Value::from("b"), Value::Int(2))])),
                ..add.clone()
            },
        ),
        request(
            "request-remaining",
            5,
            &call("Calculator.ping", args![]),
            Some(Duration::from_micros(1500)),
            Called { remaining: Some(ms(2)), ..ping() },
        ),
        request(
            "request-expired",
            6,
            &call("Calculator.ping", args![]),
            Some(Duration::ZERO),
            Called { remaining: Some(Duration::ZERO), ..ping() },
        ),
        request("request-one-way", 7, &one_way(true, false), None, Called { is_one_way: true, ..ping() }),
        request("request-no-cancel", 8, &one_way(false, true), None, Called { is_no_cancel: true, ..ping() }),
        request(
            "request-trace",
            9,
            &flagged(false, false, traced(), call("Calculator.ping", args![])),
            None,
            Called { trace_parent: Some(TRACE.to_owned()), ..ping() },
        ),
        request(
            "request-all",
            10,
            &all,
            Some(ms(5000)),
            Called {
                remaining: Some(ms(5000)),
                is_one_way: true,
                is_no_cancel: true,
                trace_parent: Some(TRACE.to_owned()),
                ..add.clone()
            },
        ),
        request(
            "request-blob",
            11,
            &call("Files.store", args!["a", blob()]),
            None,
            called("Files.store", array([Value::from("a"), Value::Blob(blob())])),
        ),
        request(
            "request-blobs",
            12,
            &call("Files.store", args![Blob::default(), data = blob()]),
            None,
            Called {
                kwargs: Some(map("data", blob())),
                ..called("Files.store", array([Value::Blob(Blob::default())]))
            },
        ),
        // Written by others: every element nil, elements that are not known, longer forms than needed, more than a day.
        case("request-nils", frame_type::REQUEST, 13, Said::Call(ping())),
        case("request-surplus", frame_type::REQUEST, 14, Said::Call(add.clone())),
        case("request-long-forms", frame_type::REQUEST, 15, Said::Call(add)),
        case(
            "request-two-days",
            frame_type::REQUEST,
            16,
            Said::Call(Called { remaining: Some(Duration::from_secs(86_400)), ..ping() }),
        ),
        case("request-unknown-flags", frame_type::REQUEST, 17, Said::Call(ping())).flags(0xf0),
    ]
}

#[derive(Serialize)]
enum MathError {
    DivisionByZero,
    Overflow { bits: u8 },
}

fn response_cases() -> Vec<Case> {
    let value = |value: &Value| Response::Value(Payload::encode(value).expect("a value can be encoded"));
    let blob = Value::Blob(Blob::from(vec![0xca, 0xfe]));
    let div = Exception {
        type_name: "app::MathError".into(),
        payload: Payload::encode(&MathError::DivisionByZero).ok(),
        node: "calc".to_owned(),
        method: "Calculator.div".to_owned(),
        ..Exception::new(Kind::Raised, "division by zero")
    };
    let place = |node: &str, kind, class| Place { node: node.to_owned(), method: "B.g".to_owned(), kind, class };
    let all = Exception {
        type_name: "app::MathError".into(),
        chain: vec!["63 bits".to_owned(), "overflow".to_owned()],
        payload: Payload::encode(&MathError::Overflow { bits: 63 }).ok(),
        node: "a".to_owned(),
        method: "A.f".to_owned(),
        via: vec![place("b", Kind::Raised, Class::Executed), place("c", Kind::Timeout, Class::MaybeExecuted)],
        retry_after: Some(Duration::from_millis(250)),
        ..Exception::new(Kind::Raised, "too large")
    };
    let raised_blob = Exception { payload: Payload::encode(&blob).ok(), ..Exception::new(Kind::Raised, "x") };
    let busy =
        Exception { retry_after: Some(Duration::from_millis(100)), ..Exception::new(Kind::Busy, "1024 calls run") };
    let unknown = Exception::new(Kind::Other(999), "?").with_class(Class::NotExecuted);
    let said = |exception: Exception| Said::Exception(Box::new(exception.into()));
    let surplus =
        Exception { via: vec![place("b", Kind::Raised, Class::Executed)], ..Exception::new(Kind::Raised, "x") };
    vec![
        response("response-add", 1, &value(&Value::Int(3)), Said::Value(Value::Int(3))),
        exception("exception-div", 2, div),
        response("response-nil", 3, &value(&Value::Nil), Said::Value(Value::Nil)),
        response("response-blob", 4, &value(&blob), Said::Value(blob.clone())),
        exception("exception-short", 5, Exception::new(Kind::NoSuchMethod, "there is no method `x`")),
        exception("exception-busy", 6, busy),
        exception("exception-all", 7, all),
        exception("exception-blob", 8, raised_blob),
        exception("exception-unknown-kind", 9, unknown),
        // Written by others: nothing at all, no class, keys and elements that are not known, a payload that is no value.
        case("exception-empty", frame_type::RESPONSE, 10, said(Exception::new(Kind::Other(0), "")))
            .flags(frame_flag::EXCEPTION),
        case("exception-no-class", frame_type::RESPONSE, 11, said(Exception::new(Kind::Denied, "")))
            .flags(frame_flag::EXCEPTION),
        case("exception-surplus", frame_type::RESPONSE, 12, said(surplus)).flags(frame_flag::EXCEPTION),
        case("exception-bad-payload", frame_type::RESPONSE, 13, said(Exception::new(Kind::Raised, "")))
            .flags(frame_flag::EXCEPTION),
    ]
}

fn part_cases() -> Vec<Case> {
    let store = call("Files.store", args![Blob::from(vec![0x61; 70_000])]);
    let store = split(frame_type::REQUEST, frame_flag::ATTACHMENTS, 5, &written_request(&store, None), 65_536);
    let text = Response::Value(Payload::encode(&"b".repeat(70_000)).expect("text can be encoded"));
    let text = split(frame_type::RESPONSE, 0, 6, &written_response(&text), 40_000);
    let raised = Exception::new(Kind::Raised, "c".repeat(66_000));
    let raised = written_response(&Response::exception(raised));
    let raised = split(frame_type::RESPONSE, frame_flag::EXCEPTION, 7, &raised, 65_536);
    let names: [&[&'static str]; 3] = [
        &["store-opening", "store-part", "store-last"],
        &["text-opening", "text-part", "text-last"],
        &["raised-opening", "raised-last"],
    ];
    let mut cases = Vec::new();
    for (names, frames) in names.into_iter().zip([store, text, raised]) {
        assert_eq!(names.len(), frames.len());
        for (name, (header, payload)) in names.iter().zip(frames) {
            let said = match header.frame_type {
                frame_type::PART => Said::Part(payload.clone()),
                _ => {
                    let total: [u8; 8] = payload[..8].try_into().expect("it has eight bytes");
                    Said::Opening { total: u64::from_le_bytes(total), first: payload[8..].to_vec() }
                }
            };
            let case = case(name, header.frame_type, header.id, said).flags(header.flags);
            cases.push(case.written(|out| out.extend_from_slice(&payload)));
        }
    }
    cases
}

fn control_cases() -> Vec<Case> {
    let goaway = |name, reason, last_accepted, message: &str| {
        let goaway = GoAway { reason, last_accepted, message: message.to_owned() };
        case(name, frame_type::GOAWAY, 0, Said::GoAway(goaway.clone())).written(|out| goaway.encode(out))
    };
    let least = GoAway { reason: GoAwayReason::Shutdown, last_accepted: u64::MAX, message: String::new() };
    let future = GoAway { reason: GoAwayReason::Other(99), last_accepted: 3, message: "late".to_owned() };
    vec![
        case("window", frame_type::WINDOW, 0, Said::Window(262_144))
            .written(|out| out.extend_from_slice(&262_144u64.to_le_bytes())),
        case("cancel", frame_type::CANCEL, 5, Said::Cancel).written(|_| {}),
        case("ping", frame_type::PING, 42, Said::Ping).written(|_| {}),
        case("pong", frame_type::PONG, 42, Said::Pong).written(|_| {}),
        case("pad", frame_type::PAD, 0, Said::Skipped).written(|_| {}),
        // A request that was taken back in its buffer: only the type was changed.
        case("pad-request", frame_type::PAD, 9, Said::Skipped).written(|out| call("A.f", args![]).encode(None, out)),
        case("unknown-below-80", 0x7f, 1, Said::Skipped).flags(0xff),
        goaway("goaway-shutdown", GoAwayReason::Shutdown, u64::MAX, ""),
        goaway("goaway-drained", GoAwayReason::Shutdown, 17, ""),
        goaway("goaway-duplicate", GoAwayReason::Duplicate, u64::MAX, ""),
        goaway("goaway-idle", GoAwayReason::Idle, 0, ""),
        goaway("goaway-protocol", GoAwayReason::Protocol, 17, "frame type 0xff is unknown"),
        goaway("goaway-too-much", GoAwayReason::TooMuch, 17, "11 pings in 10 s"),
        goaway("goaway-foreign-cluster", GoAwayReason::ForeignCluster, 0, "this is cluster `demo`"),
        goaway("goaway-self", GoAwayReason::SelfConnect, 0, ""),
        goaway("goaway-version", GoAwayReason::Version, 0, "versions 1 to 1"),
        case("goaway-empty", frame_type::GOAWAY, 0, Said::GoAway(least)),
        case("goaway-future", frame_type::GOAWAY, 0, Said::GoAway(future)),
    ]
}

// Messages in parts, as the specification has them.

type Frame = (FrameHeader, Vec<u8>);

fn split(frame_type: u8, flags: u8, id: u64, message: &[u8], part_len: usize) -> Vec<Frame> {
    let frame = |frame_type, flags, payload: Vec<u8>| {
        (FrameHeader::new(frame_type, id, payload.len()).with_flags(flags), payload)
    };
    if message.len() <= frame::MAX_PAYLOAD {
        return vec![frame(frame_type, flags, message.to_vec())];
    }
    let (first, rest) = message.split_at(frame::MAX_OPENING);
    let opening = [&(message.len() as u64).to_le_bytes()[..], first].concat();
    let mut frames = vec![frame(frame_type, flags | frame_flag::MORE, opening)];
    let direction = if frame_type == frame_type::RESPONSE { frame_flag::RESPONSE } else { 0 };
    let mut parts = rest.chunks(part_len).peekable();
    while let Some(part) = parts.next() {
        let more = if parts.peek().is_some() { frame_flag::MORE } else { 0 };
        frames.push(frame(frame_type::PART, direction | more, part.to_vec()));
    }
    frames
}

/// Puts messages together; keyed by direction and id.
#[derive(Default)]
struct Assembly {
    open: BTreeMap<(bool, u64), (u64, Vec<u8>)>,
    whole: BTreeMap<(bool, u64), Vec<u8>>,
}

impl Assembly {
    fn take(&mut self, header: FrameHeader, payload: &[u8]) {
        let is_response = header.frame_type == frame_type::RESPONSE || header.has(frame_flag::RESPONSE);
        let key = (is_response, header.id);
        match (header.frame_type, header.has(frame_flag::MORE)) {
            (frame_type::REQUEST | frame_type::RESPONSE, false) => {
                self.whole.insert(key, payload.to_vec());
            }
            (frame_type::PART, is_more) => {
                let (total, mut message) = self.open.remove(&key).expect("the message is open");
                message.extend_from_slice(payload);
                assert_eq!(is_more, (message.len() as u64) < total);
                match is_more {
                    true => self.open.insert(key, (total, message)).map(drop),
                    false => self.whole.insert(key, message).map(drop),
                };
            }
            _ => {
                let (total, first) = frame::split_opening(payload).expect("it is an opening");
                self.open.insert(key, (total, first.to_vec()));
            }
        }
    }
}

// Values.

fn values() -> Vec<u8> {
    #[derive(Serialize)]
    struct Point {
        x: u8,
        y: Option<u8>,
    }
    #[derive(Serialize)]
    struct Meters(u32);
    #[derive(Serialize)]
    struct Pair(u8, u8);
    #[derive(Serialize)]
    struct Empty;
    #[derive(Serialize)]
    enum Shape {
        Nothing,
        Circle(u8),
        Line(u8, u8),
        Named { name: &'static str },
    }
    let mut out = Vec::new();
    let mut put = |value: &dyn Fn() -> Payload| out.extend_from_slice(value().body());
    macro_rules! put {
        ($($value:expr;)+) => {$(put(&|| Payload::encode(&$value).expect("it can be encoded"));)+};
    }
    put! {
        ();
        true;
        5u8;
        -1i64;
        300u32;
        -200i16;
        u64::MAX;
        1i128;
        1.5f32;
        1.5f64;
        "é";
        'x';
        None::<u8>;
        Some(5u8);
        vec![1u8, 2];
        Vec::<u8>::new();
        [1u8, 2];
        vec![1u16, 2];
        (1u8, "a");
        BTreeMap::from([("k", 1)]);
        Point { x: 1, y: None };
        Meters(7);
        Pair(1, 2);
        Empty;
        Shape::Nothing;
        Shape::Circle(5);
        Shape::Line(1, 2);
        Shape::Named { name: "n" };
        Ok::<u8, ()>(1);
        Duration::from_secs(2);
        Blob::from(vec![1]);
    }
    out
}

// The tests.

fn hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for token in text.lines().flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace()) {
        let (byte, n) = token.split_once('*').unwrap_or((token, "1"));
        let byte = u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("`{token}` is not hex"));
        bytes.resize(bytes.len() + n.parse::<usize>().expect("a count follows `*`"), byte);
    }
    bytes
}

fn golden() -> BTreeMap<&'static str, Vec<u8>> {
    let mut golden = BTreeMap::new();
    for entry in GOLDEN.split("\n[").skip(1) {
        let (name, text) = entry.split_once(']').expect("a name ends with `]`");
        assert!(golden.insert(name, hex(text)).is_none(), "{name} is there twice");
    }
    golden
}

fn show(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}

/// The one frame that these bytes are.
fn frame(bytes: &[u8]) -> Option<(FrameHeader, &[u8])> {
    let header = FrameHeader::decode(bytes).expect("the length is allowed")?;
    let payload = bytes.get(HEADER_LEN..HEADER_LEN + header.payload_len)?;
    Some((header, payload))
}

#[test]
fn what_is_written_is_what_is_specified() {
    let golden = golden();
    for case in cases() {
        let Some(written) = case.written else { continue };
        let expected = golden.get(case.name).map(|bytes| show(bytes));
        assert_eq!(Some(show(&written)), expected, "[{}]", case.name);
    }
    assert_eq!(show(&PREAMBLE), show(&golden["preamble"]));
    assert_eq!(show(&values()), show(&golden["values"]));
}

#[test]
fn what_is_specified_reads_as_what_was_meant() {
    let golden = golden();
    let mut names = vec!["preamble", "values"];
    for case in cases() {
        names.push(case.name);
        let bytes = golden.get(case.name).unwrap_or_else(|| panic!("[{}] is not in golden/wire.txt", case.name));
        let (header, payload) = frame(bytes).unwrap_or_else(|| panic!("[{}] is cut short", case.name));
        assert_eq!(bytes.len(), HEADER_LEN + payload.len(), "[{}]", case.name);
        assert_eq!((header.frame_type, header.flags, header.id), (case.frame_type, case.flags, case.id));
        assert_eq!(read(header, payload), Ok(case.said), "[{}]", case.name);
    }
    names.sort_unstable();
    assert_eq!(golden.keys().copied().collect::<Vec<_>>(), names);
}

#[test]
fn the_examples_of_the_specification_are_the_golden_bytes() {
    let golden = golden();
    let blocks: Vec<_> = WIRE_MD.split("```hex ").skip(1).collect();
    assert!(blocks.len() > 10);
    for block in blocks {
        let (name, rest) = block.split_once('\n').expect("a name stands behind the fence");
        let text = rest.split("```").next().unwrap_or_default();
        let expected = golden.get(name).unwrap_or_else(|| panic!("docs/wire.md shows `{name}`, which is not golden"));
        assert_eq!(show(&hex(text)), show(expected), "`{name}` in docs/wire.md");
    }
}

#[test]
fn the_tables_of_the_specification_are_the_codes_numbers() {
    for kind in Kind::ALL {
        let row = format!("| {} | `{kind}` | {} |", kind.code(), kind.class().code());
        assert!(WIRE_MD.contains(&row), "docs/wire.md lacks {row}");
    }
    for code in 0..8 {
        let reason = GoAwayReason::from_code(code);
        assert_eq!(reason.code(), code);
        assert!(WIRE_MD.contains(&format!("| {code} | `{reason:?}` |")), "docs/wire.md lacks reason {reason:?}");
    }
    assert_eq!(GoAwayReason::from_code(8), GoAwayReason::Other(8));
}

#[test]
fn every_truncation_is_refused() {
    for (name, bytes) in golden() {
        let whole = match name {
            "preamble" | "values" => continue,
            _ => frame(&bytes).expect("it is a frame"),
        };
        // Every cut of the small ones; of the large ones the first bytes and some that are spread over the rest.
        for end in (0..bytes.len()).filter(|end| *end < 300 || end % 997 == 0) {
            assert_eq!(frame(&bytes[..end]), None, "[{name}] cut to {end}");
        }
        let (header, payload) = whole;
        for end in (0..payload.len()).filter(|end| *end < 300 || end % 997 == 0) {
            let cut = read(header, &payload[..end]);
            match cut {
                // The frame's length guards these; their payloads are bytes and nothing else.
                Ok(Said::Part(_) | Said::Opening { .. } | Said::Skipped) => {}
                Ok(said) => panic!("[{name}] cut to {end} reads as {said:?}"),
                Err(_) => {}
            }
        }
    }
}

#[test]
fn a_byte_behind_the_payload_is_refused() {
    for case in cases() {
        let bytes = [&golden()[case.name][..], &[0xc0]].concat();
        let header = FrameHeader::decode(&bytes).expect("the length is allowed").expect("it is whole");
        let read = read(header, &bytes[HEADER_LEN..]);
        match case.said {
            // These have no payload, or one that is bytes and nothing else.
            Said::Part(_) | Said::Opening { .. } | Said::Skipped | Said::Cancel | Said::Ping | Said::Pong => {}
            _ => assert!(read.is_err(), "[{}] reads as {read:?}", case.name),
        }
    }
}

#[test]
fn lengths_and_types_that_nobody_may_send() {
    let length = |length: u32| FrameHeader::decode(&length.to_le_bytes());
    assert_eq!(length(9), Err(frame::FrameError::BadLength(9)));
    assert_eq!(length(10), Ok(None));
    assert_eq!(length(65_546), Ok(None));
    assert_eq!(length(65_547), Err(frame::FrameError::BadLength(65_547)));
    assert!(read(FrameHeader::new(0x89, 0, 0), &[]).is_err());
    let opening = |total: u64, n| frame::split_opening(&[&total.to_le_bytes()[..], &vec![0; n]].concat()).is_ok();
    assert!(opening(5000, 4096) && opening(2, 1));
    assert!(!opening(5000, 4097) && !opening(5000, 0) && !opening(1, 1) && !opening(0, 0));
}

// Properties.

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9..1e9f64).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 1..40).prop_map(Value::Bytes),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Blob(Blob::from(bytes))),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Value::Map),
        ]
    })
}

fn any_kind() -> impl Strategy<Value = Kind> {
    any::<u16>().prop_map(Kind::from_code)
}

fn any_class() -> impl Strategy<Value = Class> {
    (0..3u64).prop_map(Class::from_code)
}

fn any_exception() -> impl Strategy<Value = Exception> {
    let via = (".{0,9}", ".{0,9}", any_kind(), any_class());
    let via = via.prop_map(|(node, method, kind, class)| Place { node, method, kind, class });
    let texts = (".{0,9}", ".{0,40}", prop::collection::vec(".{0,20}", 0..4), ".{0,9}", ".{0,9}");
    let rest = (prop::option::of(any_value()), prop::collection::vec(via, 0..3), prop::option::of(0..u64::MAX));
    (any_kind(), any_class(), texts, rest).prop_map(|(kind, class, texts, (payload, via, retry_after))| {
        let (type_name, message, chain, node, method) = texts;
        Exception {
            kind,
            class,
            type_name: type_name.into(),
            message,
            chain,
            payload: payload.map(|value| Payload::encode(&value).expect("a value can be encoded")),
            node,
            method,
            via,
            retry_after: retry_after.map(Duration::from_millis),
        }
    })
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let payload = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..50),
        1 => (65_000..=65_536usize).prop_map(|len| vec![7; len]),
    ];
    (any::<u8>(), any::<u8>(), any::<u64>(), payload).prop_map(|(frame_type, flags, id, payload)| {
        (FrameHeader::new(frame_type, id, payload.len()).with_flags(flags), payload)
    })
}

fn put((header, payload): &Frame, out: &mut BytesMut) {
    put_frame(out, header.frame_type, header.flags, header.id, |out| out.extend_from_slice(payload));
}

/// The frames of a stream that arrives in chunks of these sizes, over and over.
fn rechunked(mut stream: &[u8], chunks: &[usize]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut buffer = BytesMut::new();
    for chunk in chunks.iter().cycle() {
        let (chunk, rest) = stream.split_at((*chunk).min(stream.len()));
        buffer.extend_from_slice(chunk);
        stream = rest;
        while let Some((header, payload)) = frame(&buffer) {
            frames.push((header, payload.to_vec()));
            let _ = buffer.split_to(HEADER_LEN + header.payload_len);
        }
        if stream.is_empty() {
            assert!(buffer.is_empty());
            return frames;
        }
    }
    frames
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(frame_type: u8, flags: u8, payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = FrameHeader::decode(&payload);
        for frame_type in [frame_type, 0x01, 0x80, 0x81, 0x82, 0x84, 0x86] {
            let _ = read(FrameHeader::new(frame_type, 1, payload.len()).with_flags(flags), &payload);
        }
        let mut scanner = Scanner::new(&payload);
        while scanner.value().is_ok() {}
    }

    /// Nearer to the truth than random bytes: golden ones, with a few changed.
    #[test]
    fn no_damage_makes_a_decoder_panic(case in any::<prop::sample::Index>(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let golden = golden();
        let small: Vec<_> = golden.values().filter(|bytes| (15..1000).contains(&bytes.len())).collect();
        let mut bytes = case.get(&small).to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len() - HEADER_LEN);
            bytes[HEADER_LEN + at] = byte;
        }
        // `values` is among them and has no header: any will do.
        let header = FrameHeader { payload_len: 0, frame_type: bytes[4], flags: bytes[5], id: 0 };
        let _ = read(header, &bytes[HEADER_LEN..]);
    }

    #[test]
    fn frames_are_the_same_however_the_stream_is_cut(frames in prop::collection::vec(any_frame(), 0..6), chunks in prop::collection::vec(1..200usize, 1..6)) {
        let mut stream = BytesMut::new();
        frames.iter().for_each(|frame| put(frame, &mut stream));
        prop_assert_eq!(rechunked(&stream, &chunks), frames);
    }

    #[test]
    fn requests_survive_the_wire(
        method in "[A-Z][a-z]{0,40}\\.[a-z_]{1,20}",
        positional in prop::collection::vec(any_value(), 0..20),
        keywords in prop::collection::btree_map("[a-z]{1,8}", any_value(), 0..20),
        remaining in prop::option::of(0..200_000_000u64),
        one_way: bool, no_cancel: bool, is_traced: bool,
    ) {
        let mut args = Args::new();
        positional.iter().for_each(|value| args.push(value));
        keywords.iter().for_each(|(name, value)| args.push_keyword(name, value));
        let scope = if is_traced { traced() } else { None };
        let request = flagged(one_way, no_cancel, scope, call(&method, args));
        let remaining = remaining.map(Duration::from_millis);
        let message = Bytes::from(written_request(&request, remaining));
        prop_assert!(message.len() <= request.len_at_most());
        let message = Message::from_bytes(&message, !request.args.attachments().is_empty()).unwrap();
        let kwargs: Vec<_> = keywords.into_iter().map(|(name, value)| (Value::from(name), value)).collect();
        let expected = Called {
            kwargs: if kwargs.is_empty() { None } else { Some(Value::Map(kwargs)) },
            remaining: remaining.map(|remaining| remaining.min(Duration::from_secs(86_400))),
            is_one_way: one_way,
            is_no_cancel: no_cancel,
            trace_parent: is_traced.then(|| TRACE.to_owned()),
            ..called(&method, Value::Array(positional))
        };
        prop_assert_eq!(read_request(&message), Ok(expected));
    }

    #[test]
    fn responses_survive_the_wire(value in any_value(), exception in any_exception()) {
        for response in [Response::Value(Payload::encode(&value).unwrap()), Response::exception(exception.clone())] {
            let is_exception = matches!(response, Response::Exception(_));
            let message = Bytes::from(written_response(&response));
            prop_assert!(message.len() <= response.len_at_most());
            let message = Message::from_bytes(&message, !response.attachments().is_empty()).unwrap();
            let expected = match is_exception {
                true => Said::Exception(Box::new(exception.clone().into())),
                false => Said::Value(value.clone()),
            };
            prop_assert_eq!(read_response(&message, is_exception), Ok(expected));
        }
    }

    #[test]
    fn records_and_hello_survive_the_wire(
        instance in 1..u64::MAX, name in ".{0,20}", pid: u32, is_client: bool,
        addresses in prop::collection::vec(".{0,20}", 0..16),
        labels in prop::collection::btree_map(".{0,9}", ".{0,9}", 0..5),
        services in prop::collection::vec(".{0,20}", 0..40),
        limits in (1024..u64::MAX, any::<u64>(), 8192..u64::MAX, any::<u64>()), features: u64, required: u64,
    ) {
        let mut node = NodeRecord::new(InstanceId(instance), name.clone());
        node.role = if is_client { Role::Client } else { Role::Member };
        node.machine.clone_from(&name);
        node.node_type = name;
        (node.pid, node.addresses, node.labels, node.services) = (pid, addresses, labels, services);
        let mut bytes = BytesMut::new();
        encode_records([&node], &mut bytes);
        prop_assert_eq!(decode_records(&bytes).unwrap(), &[node.clone()]);
        let (message, in_flight, window, reassembly) = limits;
        let mut hello = Hello::new("c", node, PeerLimits { message, in_flight, window, reassembly });
        (hello.features, hello.required) = (features, required);
        bytes.clear();
        hello.encode(&mut bytes);
        prop_assert_eq!(Hello::decode(&bytes).unwrap(), hello);
    }

    #[test]
    fn goaways_survive_the_wire(code: u64, last_accepted: u64, message in ".{0,40}") {
        let goaway = GoAway { reason: GoAwayReason::from_code(code), last_accepted, message };
        let mut bytes = BytesMut::new();
        goaway.encode(&mut bytes);
        prop_assert_eq!(GoAway::decode(&bytes), Ok(goaway));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Messages of all sizes, in parts of all sizes that are allowed, interleaved, over a stream cut anywhere.
    #[test]
    fn messages_in_parts_arrive_whole(
        sizes in prop::collection::vec((prop_oneof![0..100usize, 60_000..70_000usize, 130_000..200_000usize], 4096..=65_536usize, any::<bool>()), 1..5),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..100),
        chunks in prop::collection::vec(1..100_000usize, 1..5),
    ) {
        let mut sent = BTreeMap::new();
        let mut queues = Vec::new();
        for (id, (size, part_len, is_response)) in (1..).zip(sizes) {
            let message: Vec<u8> = (0..size).map(|at| (at % 251) as u8 ^ id as u8).collect();
            let frame_type = if is_response { frame_type::RESPONSE } else { frame_type::REQUEST };
            queues.push(split(frame_type, 0, id, &message, part_len).into_iter());
            sent.insert((is_response, id), message);
        }
        let mut stream = BytesMut::new();
        for turn in order.iter().cycle() {
            queues.retain(|queue| queue.len() > 0);
            if queues.is_empty() {
                break;
            }
            let turn = turn.index(queues.len());
            put(&queues[turn].next().expect("empty ones were removed"), &mut stream);
        }
        let mut assembly = Assembly::default();
        for (header, payload) in rechunked(&stream, &chunks) {
            assembly.take(header, &payload);
        }
        prop_assert!(assembly.open.is_empty());
        prop_assert_eq!(assembly.whole, sent);
    }
}
