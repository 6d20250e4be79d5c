//! A call until it is sent, in one piece of memory that its thread uses again.
//!
//! From the stub to the connection a call is moved from hand to hand, and moving it cost more than writing it. So
//! [`Args`](crate::Args) and [`Request`](crate::message::Request) are pointers to a draft. Once the call is on its way the
//! thread keeps the draft, with its buffers, for the next one; with the call stays the name of what is called. So a call
//! that goes out at once allocates nothing, and however many are under way, the next one is written in memory that is at
//! hand. What has to wait before it goes out is taken along in a draft of its own, and what never starts (dropped, panicked)
//! takes its draft along.
//!
//! Invariants: a draft that is kept is blank, so it keeps nothing alive; how many are kept, and how large, is bounded.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::args::EncodedArgs;
use crate::kept::{self, Kept};
use crate::message::Target;
use crate::scope::Scope;

/// How many drafts a thread keeps: as many calls may be built before the first of them starts.
const MOST_KEPT: usize = 256;
/// How large each of their two buffers may be, and those of the first few.
const KEPT_CAPACITY: usize = 512;
const MOST_KEPT_LARGE: usize = 16;
const KEPT_CAPACITY_LARGE: usize = 4 << 10;

thread_local! {
    // Boxes, because it is them who are used again.
    #[allow(clippy::vec_box)]
    static KEPT: Kept<Box<Draft>> = const { Kept::new(Vec::new()) };
}

/// See the module.
#[derive(Debug, Default)]
pub struct Draft {
    /// What is called.
    pub target: Target,
    /// With what.
    pub args: EncodedArgs,
    /// For how long, as the caller set it.
    pub timeout: Option<Duration>,
    /// Until when, as the caller set it, on the system's monotonic clock.
    pub deadline: Option<Instant>,
    /// Until when at the latest, on the node's clock: set once the call has begun, so that waiting does not prolong it.
    pub begun_deadline: Option<Instant>,
    /// Whether the method goes on when the caller is gone.
    pub no_cancel: bool,
    /// Whether no answer is wanted.
    pub one_way: bool,
    /// The W3C trace context, where the caller set one; otherwise the calling method's is handed on.
    pub trace_parent: Option<Arc<str>>,
    /// What the calling method hands on; `None` outside of a method.
    pub scope: Option<Scope>,
}

// Whatever a panic leaves in a draft is well-formed, and what it points to is not shared with who catches the panic.
impl UnwindSafe for Draft {}
impl RefUnwindSafe for Draft {}

impl Draft {
    /// A blank one.
    pub(crate) fn new() -> Box<Self> {
        kept::take(&KEPT).unwrap_or_default()
    }

    /// The call has been sent, or never will be: all that is still of use is its name. The draft is for another one.
    pub(crate) fn keep(mut self: Box<Self>) -> Target {
        let target = std::mem::take(&mut self.target);
        self.args.clear(KEPT_CAPACITY_LARGE);
        self.timeout = None;
        self.deadline = None;
        self.begun_deadline = None;
        self.no_cancel = false;
        self.one_way = false;
        self.trace_parent = None;
        self.scope = None;
        kept::keep(&KEPT, MOST_KEPT, |n_kept| {
            if n_kept >= MOST_KEPT_LARGE {
                self.args.clear(KEPT_CAPACITY);
            }
            self
        });
        target
    }
}

/// How many drafts this thread keeps.
#[cfg(test)]
pub(crate) fn n_kept() -> usize {
    KEPT.with_borrow(Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Blob;
    use crate::args;
    use crate::args::tests::Never;
    use crate::message::Request;

    /// A draft with something of everything, sent and kept.
    fn use_and_keep(capacity: usize) -> (std::sync::Weak<str>, Blob) {
        let blob = Blob::from(vec![1; 100]);
        let trace: Arc<str> = "trace".into();
        let mut request = Request::new(Target::by_name("Service.method"), args![vec![7u8; capacity], blob, k = 1]);
        request.timeout = Some(Duration::ZERO);
        request.deadline = Some(Instant::now());
        request.begun_deadline = request.deadline;
        (request.no_cancel, request.one_way) = (true, true);
        request.scope = Some(Scope::new(request.deadline).with_trace_parent(Some(Arc::clone(&trace))));
        request.trace_parent = Some(trace);
        let trace = request.trace_parent.as_ref().map(Arc::downgrade).unwrap();
        assert_eq!(request.keep(), Target::by_name("Service.method"));
        (trace, blob)
    }

    #[test]
    fn a_draft_that_is_kept_is_blank_and_keeps_nothing_alive() {
        let (trace, blob) = use_and_keep(10);
        assert_eq!((n_kept(), trace.strong_count()), (1, 0));
        assert!(blob.into_bytes().is_unique());
        let draft = Draft::new();
        assert_eq!(n_kept(), 0);
        assert_eq!(format!("{draft:?}"), format!("{:?}", Draft::default()));
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_in_size() {
        let build = |n_bytes| Request::new(Target::by_name("m"), args![vec![7u8; n_bytes]]);
        let requests: Vec<_> = (0..MOST_KEPT + 10).map(|_| build(KEPT_CAPACITY_LARGE / 2 + 10)).collect();
        for request in requests {
            request.keep();
        }
        let capacities = || KEPT.with_borrow(|kept| kept.iter().map(|draft| draft.args.capacity()).collect::<Vec<_>>());
        assert_eq!(n_kept(), MOST_KEPT);
        assert!(capacities()[..MOST_KEPT_LARGE].iter().all(|capacity| *capacity > KEPT_CAPACITY));
        assert!(capacities()[MOST_KEPT_LARGE..].iter().all(|capacity| *capacity == 0), "{:?}", capacities());
        KEPT.with_borrow_mut(Vec::clear);
        // As many as are kept can be built at once without a new one.
        let requests: Vec<_> = (0..MOST_KEPT).map(|_| build(1)).collect();
        requests.into_iter().for_each(|request| drop(request.keep()));
        let requests: Vec<_> = (0..MOST_KEPT).map(|_| build(1)).collect();
        assert_eq!((n_kept(), requests.len()), (0, MOST_KEPT));
        // A single large one leaves nothing large behind.
        Request::new(Target::by_name("m"), args![vec![7u8; 1 << 20], k = vec![7u8; 1 << 20]]).keep();
        assert_eq!(capacities(), [0]);
    }

    #[test]
    fn the_next_call_knows_nothing_of_one_whose_arguments_panicked_or_could_not_be_encoded() {
        struct Panics;
        impl serde::Serialize for Panics {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                panic!("as told")
            }
        }
        let blob = Blob::from(vec![1]);
        std::panic::catch_unwind(|| args![1, blob, (&blob, Panics)]).unwrap_err();
        let request = Request::new(Target::by_name("m"), args![1, blob, (&blob, Never), k = Never]);
        assert!(request.args.error().is_some());
        request.keep();
        // The number of its blob is the first again.
        let args = args![2, blob];
        assert_eq!(args.positional(), [2, 0xd6, 0x42, 0, 0, 0, 0]);
        assert_eq!((args.n_positional(), args.n_keywords(), args.attachments().len()), (2, 0, 1));
        assert!(args.error().is_none());
    }
}
