//! Request and response: what travels for a call, and how it is written. No framing, no I/O.
//!
//! ```text
//! message   = [attachment lengths] body attachment*      the lengths only if the frame says that there are any
//! request   = array: method, args, kwargs, remaining ms, flags, extensions     trailing defaults are left out
//! response  = the value, or an exception if the frame says so
//! exception = map with integer keys
//! ```
//!
//! `docs/wire.md` is the specification; the golden bytes in `tests/golden.rs` hold both to it. Reading never trusts a
//! length: every message passes the [`Scanner`] before anything is taken from it.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use crate::args::Args;
use crate::draft::Draft;
use crate::exception::{Exception, Place};
use crate::kind::{Class, Kind};
use crate::pack;
use crate::payload::{self, Payload};
use crate::positional::Positional;
use crate::scan::{self, ScanError, Scanner};
use crate::scope::Scope;

/// The longest time that a deadline may be away. More is cut to this.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest `"Service.method"`, in bytes.
pub const MAX_METHOD_NAME: usize = 256;

/// The most bytes of a request's extensions.
pub const MAX_EXTENSIONS: usize = 8 << 10;

/// The longest text of an error, in bytes; more is cut.
pub const MAX_ERROR_TEXT: usize = 4096;

/// A name that costs nothing to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name {
    /// Known when the program was compiled.
    Static(&'static str),
    /// Made at run time.
    Shared(Arc<str>),
}

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            Name::Static(name) => name,
            Name::Shared(name) => name,
        }
    }
}

impl From<&'static str> for Name {
    fn from(name: &'static str) -> Self {
        Self::Static(name)
    }
}

impl From<String> for Name {
    fn from(name: String) -> Self {
        Self::Shared(name.into())
    }
}

/// What is called: a service and a method, or whatever a caller by name wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    service: Option<Name>,
    method: Name,
}

impl Default for Target {
    /// Nothing.
    fn default() -> Self {
        Self { service: None, method: Name::Static("") }
    }
}

impl Target {
    /// A method of a service.
    pub fn new(service: Name, method: &'static str) -> Self {
        Self::of(Some(service), method)
    }

    /// A method of a service, or one that is unique on its node.
    pub(crate) fn of(service: Option<Name>, method: &'static str) -> Self {
        Self { service, method: Name::Static(method) }
    }

    /// A method by name: `"Service.method"`, or `"method"` where it is unique on its node.
    pub fn by_name(name: impl Into<Arc<str>>) -> Self {
        Self { service: None, method: Name::Shared(name.into()) }
    }

    /// Bytes of the text.
    fn len(&self) -> usize {
        self.service.as_ref().map_or(0, |service| service.as_str().len() + 1) + self.method.as_str().len()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(service) = &self.service {
            write!(f, "{}.", service.as_str())?;
        }
        f.write_str(self.method.as_str())
    }
}

/// A call on its way out: one pointer, to what is in its [`Draft`].
#[derive(Debug)]
pub struct Request(Box<Draft>);

impl Deref for Request {
    type Target = Draft;

    fn deref(&self) -> &Draft {
        &self.0
    }
}

impl DerefMut for Request {
    fn deref_mut(&mut self) -> &mut Draft {
        &mut self.0
    }
}

impl Request {
    /// A call without options.
    pub fn new(target: Target, Args(mut draft): Args) -> Self {
        draft.target = target;
        Self(draft)
    }

    /// Takes the request out of what it was lent from, where nothing but the name of what is called stays behind.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let rest = Self::new(self.target.clone(), Args::new());
        std::mem::replace(self, rest)
    }

    /// See [`Draft::keep`].
    pub(crate) fn keep(self) -> Target {
        self.0.keep()
    }

    /// Whether there is a time until which an answer is wanted. Else nobody has to look at a clock.
    pub fn has_deadline(&self, default: Option<Duration>) -> bool {
        let own = self.timeout.is_some() || self.deadline.is_some() || self.begun_deadline.is_some();
        own || default.is_some() || self.scope.as_ref().is_some_and(|scope| scope.deadline().is_some())
    }

    /// Until when an answer is wanted, on the node's clock: the earliest of the own timeout (or else `default`), the
    /// own deadline and the inherited deadline.
    pub fn deadline_at(&self, now: Instant, default: Option<Duration>) -> Option<Instant> {
        let own = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let inherited = self.scope.as_ref().and_then(Scope::deadline);
        let timeout = match (self.timeout, own) {
            (None, None) => default,
            (timeout, own) => timeout.into_iter().chain(own).min(),
        };
        let timeout = timeout.and_then(|timeout| now.checked_add(timeout.min(MAX_TIMEOUT)));
        timeout.into_iter().chain(inherited).chain(self.begun_deadline).min()
    }

    /// The message as one piece, and whether it begins with the lengths of attachments: for calls without a network.
    pub fn to_message(&self, remaining: Option<Duration>) -> (Bytes, bool) {
        let mut message = BytesMut::new();
        self.encode(remaining, &mut message);
        let attachments = self.args.attachments();
        attachments.iter().for_each(|attachment| message.extend_from_slice(attachment));
        (message.freeze(), !attachments.is_empty())
    }

    /// Writes the message.
    pub fn encode(&self, remaining: Option<Duration>, out: &mut BytesMut) {
        encode_attachment_lengths(self.args.attachments(), out);
        let n_options = self.n_options(remaining);
        let n_positional = self.args.n_positional();
        let n_elements = if n_options > 0 { 2 + n_options } else { 1 + usize::from(n_positional > 0) };
        match self.target.len() {
            // Both headers at once.
            len @ ..32 => out.put_slice(&[0x90 | n_elements as u8, 0xa0 | len as u8]),
            len => {
                pack::array(out, n_elements);
                pack::str_len(out, len);
            }
        }
        if let Some(service) = &self.target.service {
            out.put_slice(service.as_str().as_bytes());
            out.put_u8(b'.');
        }
        out.put_slice(self.target.method.as_str().as_bytes());
        if n_elements > 1 {
            pack::array(out, n_positional);
            out.put_slice(self.args.positional());
        }
        if n_options > 0 {
            self.encode_options(n_options, remaining, out);
        }
    }

    /// How many elements follow the positional arguments.
    fn n_options(&self, remaining: Option<Duration>) -> usize {
        match () {
            () if self.trace_parent().is_some() => 4,
            () if self.one_way || self.no_cancel => 3,
            () if remaining.is_some() => 2,
            () if self.args.n_keywords() > 0 => 1,
            () => 0,
        }
    }

    /// Writes them. Apart, for most calls have none.
    #[inline(never)]
    fn encode_options(&self, n_options: usize, remaining: Option<Duration>, out: &mut BytesMut) {
        match self.args.n_keywords() {
            0 => pack::nil(out),
            n => pack::map(out, n),
        }
        out.put_slice(self.args.keywords());
        if n_options > 1 {
            match remaining {
                // Rounded up: a call with half a millisecond left is not expired yet.
                Some(remaining) => {
                    let rounded_up = u64::from(remaining.subsec_nanos().div_ceil(1_000_000));
                    pack::uint(out, remaining.as_secs().saturating_mul(1000).saturating_add(rounded_up));
                }
                None => pack::nil(out),
            }
        }
        if n_options > 2 {
            let one_way = if self.one_way { flags::ONE_WAY } else { 0 };
            pack::uint(out, one_way | if self.no_cancel { flags::NO_CANCEL } else { 0 });
        }
        if let Some(trace_parent) = self.trace_parent() {
            pack::map(out, 1);
            pack::str(out, extensions::TRACE_PARENT);
            pack::str(out, trace_parent);
        }
    }

    /// Bytes of the message at most, without framing.
    pub fn len_at_most(&self) -> usize {
        // Headers: the array, the name, both argument headers, the time, the flags, the extensions.
        let envelope = 64 + self.target.len() + self.trace_parent().map_or(0, |text| text.len() + 32);
        let args = self.args.positional().len() + self.args.keywords().len();
        match self.args.attachments() {
            [] => envelope + args,
            attachments => envelope + args + attachments.iter().map(|bytes| bytes.len() + 9).sum::<usize>(),
        }
    }

    /// The W3C trace context that travels along.
    pub fn trace_parent(&self) -> Option<&Arc<str>> {
        self.trace_parent.as_ref().or_else(|| self.scope.as_ref()?.trace_parent())
    }
}

/// Bits of a request's flags.
pub mod flags {
    /// No answer is wanted.
    pub const ONE_WAY: u64 = 1;
    /// The method goes on when the caller is gone.
    pub const NO_CANCEL: u64 = 2;
}

/// Keys of a request's extensions. Unknown ones are skipped.
pub mod extensions {
    /// The W3C trace context, a string.
    pub const TRACE_PARENT: &str = "traceparent";
}

/// A request that arrived, read in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingRequest<'a> {
    /// The bytes of [`method`](Self::method): who knows the name need not look whether they are UTF-8.
    pub method_bytes: &'a [u8],
    /// The positional arguments.
    pub args: Positional<'a>,
    /// The keyword arguments: one map.
    pub kwargs: Option<&'a [u8]>,
    /// How much time the caller still gives, `None` for no limit.
    pub remaining: Option<Duration>,
    /// See [`flags`].
    pub flags: u64,
    /// The W3C trace context.
    pub trace_parent: Option<&'a str>,
    /// How many MessagePack values the body holds.
    pub n_values: usize,
}

/// What may stand behind the arguments of a request.
struct Options<'a> {
    kwargs: Option<&'a [u8]>,
    remaining: Option<Duration>,
    flags: u64,
    trace_parent: Option<&'a str>,
}

impl<'a> Options<'a> {
    const NONE: Self = Self { kwargs: None, remaining: None, flags: 0, trace_parent: None };

    /// Reads what is behind the first two of so many elements. Apart, for most calls have none.
    #[inline(never)]
    fn read(scanner: &mut Scanner<'a>, n_elements: usize) -> Result<Self, ScanError> {
        let mut options = Self::NONE;
        if n_elements > 2 && !scanner.nil() {
            let kwargs = scanner.value()?;
            Scanner::new(kwargs).map()?;
            options.kwargs = Some(kwargs);
        }
        if n_elements > 3 && !scanner.nil() {
            options.remaining = Some(Duration::from_millis(scanner.uint()?).min(MAX_TIMEOUT));
        }
        if n_elements > 4 && !scanner.nil() {
            options.flags = scanner.uint()?;
        }
        if n_elements > 5 && !scanner.nil() {
            let encoded = scanner.value()?;
            if encoded.len() > MAX_EXTENSIONS {
                return Err(ScanError::Expected("at most 8 KiB of extensions"));
            }
            let mut extensions = Scanner::new(encoded);
            for _ in 0..extensions.map()? {
                // Keys and values of any type: what is unknown is skipped.
                let (key, value) = (extensions.value()?, extensions.value()?);
                if Scanner::new(key).str() == Ok(extensions::TRACE_PARENT) {
                    options.trace_parent = Scanner::new(value).str().ok();
                }
            }
        }
        for _ in 6..n_elements {
            scanner.value()?;
        }
        Ok(options)
    }
}

impl<'a> IncomingRequest<'a> {
    /// Reads a body. Surplus elements are skipped, missing ones have their defaults.
    ///
    /// # Errors
    /// If the body is no such array, or does not pass the scanner. The name of the method has still to be looked at.
    pub fn decode(body: &'a [u8]) -> Result<Self, ScanError> {
        let mut scanner = Scanner::new(body);
        let n_elements = scanner.array()?;
        if n_elements == 0 {
            return Err(ScanError::Expected("the name of a method"));
        }
        let method_bytes = scanner.str_bytes()?;
        // Nil stands for the default of each element behind the name.
        let has_args = n_elements > 1 && !scanner.nil();
        let args = if has_args { Positional::pass(&mut scanner)? } else { Positional::NONE };
        Self::ending(scanner, n_elements, method_bytes, args)
    }

    /// Reads what is behind the arguments, to the end.
    #[inline]
    pub(crate) fn ending(
        mut scanner: Scanner<'a>,
        n_elements: usize,
        method_bytes: &'a [u8],
        args: Positional<'a>,
    ) -> Result<Self, ScanError> {
        let options = if n_elements > 2 { Options::read(&mut scanner, n_elements)? } else { Options::NONE };
        scanner.finish()?;
        let Options { kwargs, remaining, flags, trace_parent } = options;
        Ok(Self { method_bytes, args, kwargs, remaining, flags, trace_parent, n_values: scanner.n_values() })
    }

    /// `"Service.method"`, or a bare method name.
    ///
    /// # Errors
    /// [`ScanError::InvalidUtf8`].
    pub fn method(&self) -> Result<&'a str, ScanError> {
        scan::text(self.method_bytes)
    }

    /// Whether no answer is wanted.
    pub fn is_one_way(&self) -> bool {
        self.flags & flags::ONE_WAY != 0
    }

    /// Whether the method goes on when the caller is gone.
    pub fn is_no_cancel(&self) -> bool {
        self.flags & flags::NO_CANCEL != 0
    }
}

/// What comes back for a call: its value or its exception. The id belongs to the frame.
#[derive(Debug)]
pub enum Response {
    /// The method's result.
    Value(Payload),
    /// Why there is none.
    Exception(Box<Exception>),
}

impl Response {
    /// A response without a value.
    pub fn exception(exception: Exception) -> Self {
        Self::Exception(Box::new(exception))
    }

    /// Fills in where it comes from, and cuts texts that are too long. Done once, by the node that answers.
    #[must_use]
    pub fn placed(mut self, node: &str, method: &str) -> Self {
        if let Self::Exception(exception) = &mut self {
            node.clone_into(&mut exception.node);
            method.clone_into(&mut exception.method);
            cut(&mut exception.message, MAX_ERROR_TEXT);
            exception.chain.truncate(32);
            exception.chain.iter_mut().for_each(|line| cut(line, MAX_ERROR_TEXT));
            exception.via.truncate(64);
        }
        self
    }

    /// An exception in `limit` bytes: without its payload, then without chain and places, then with the message cut. A
    /// value stays as it is.
    #[must_use]
    pub fn shortened(mut self, limit: usize) -> Self {
        let Self::Exception(exception) = &mut self else { return self };
        let excess = |exception: &Exception| (exception_len_at_most(exception) + 16).saturating_sub(limit);
        exception.payload = None;
        if excess(exception) > 0 {
            exception.chain.clear();
            exception.via.clear();
        }
        let len = exception.message.len().saturating_sub(excess(exception));
        cut(&mut exception.message, len);
        self
    }

    /// The blobs that travel beside it.
    pub fn attachments(&self) -> &[Bytes] {
        match self {
            Response::Value(payload) => payload.attachments(),
            Response::Exception(exception) => exception.payload.as_ref().map_or(&[], Payload::attachments),
        }
    }

    /// Bytes of the message at most, without framing.
    pub fn len_at_most(&self) -> usize {
        let headers = 16 + self.attachments().len() * 9;
        headers
            + match self {
                Response::Value(payload) => payload.len(),
                Response::Exception(exception) => exception_len_at_most(exception),
            }
    }

    /// Writes the message. Its attachments follow it, uncopied; they are not written here.
    pub fn encode(&self, out: &mut BytesMut) {
        encode_attachment_lengths(self.attachments(), out);
        match self {
            Response::Value(payload) => out.put_slice(payload.body()),
            Response::Exception(exception) => encode_exception(exception, out),
        }
    }

    /// The response as its caller gets it: written and read once, so that nothing passes that could not travel.
    #[must_use]
    pub fn recoded(self) -> Self {
        let mut message = BytesMut::new();
        self.encode(&mut message);
        self.attachments().iter().for_each(|attachment| message.extend_from_slice(attachment));
        let is_exception = matches!(self, Response::Exception(_));
        let decoded = Message::from_bytes(&message.freeze(), !self.attachments().is_empty())
            .and_then(|message| Response::decode(&message, is_exception));
        decoded.unwrap_or_else(|error| Response::exception(Exception::new(Kind::ResponseDecode, error.to_string())))
    }

    /// Reads a message that arrived, copying what is small.
    ///
    /// # Errors
    /// If it does not pass the scanner or is no exception where it should be one.
    pub fn decode(message: &Message<'_>, is_exception: bool) -> Result<Self, ScanError> {
        if let (Message::Borrowed(body), false) = (message, is_exception) {
            payload::pass(body)?;
            return Ok(Self::Value(Payload::copied(body)));
        }
        Self::decode_owned(message, is_exception)
    }

    /// The same of what is no small value.
    #[inline(never)]
    fn decode_owned(message: &Message<'_>, is_exception: bool) -> Result<Self, ScanError> {
        payload::pass(message.body())?;
        if is_exception {
            return decode_exception(message.body(), message.attachments()).map(Self::exception);
        }
        Ok(Self::Value(message.to_payload()))
    }
}

/// The exception's keys on the wire.
mod key {
    pub(super) const KIND: u64 = 0;
    pub(super) const CLASS: u64 = 1;
    pub(super) const TYPE_NAME: u64 = 2;
    pub(super) const MESSAGE: u64 = 3;
    pub(super) const CHAIN: u64 = 4;
    pub(super) const PAYLOAD: u64 = 5;
    pub(super) const NODE: u64 = 6;
    pub(super) const METHOD: u64 = 7;
    pub(super) const RETRY_AFTER: u64 = 8;
    pub(super) const VIA: u64 = 9;
}

fn exception_len_at_most(exception: &Exception) -> usize {
    let text = |text: &str| text.len() + 5;
    64 + text(&exception.type_name)
        + text(&exception.message)
        + text(&exception.node)
        + text(&exception.method)
        + exception.chain.iter().map(|line| text(line)).sum::<usize>()
        + exception.via.iter().map(|place| text(&place.node) + text(&place.method) + 8).sum::<usize>()
        + exception.payload.as_ref().map_or(0, |payload| payload.len() + 5)
}

fn encode_exception(exception: &Exception, out: &mut BytesMut) {
    let Exception { kind, class, type_name, message, chain, payload, node, method, via, retry_after } = exception;
    let n = 3
        + usize::from(!type_name.is_empty())
        + usize::from(!chain.is_empty())
        + usize::from(payload.is_some())
        + usize::from(!node.is_empty())
        + usize::from(!method.is_empty())
        + usize::from(retry_after.is_some())
        + usize::from(!via.is_empty());
    pack::map(out, n);
    pack::uint(out, key::KIND);
    pack::uint(out, kind.code().into());
    pack::uint(out, key::CLASS);
    pack::uint(out, class.code().into());
    if !type_name.is_empty() {
        pack::uint(out, key::TYPE_NAME);
        pack::str(out, type_name);
    }
    pack::uint(out, key::MESSAGE);
    pack::str(out, message);
    if !chain.is_empty() {
        pack::uint(out, key::CHAIN);
        pack::array(out, chain.len());
        chain.iter().for_each(|line| pack::str(out, line));
    }
    if let Some(payload) = payload {
        pack::uint(out, key::PAYLOAD);
        pack::bin(out, payload.body());
    }
    if !node.is_empty() {
        pack::uint(out, key::NODE);
        pack::str(out, node);
    }
    if !method.is_empty() {
        pack::uint(out, key::METHOD);
        pack::str(out, method);
    }
    if let Some(retry_after) = retry_after {
        pack::uint(out, key::RETRY_AFTER);
        pack::uint(out, u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX));
    }
    if !via.is_empty() {
        pack::uint(out, key::VIA);
        pack::array(out, via.len());
        for place in via {
            pack::array(out, 4);
            pack::str(out, &place.node);
            pack::str(out, &place.method);
            pack::uint(out, place.kind.code().into());
            pack::uint(out, place.class.code().into());
        }
    }
}

fn decode_exception(body: &[u8], attachments: &[Bytes]) -> Result<Exception, ScanError> {
    let mut scanner = Scanner::new(body);
    let n = scanner.map()?;
    let mut exception = Exception::new(Kind::Other(0), "");
    let mut class = None;
    for _ in 0..n {
        // Keys of any type: what is unknown is skipped with its value.
        let key = Scanner::new(scanner.value()?).uint().unwrap_or(u64::MAX);
        match key {
            key::KIND => exception.kind = kind_from(scanner.uint()?),
            key::CLASS => class = Some(Class::from_code(scanner.uint()?)),
            key::TYPE_NAME => exception.type_name = scanner.str()?.to_owned().into(),
            key::MESSAGE => scanner.str()?.clone_into(&mut exception.message),
            key::CHAIN => {
                for _ in 0..scanner.array()? {
                    exception.chain.push(scanner.str()?.to_owned());
                }
                scanner = scanner.left();
            }
            key::PAYLOAD => {
                let encoded = scanner.bin()?;
                if payload::pass(encoded).is_ok() {
                    let body = Bytes::copy_from_slice(encoded);
                    exception.payload = Some(Payload::shared(body, attachments.to_vec()));
                }
            }
            key::NODE => scanner.str()?.clone_into(&mut exception.node),
            key::METHOD => scanner.str()?.clone_into(&mut exception.method),
            key::RETRY_AFTER => exception.retry_after = Some(Duration::from_millis(scanner.uint()?)),
            key::VIA => {
                for _ in 0..scanner.array()? {
                    let n_elements = scanner.array()?;
                    if n_elements < 4 {
                        return Err(ScanError::Expected("a node, a method, a kind and a class"));
                    }
                    exception.via.push(Place {
                        node: scanner.str()?.to_owned(),
                        method: scanner.str()?.to_owned(),
                        kind: kind_from(scanner.uint()?),
                        class: Class::from_code(scanner.uint()?),
                    });
                    for _ in 4..n_elements {
                        scanner.value()?;
                    }
                    scanner = scanner.left();
                }
                scanner = scanner.left();
            }
            _ => {
                scanner.value()?;
            }
        }
    }
    exception.class = class.unwrap_or(exception.kind.class());
    Ok(exception)
}

fn kind_from(code: u64) -> Kind {
    Kind::from_code(u16::try_from(code).unwrap_or(u16::MAX))
}

fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

#[inline]
fn encode_attachment_lengths(attachments: &[Bytes], out: &mut BytesMut) {
    if !attachments.is_empty() {
        encode_lengths(attachments, out);
    }
}

#[inline(never)]
fn encode_lengths(attachments: &[Bytes], out: &mut BytesMut) {
    pack::array(out, attachments.len());
    attachments.iter().for_each(|bytes| pack::uint(out, bytes.len() as u64));
}

/// Where the parts of an arrived message lie in its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The body.
    pub body: Range<usize>,
    /// The attachments, one behind the other.
    pub attachments: Vec<Range<usize>>,
}

impl Layout {
    /// Finds the parts. `has_attachments` is what the frame says.
    ///
    /// # Errors
    /// If the lengths of the attachments cannot be read or are more than the message holds.
    pub fn of(message: &[u8], has_attachments: bool) -> Result<Self, ScanError> {
        if !has_attachments {
            return Ok(Self { body: 0..message.len(), attachments: Vec::new() });
        }
        let mut scanner = Scanner::new(message);
        let n = scanner.array()?;
        let mut lengths = Vec::new();
        let mut sum = 0usize;
        for _ in 0..n {
            let length = usize::try_from(scanner.uint()?).map_err(|_| ScanError::LengthBeyondEnd)?;
            sum = sum.checked_add(length).ok_or(ScanError::LengthBeyondEnd)?;
            lengths.push(length);
        }
        let start = scanner.position();
        let end = message.len().checked_sub(sum).filter(|end| *end >= start).ok_or(ScanError::LengthBeyondEnd)?;
        let mut at = end;
        let attachments = lengths.into_iter().map(|length| {
            at += length;
            at - length..at
        });
        Ok(Self { body: start..end, attachments: attachments.collect() })
    }
}

/// A message that arrived, whole.
#[derive(Debug, Clone)]
pub enum Message<'a> {
    /// Small, and still in the buffer that it was read into.
    Borrowed(&'a [u8]),
    /// With a buffer of its own, which its blobs share.
    Owned {
        /// The body.
        body: Bytes,
        /// The blobs.
        attachments: Vec<Bytes>,
    },
}

impl Message<'_> {
    /// Takes a message with a buffer of its own apart.
    ///
    /// # Errors
    /// As [`Layout::of`].
    pub fn from_bytes(message: &Bytes, has_attachments: bool) -> Result<Message<'static>, ScanError> {
        let layout = Layout::of(message, has_attachments)?;
        let attachments = layout.attachments.into_iter().map(|range| message.slice(range)).collect();
        Ok(Message::Owned { body: message.slice(layout.body), attachments })
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        match self {
            Message::Borrowed(body) => body,
            Message::Owned { body, .. } => body,
        }
    }

    /// The blobs.
    pub fn attachments(&self) -> &[Bytes] {
        match self {
            Message::Borrowed(_) => &[],
            Message::Owned { attachments, .. } => attachments,
        }
    }

    /// Bytes of the body and the blobs.
    pub fn len(&self) -> usize {
        self.body().len() + self.attachments().iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The body and the blobs as bytes of their own; copies what is borrowed.
    pub fn to_owned_parts(&self) -> (Bytes, Vec<Bytes>) {
        match self {
            Message::Borrowed(body) => (Bytes::copy_from_slice(body), Vec::new()),
            Message::Owned { body, attachments } => (body.clone(), attachments.clone()),
        }
    }

    fn to_payload(&self) -> Payload {
        match self {
            Message::Borrowed(body) => Payload::copied(body),
            Message::Owned { body, attachments } => Payload::shared(body.clone(), attachments.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::MAX_DEPTH;

    #[test]
    fn what_is_surplus_nests_as_deep_behind_extensions_as_without_them() {
        // One level is that of the request.
        for n in [MAX_DEPTH - 2, MAX_DEPTH - 1] {
            let surplus = [&vec![0x91; n], &[0x90][..]].concat();
            for extensions in [&b"\xc0"[..], b"\x80", b"\x81\xa1x\x90"] {
                let body = [b"\x97\xa1m\xc0\xc0\xc0\xc0", extensions, &surplus].concat();
                let expected = if n + 2 > MAX_DEPTH { Some(ScanError::TooDeep) } else { None };
                assert_eq!(IncomingRequest::decode(&body).err(), expected, "{n} {extensions:02x?}");
            }
        }
    }
}
