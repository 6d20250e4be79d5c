//! Mistakes that are easy to make here and hard to see, so that the tests can show that they would see them.
//!
//! A build with `--cfg mutants` makes the one whose number stands in `RMI_MUTANT`, and `tests/mutants.sh` runs the test
//! that has to fail then. In every other build [`is`] is `false` when it is compiled, and nothing of them is left.

/// A mistake. Its place in the code is where its name is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(mutants), allow(dead_code, reason = "some are used with `--cfg mutants` only"))]
pub(crate) enum Mutant {
    /// The reader waits until the queue has room.
    ReaderAwaitsAFullQueue = 1,
    /// What waits for a peer has no bound.
    UnboundedQueue,
    /// A call whose caller is gone stays in the table.
    PendingCallLeaked,
    /// A call that was cancelled does not count, though its method runs.
    PermitReleasedOnCancel,
    /// A method that runs waits for a place at the peer.
    NestedCallsWait,
    /// What has come of a frame is lost where the rest is waited for.
    HalfReadFrameLost,
    /// The table of peers is locked while a peer is dialled.
    LockedWhileDialling,
    /// A connection is closed before the last answers are written.
    AnswerLostAtShutdown,
    /// Each end keeps the connection that it has dialled itself.
    EachEndKeepsItsOwn,
    /// A large message leaves in one go.
    GiantMessageInOneGo,
    /// What a peer makes a method do reaches the task that serves it.
    PanicNotCaught,
    /// A call that was sent is said not to have run.
    SentCallSaidNotExecuted,
    /// What the socket has not taken of a frame is lost where the rest is waited for.
    HalfWrittenFrameLost,
    /// An answer ends the call that has the place of its own.
    LateAnswerTakenForAnother,
}

/// Whether this process makes the mistake.
#[cfg(not(mutants))]
#[inline(always)]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}

/// Whether this process makes the mistake.
#[cfg(mutants)]
pub(crate) fn is(mutant: Mutant) -> bool {
    static CHOSEN: std::sync::LazyLock<Option<u32>> =
        std::sync::LazyLock::new(|| std::env::var("RMI_MUTANT").ok()?.parse().ok());
    *CHOSEN == Some(mutant as u32)
}

/// The lock of [`Mutant::LockedWhileDialling`]: nobody else dials meanwhile.
#[cfg(mutants)]
pub(crate) async fn lock_while_dialling() -> Option<tokio::sync::MutexGuard<'static, ()>> {
    static TABLE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    if is(Mutant::LockedWhileDialling) { Some(TABLE.lock().await) } else { None }
}
