//! Two connections between the same nodes: both ends keep the same one, whatever each sees first.

use loom::thread;

use super::*;
use crate::peers::PeerTable;

const LESSER: InstanceId = InstanceId(1);
const GREATER: InstanceId = InstanceId(2);

/// One node as far as this matters: its table, and its ends of the two connections.
struct End {
    table: Mutex<PeerTable>,
    links: [Arc<Connection>; 2],
}

impl End {
    fn new(ours: InstanceId, theirs: InstanceId, has_dialled: [bool; 2]) -> Arc<Self> {
        let limits = Limits::default();
        let host = host(&limits);
        let links = has_dialled.map(|is_dialer| end_of(theirs, is_dialer, limits.clone(), &host, usize::MAX).0);
        Arc::new(Self { table: Mutex::new(PeerTable::new(ours, Vec::new(), Vec::new(), 16)), links })
    }

    /// The handshake of one of the connections is over. What a node does then is done, but without waiting.
    fn admit(&self, which: usize) {
        let link = &self.links[which];
        let admitted = lock(&self.table).admit(link, Instant::now());
        for lost in &admitted.lost {
            lost.say_goaway(GoAwayReason::Duplicate, "");
        }
        if admitted.established.is_some() {
            // The established one has answered its ping.
            link.say_goaway(GoAwayReason::Duplicate, "");
        }
    }

    /// What this end has said is heard at the other.
    fn is_heard(&self, other: &Self) {
        for (link, far) in self.links.iter().zip(&other.links) {
            let said = lock(&link.state).said_goaway;
            if let Some(reason) = said {
                far.went_away(&GoAway { reason, last_accepted: u64::MAX, message: String::new() });
            }
        }
    }

    fn canonical(&self) -> usize {
        let link = self.links.iter().find_map(|link| lock(&self.table).link(link.instance()));
        let link = link.expect("no connection takes calls");
        self.links.iter().position(|other| Arc::ptr_eq(other, &link)).unwrap()
    }
}

/// Two connections, each dialled by the node with the lesser instance or not. The node with the greater one knows of
/// them in the order `seen`.
fn both_keep_the_same(lesser_dials: [bool; 2], seen: [usize; 2]) {
    model(move || {
        let lesser = End::new(LESSER, GREATER, lesser_dials);
        let greater = End::new(GREATER, LESSER, lesser_dials.map(|dials| !dials));
        let admitting = [0, 1].map(|which| {
            let lesser = Arc::clone(&lesser);
            thread::spawn(move || lesser.admit(which))
        });
        for which in seen {
            greater.admit(which);
            lesser.is_heard(&greater);
        }
        admitting.into_iter().for_each(|thread| thread.join().unwrap());
        lesser.is_heard(&greater);
        greater.is_heard(&lesser);
        assert_eq!(lesser.canonical(), greater.canonical());
        for end in [lesser, greater] {
            let n_left = end.links.iter().filter(|link| link.takes_calls()).count();
            assert_eq!(n_left, 1, "connections that take calls");
        }
    });
}

#[test]
fn two_that_both_ends_have_dialled() {
    for seen in [[0, 1], [1, 0]] {
        both_keep_the_same([true, false], seen);
    }
}

#[test]
fn two_that_the_same_end_has_dialled() {
    for seen in [[0, 1], [1, 0]] {
        both_keep_the_same([true, true], seen);
        both_keep_the_same([false, false], seen);
    }
}
