//! A bad network between two nodes: it delays, throttles, cuts to pieces, cuts off, resets, and falls silent.
//!
//! A [`Proxy`] stands between who dials and who is dialled: as a TCP listener of its own, or as the network of a node
//! whose time is virtual. What it does to the bytes of each [`Way`] can be changed at any time, and counts for the
//! connections there are and for later ones. All its tasks end when it is dropped.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmi::Address;
use rmi_net::seam::{BoxFuture, Listener, Net, Stream};
use rmi_net::transport::SystemNet;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// A direction of the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From who has dialled.
    Out,
    /// To who has dialled.
    Back,
}

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing comes any more in this direction, and its reader is told so. What still comes from its writer is lost.
    Fin,
    /// The connection is reset at both ends.
    Rst,
}

/// In which pieces bytes are handed on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pieces {
    /// As they come.
    Whole,
    /// Of this length.
    Of(usize),
    /// Of lengths between one and this, from a seed.
    Random(usize, u64),
}

/// What happens to the bytes of a direction.
#[derive(Debug, Clone)]
struct Faults {
    delay: Duration,
    bytes_per_second: Option<u64>,
    pieces: Pieces,
    is_frozen: bool,
    /// Counted from the proxy's first byte in this direction.
    cut: Option<(u64, Cut)>,
}

/// A direction of all connections of a proxy.
#[derive(Debug)]
struct Line {
    faults: watch::Sender<Faults>,
    n_forwarded: AtomicU64,
    record: Mutex<Option<Vec<u8>>>,
}

/// What the proxy's tasks share.
#[derive(Debug)]
struct Shared {
    out: Line,
    back: Line,
    /// `None` once the proxy was dropped: a connection that is being made just then is not carried.
    links: Mutex<Option<JoinSet<()>>>,
    n_links: AtomicUsize,
    /// Told when every connection is to be reset.
    reset: Notify,
}

/// What stands between two nodes.
#[derive(Debug)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    address: String,
    listening: Option<AbortHandle>,
}

/// Bytes read at once.
const READ: usize = 16 << 10;
/// How far a slow line may lag behind its speed before it has lost the time.
const CATCH_UP: Duration = Duration::from_millis(10);
/// Pieces that are on their way, delayed.
const UNDER_WAY: usize = 256;

impl Proxy {
    /// A proxy to dial instead of this `host:port`.
    pub(crate) async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a port");
        let address = listener.local_addr().expect("it has an address").to_string();
        let shared = Arc::new(Shared::new());
        let listening = tokio::spawn(accept(listener, target.to_owned(), Arc::clone(&shared))).abort_handle();
        Self { shared, address, listening: Some(listening) }
    }

    /// A proxy through which a node dials that has this network. For virtual time: no system is asked.
    pub(crate) fn net() -> (Self, Arc<dyn Net>) {
        let shared = Arc::new(Shared::new());
        let net = Arc::new(ProxyNet(Arc::clone(&shared)));
        (Self { shared, address: String::new(), listening: None }, net)
    }

    /// Where to dial, as a URL.
    pub(crate) fn url(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Where to dial.
    pub(crate) fn host_port(&self) -> &str {
        &self.address
    }

    /// Every byte arrives this much later.
    pub(crate) fn delay(&self, way: Way, delay: Duration) {
        self.change(way, |faults| faults.delay = delay);
    }

    /// So many bytes arrive each second at most.
    pub(crate) fn throttle(&self, way: Way, bytes_per_second: u64) {
        self.change(way, |faults| faults.bytes_per_second = Some(bytes_per_second));
    }

    /// Bytes arrive in such pieces.
    pub(crate) fn split(&self, way: Way, pieces: Pieces) {
        self.change(way, |faults| faults.pieces = pieces);
    }

    /// Cuts the connection when so many more bytes have arrived: at once for none.
    pub(crate) fn cut_after(&self, way: Way, n_bytes: u64, cut: Cut) {
        let line = self.shared.line(way);
        self.change(way, |faults| faults.cut = Some((line.n_forwarded.load(Ordering::SeqCst) + n_bytes, cut)));
    }

    /// Resets every connection.
    pub(crate) fn reset(&self) {
        self.shared.reset.notify_waiters();
    }

    /// Reads nothing of this direction any more, and hands nothing on. The sockets stay open.
    pub(crate) fn freeze(&self, way: Way) {
        self.change(way, |faults| faults.is_frozen = true);
    }

    /// Falls silent in both directions. The sockets stay open.
    pub(crate) fn black_hole(&self) {
        self.freeze(Way::Out);
        self.freeze(Way::Back);
    }

    /// Hands on again, also what has waited.
    pub(crate) fn thaw(&self) {
        for way in [Way::Out, Way::Back] {
            self.change(way, |faults| faults.is_frozen = false);
        }
    }

    /// How many bytes have arrived in this direction.
    pub(crate) fn n_forwarded(&self, way: Way) -> u64 {
        self.shared.line(way).n_forwarded.load(Ordering::SeqCst)
    }

    /// How many connections go through it.
    pub(crate) fn n_links(&self) -> usize {
        self.shared.n_links.load(Ordering::SeqCst)
    }

    /// Keeps what arrives from now on.
    pub(crate) fn record(&self) {
        for way in [Way::Out, Way::Back] {
            *self.shared.line(way).record.lock().expect("nobody panics with it") = Some(Vec::new());
        }
    }

    /// What has arrived since [`record`](Self::record).
    pub(crate) fn recorded(&self, way: Way) -> Vec<u8> {
        self.shared.line(way).record.lock().expect("nobody panics with it").clone().unwrap_or_default()
    }

    fn change(&self, way: Way, change: impl FnOnce(&mut Faults)) {
        self.shared.line(way).faults.send_modify(change);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
        // With it, its tasks.
        drop(self.shared.links.lock().expect("nobody panics with it").take());
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            out: Line::new(),
            back: Line::new(),
            links: Mutex::new(Some(JoinSet::new())),
            n_links: AtomicUsize::new(0),
            reset: Notify::new(),
        }
    }

    fn line(&self, way: Way) -> &Line {
        match way {
            Way::Out => &self.out,
            Way::Back => &self.back,
        }
    }

    /// Starts to carry bytes between two sides.
    fn carry(self: &Arc<Self>, dialer: Side, acceptor: Side) {
        let shared = Arc::clone(self);
        shared.n_links.fetch_add(1, Ordering::SeqCst);
        let link = OpenLink(Arc::clone(self));
        let mut links = self.links.lock().expect("nobody panics with it");
        let Some(links) = &mut *links else { return };
        while links.try_join_next().is_some() {}
        links.spawn(async move {
            let _link = link;
            let (mut dialer, mut acceptor) = (dialer, acceptor);
            let was_reset = {
                let (from_dialer, to_dialer) = dialer.halves();
                let (from_acceptor, to_acceptor) = acceptor.halves();
                let both_ways = async {
                    tokio::try_join!(
                        pipe(from_dialer, to_acceptor, &shared.out),
                        pipe(from_acceptor, to_dialer, &shared.back)
                    )
                };
                tokio::select! {
                    carried = both_ways => carried.is_err(),
                    () = shared.reset.notified() => true,
                }
            };
            if was_reset {
                dialer.reset();
                acceptor.reset();
            }
        });
    }
}

struct OpenLink(Arc<Shared>);

impl Drop for OpenLink {
    fn drop(&mut self) {
        self.0.n_links.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Line {
    fn new() -> Self {
        let faults = Faults {
            delay: Duration::ZERO,
            bytes_per_second: None,
            pieces: Pieces::Whole,
            is_frozen: false,
            cut: None,
        };
        Self { faults: watch::Sender::new(faults), n_forwarded: AtomicU64::new(0), record: Mutex::default() }
    }

    /// How many bytes may still arrive, and how the connection is cut then.
    fn until_cut(&self) -> Option<(u64, Cut)> {
        let (at, cut) = self.faults.borrow().cut?;
        Some((at.saturating_sub(self.n_forwarded.load(Ordering::SeqCst)), cut))
    }

    /// Counts bytes that are about to arrive. Counted before: who sees their effect sees them counted.
    fn forward(&self, bytes: &[u8]) {
        self.n_forwarded.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        if let Some(record) = &mut *self.record.lock().expect("nobody panics with it") {
            record.extend_from_slice(bytes);
        }
    }
}

async fn accept(listener: TcpListener, target: String, shared: Arc<Shared>) {
    loop {
        let Ok((dialer, _)) = listener.accept().await else { continue };
        // Nobody is there: the dialer sees a connection that is closed at once.
        let Ok(acceptor) = TcpStream::connect(&target).await else { continue };
        if dialer.set_nodelay(true).is_ok() && acceptor.set_nodelay(true).is_ok() {
            shared.carry(dialer.into(), acceptor.into());
        }
    }
}

/// The network of a node whose connections go through a proxy.
struct ProxyNet(Arc<Shared>);

impl fmt::Debug for ProxyNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyNet").finish_non_exhaustive()
    }
}

impl Net for ProxyNet {
    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let acceptor = SystemNet.dial(address).await?;
            let remote = acceptor.remote.clone();
            let (near, far) = tokio::io::duplex(64 << 10);
            let ((reader, writer), (from_dialer, to_dialer)) = (tokio::io::split(near), tokio::io::split(far));
            let dialer = Side::Other(Box::new(from_dialer), Box::new(to_dialer));
            self.0.carry(dialer, Side::Other(Box::new(acceptor.reader), Box::new(acceptor.writer)));
            Ok(Stream::new(reader, writer, remote))
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<(Box<dyn Listener>, Address)>> {
        SystemNet.listen(address)
    }
}

type Reader = dyn AsyncRead + Send + Unpin;
type Writer = dyn AsyncWrite + Send + Unpin;

/// One of the two sockets of a connection.
enum Side {
    Tcp(OwnedReadHalf, OwnedWriteHalf),
    Other(Box<Reader>, Box<Writer>),
}

impl From<TcpStream> for Side {
    fn from(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self::Tcp(reader, writer)
    }
}

impl Side {
    fn halves(&mut self) -> (&mut Reader, &mut Writer) {
        match self {
            Self::Tcp(reader, writer) => (reader, writer),
            Self::Other(reader, writer) => (&mut **reader, &mut **writer),
        }
    }

    fn reset(self) {
        // In memory there is no reset: who reads or writes sees the end.
        let Self::Tcp(_reader, writer) = self else { return };
        // A socket that does not linger resets its connection when it is closed.
        #[allow(deprecated, reason = "what replaces it is newer than the oldest tokio that is allowed")]
        let _ = writer.as_ref().set_linger(Some(Duration::ZERO));
        // Dropping it would end the direction in peace before.
        writer.forget();
    }
}

/// The connection is to be reset.
struct Reset;

/// Carries the bytes of one direction to its end, which is that of the reader.
async fn pipe(from: &mut Reader, to: &mut Writer, line: &Line) -> Result<(), Reset> {
    let (sender, receiver) = mpsc::channel(UNDER_WAY);
    tokio::try_join!(take_in(from, sender, line), hand_on(to, receiver, line))?;
    Ok(())
}

async fn take_in(from: &mut Reader, sender: mpsc::Sender<(Instant, Vec<u8>)>, line: &Line) -> Result<(), Reset> {
    let mut faults = line.faults.subscribe();
    let mut buffer = vec![0; READ];
    loop {
        thawed(&mut faults).await;
        let n = tokio::select! {
            read = from.read(&mut buffer) => read.map_err(|_| Reset)?,
            _ = faults.changed() => continue,
        };
        if n == 0 {
            return Ok(());
        }
        let due = Instant::now() + faults.borrow().delay;
        // The other end lives as long as this one.
        let _ = sender.send((due, buffer[..n].to_vec())).await;
    }
}

async fn hand_on(to: &mut Writer, mut receiver: mpsc::Receiver<(Instant, Vec<u8>)>, line: &Line) -> Result<(), Reset> {
    let mut faults = line.faults.subscribe();
    let mut random = fastrand::Rng::new();
    if let Pieces::Random(_, seed) = faults.borrow().pieces {
        random.seed(seed);
    }
    // Whether nothing arrives any more.
    let mut is_cut = false;
    // Until when what has arrived takes up the line.
    let mut paid_until = Instant::now();
    loop {
        let arrived = tokio::select! {
            arrived = receiver.recv() => arrived,
            _ = faults.changed() => {
                is_cut = is_cut || cut_now(to, line).await?;
                continue;
            }
        };
        let Some((due, bytes)) = arrived else {
            if !is_cut {
                thawed(&mut faults).await;
                let _ = to.shutdown().await;
            }
            return Ok(());
        };
        tokio::time::sleep_until(due).await;
        let mut rest = &bytes[..];
        while !rest.is_empty() && !is_cut {
            thawed(&mut faults).await;
            let Faults { pieces, bytes_per_second, .. } = faults.borrow().clone();
            let most = match pieces {
                Pieces::Whole => rest.len(),
                Pieces::Of(len) => len,
                Pieces::Random(most, _) => random.usize(1..=most),
            };
            let most = line.until_cut().map_or(most, |(left, _)| most.min(left as usize));
            let (piece, behind) = rest.split_at(most.min(rest.len()));
            rest = behind;
            line.forward(piece);
            if to.write_all(piece).await.is_err() {
                // Its reader is gone, which the other direction will say.
                is_cut = true;
            }
            is_cut = is_cut || cut_now(to, line).await?;
            if let Some(bytes_per_second) = bytes_per_second {
                // What timers are too coarse for is caught up with.
                let now = Instant::now();
                let takes = Duration::from_secs_f64(piece.len() as f64 / bytes_per_second as f64);
                paid_until = paid_until.max(now - CATCH_UP) + takes;
                if paid_until > now {
                    tokio::time::sleep_until(paid_until).await;
                }
            } else if !rest.is_empty() {
                // So that pieces arrive one by one.
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Cuts the connection if its bytes have arrived. Whether it has.
async fn cut_now(to: &mut Writer, line: &Line) -> Result<bool, Reset> {
    match line.until_cut() {
        Some((0, cut)) => {
            // Of the connections that there are: later ones are whole.
            line.faults.send_if_modified(|faults| {
                faults.cut = None;
                false
            });
            match cut {
                Cut::Rst => Err(Reset),
                Cut::Fin => {
                    let _ = to.shutdown().await;
                    Ok(true)
                }
            }
        }
        _ => Ok(false),
    }
}

async fn thawed(faults: &mut watch::Receiver<Faults>) {
    // The sender lives as long as the proxy's tasks.
    let _ = faults.wait_for(|faults| !faults.is_frozen).await;
}
