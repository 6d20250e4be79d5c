//! Bare tokio TCP, as fast as it can be written by hand: the limit, which no framework reaches.
//!
//! There are no calls here, no tasks for them, no ids, no codec: frames of a length, an operation and bytes. Many "calls
//! in flight" are one task that keeps so many frames under way, and each end writes once for all that it has read. The
//! record is a row of bytes that nobody decodes. Buffers for blobs are used again. A blob and small calls (workload F)
//! share nothing: they have a connection each.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::workload::{Caller, Lane, Op, Record, Result, System, blob};

/// The frame's length without itself, then its operation.
const HEADER: usize = 5;
const ADD: u8 = 0;
const ECHO: u8 = 1;
const NESTED: u8 = 2;
const CALL_BACK: u8 = 3;
const CALLED_BACK: u8 = 4;
/// Frames up to this size go through the common buffers, larger ones are read into a buffer of their own.
const SMALL: usize = 64 << 10;

pub struct Raw;

impl System for Raw {
    type Caller = RawCaller;

    const SKIPS: &'static [&'static str] = &["I", "Itask"];

    async fn serve(ready: impl FnOnce(String)) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        ready(listener.local_addr()?.to_string());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // The end of a connection is an error too, and nobody's business.
            tokio::spawn(serve_connection(stream));
        }
    }

    async fn connect(address: &str) -> Result<RawCaller> {
        let stream = dial(address).await?;
        Ok(RawCaller { address: address.into(), stream: Arc::new(Mutex::new(Some(stream))) })
    }
}

async fn dial(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whole small frames out of a stream, as many at once as have come.
struct Frames {
    input: Vec<u8>,
    /// Where the first frame that was not taken yet begins.
    begin: usize,
    end: usize,
}

impl Frames {
    fn new() -> Self {
        // A little at first, for connections that do little.
        Self { input: vec![0; 1024], begin: 0, end: 0 }
    }

    /// Reads once. The bytes of the frame that has begun stay.
    async fn fill(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        self.input.copy_within(self.begin..self.end, 0);
        self.end -= self.begin;
        self.begin = 0;
        if self.end == self.input.len() {
            // A frame that is larger than the buffer.
            self.input.resize(self.input.len() * 2, 0);
        }
        match stream.read(&mut self.input[self.end..]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.end += n;
                // More is there. What belongs to a large frame does not go through here, to be copied.
                let is_large = self.announced().is_some_and(|len| len > SMALL);
                if self.end == self.input.len() && self.end < 4 * SMALL && !is_large {
                    self.input.resize(self.end * 2, 0);
                }
                Ok(())
            }
        }
    }

    /// The length of the next frame's payload, once its header is here.
    fn announced(&self) -> Option<usize> {
        let header = self.input[self.begin..self.end].first_chunk::<HEADER>()?;
        Some(u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize - 1)
    }

    fn next(&mut self) -> Option<(u8, &[u8])> {
        let len = self.announced()?;
        let frame = self.input[self.begin..self.end].get(..HEADER + len)?;
        self.begin += frame.len();
        Some((frame[4], &frame[HEADER..]))
    }

    /// Reads the payload of the next frame into `body`, past the common buffer.
    async fn read_large(&mut self, stream: &mut TcpStream, body: &mut Vec<u8>) -> io::Result<()> {
        let len = self.announced().ok_or(io::ErrorKind::InvalidData)?;
        body.resize(len, 0);
        let here = &self.input[self.begin + HEADER..self.end];
        let n_here = here.len().min(len);
        body[..n_here].copy_from_slice(&here[..n_here]);
        self.begin += HEADER + n_here;
        stream.read_exact(&mut body[n_here..]).await?;
        Ok(())
    }
}

fn put(out: &mut Vec<u8>, op: u8, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32 + 1).to_le_bytes());
    out.push(op);
    out.extend_from_slice(payload);
}

fn number(bytes: &[u8]) -> i64 {
    bytes.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes))
}

async fn write_large(stream: &mut TcpStream, body: &[u8]) -> io::Result<()> {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&(body.len() as u32 + 1).to_le_bytes());
    header[4] = ECHO;
    let mut written = 0;
    while written < HEADER {
        let parts = [io::IoSlice::new(&header[written..]), io::IoSlice::new(body)];
        written += stream.write_vectored(&parts).await?;
    }
    stream.write_all(&body[written - HEADER..]).await
}

async fn serve_connection(mut stream: TcpStream) -> io::Result<()> {
    let mut frames = Frames::new();
    let mut out = Vec::new();
    let mut body = Vec::new();
    loop {
        frames.fill(&mut stream).await?;
        while let Some((op, payload)) = frames.next() {
            match op {
                ADD => {
                    let sum = number(payload).wrapping_add(number(&payload[8..]));
                    put(&mut out, ADD, &sum.to_le_bytes());
                }
                NESTED => put(&mut out, CALL_BACK, payload),
                CALLED_BACK => put(&mut out, NESTED, payload),
                _ => put(&mut out, ECHO, payload),
            }
        }
        if frames.announced().is_some_and(|len| len > SMALL) {
            frames.read_large(&mut stream, &mut body).await?;
            write_large(&mut stream, &body).await?;
        }
        stream.write_all(&out).await?;
        out.clear();
    }
}

#[derive(Clone)]
pub struct RawCaller {
    address: Arc<str>,
    /// Taken by the first lanes that start; later ones dial.
    stream: Arc<Mutex<Option<TcpStream>>>,
}

impl RawCaller {
    async fn take_stream(&self) -> io::Result<TcpStream> {
        let stream = self.stream.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        match stream {
            Some(stream) => Ok(stream),
            None => dial(&self.address).await,
        }
    }
}

impl Caller for RawCaller {
    type Blob = Vec<u8>;

    fn blob(bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    /// One call by hand, which proves the connection. Lanes have their own loops.
    async fn add(&self, a: i64, b: i64) -> Result<i64> {
        let mut stream = self.take_stream().await?;
        let mut out = Vec::new();
        put_add(&mut out, a, b);
        stream.write_all(&out).await?;
        let mut reply = [0; HEADER + 8];
        stream.read_exact(&mut reply).await?;
        *self.stream.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(stream);
        Ok(number(&reply[HEADER..]))
    }

    async fn echo_record(&self) -> Result<u64> {
        Err("lanes do this by themselves".into())
    }

    async fn echo_blob(&self, _: Vec<u8>) -> Result<(Vec<u8>, usize)> {
        Err("lanes do this by themselves".into())
    }

    fn start(&self, op: Op, mut lanes: Vec<Lane>) -> Vec<JoinHandle<Result<Lane>>> {
        let n_in_flight = lanes.len();
        let caller = self.clone();
        let lane = lanes.swap_remove(0);
        vec![tokio::spawn(async move {
            let stream = caller.take_stream().await?;
            match op {
                Op::EchoBlob(len) => echo_blobs(stream, lane, len).await,
                _ => keep_in_flight(stream, lane, op, n_in_flight).await,
            }
        })]
    }
}

fn put_add(out: &mut Vec<u8>, a: i64, b: i64) {
    let mut payload = [0; 16];
    payload[..8].copy_from_slice(&a.to_le_bytes());
    payload[8..].copy_from_slice(&b.to_le_bytes());
    put(out, ADD, &payload);
}

/// As many bytes as the record has in a compact form.
fn record_bytes() -> Vec<u8> {
    let record = Record::example();
    let counts = record.counts.keys().map(|name| 1 + name.len() + 4).sum::<usize>();
    let note = record.note.map_or(0, |note| note.len() + 1);
    blob(8 + 1 + record.name.len() + 1 + 8 * record.samples.len() + 1 + note + 1 + counts)
}

async fn keep_in_flight(mut stream: TcpStream, mut lane: Lane, op: Op, n: usize) -> Result<Lane> {
    let record = record_bytes();
    let mut frames = Frames::new();
    let mut out = Vec::new();
    let mut x = 0_i64;
    let mut send = |out: &mut Vec<u8>| {
        x += 1;
        match op {
            Op::EchoRecord => put(out, ECHO, &record),
            Op::Nested => put(out, NESTED, &x.to_le_bytes()),
            _ => put_add(out, x, 1),
        }
    };
    for _ in 0..n {
        send(&mut out);
    }
    let mut begin = lane.begin();
    while lane.goes_on() {
        stream.write_all(&out).await?;
        out.clear();
        frames.fill(&mut stream).await?;
        let mut n_answers = 0;
        while let Some((reply, payload)) = frames.next() {
            if reply == CALL_BACK {
                put(&mut out, CALLED_BACK, &(number(payload) + 1).to_le_bytes());
                continue;
            }
            n_answers += 1;
            send(&mut out);
        }
        match begin {
            Some(_) if n_answers == 1 => lane.end(begin),
            _ => lane.count(n_answers),
        }
        if n_answers > 0 {
            begin = lane.begin();
        }
    }
    Ok(lane)
}

async fn echo_blobs(mut stream: TcpStream, mut lane: Lane, len: usize) -> Result<Lane> {
    let mut frames = Frames::new();
    let mut body = blob(len);
    while lane.goes_on() {
        let begin = lane.begin();
        write_large(&mut stream, &body).await?;
        frames.fill(&mut stream).await?;
        while frames.announced().is_none() {
            frames.fill(&mut stream).await?;
        }
        frames.read_large(&mut stream, &mut body).await?;
        if body.len() != len {
            return Err("a blob has changed".into());
        }
        lane.end(begin);
    }
    Ok(lane)
}
