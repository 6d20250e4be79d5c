//! The promises, each as a check of what happened.

use std::fmt;
use std::time::Duration;

use rmi::{Class, Kind};

use crate::ledger::{Call, Callable, End, Trouble};

/// How late the end of a call may be: the keeper of a connection looks every 2 ms, and clocks have milliseconds.
const TICK: Duration = Duration::from_millis(5);

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub promise: &'static str,
    /// How.
    pub details: String,
}

impl Violation {
    pub(crate) fn new(promise: &'static str, details: String) -> Self {
        Self { promise, details }
    }

    fn of(promise: &'static str, call: &Call, why: &str) -> Self {
        Self::new(promise, format!("call {}: {why}; {call:?}", call.nonce))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.details)
    }
}

/// All checks of calls.
pub fn all(calls: &[Call], troubles: &[Trouble], is_tight: bool) -> Vec<Violation> {
    let each = |check: fn(&Call) -> Option<Violation>| calls.iter().filter_map(check);
    let mut violations: Vec<Violation> = Vec::new();
    violations.extend(each(ends_exactly_once));
    violations.extend(each(ends_by_its_deadline));
    violations.extend(each(runs_at_most_once));
    violations.extend(each(class_is_true));
    violations.extend(each(answer_is_its_own));
    violations.extend(calls.iter().filter_map(|call| calm_calls_succeed(call, troubles, is_tight)));
    violations.extend(calls.iter().filter_map(|call| goodbye_answers(call, troubles)));
    violations.extend(serial_calls_keep_their_order(calls));
    violations
}

/// I1, the first half.
pub fn ends_exactly_once(call: &Call) -> Option<Violation> {
    let promise = "I1: each call ends exactly once";
    (call.ends.len() != 1).then(|| Violation::of(promise, call, &format!("it ended {} times", call.ends.len())))
}

/// I1, the second half.
pub fn ends_by_its_deadline(call: &Call) -> Option<Violation> {
    let promise = "I1: each call ends by its deadline";
    let by = call.began + call.timeout?;
    let (at, _) = call.ends.first()?;
    (*at > by + TICK).then(|| Violation::of(promise, call, &format!("it ended {:?} late", *at - by)))
}

/// I2.
pub fn runs_at_most_once(call: &Call) -> Option<Violation> {
    let promise = "I2: no method runs twice for one request";
    (call.runs.len() > 1).then(|| Violation::of(promise, call, &format!("it ran {} times", call.runs.len())))
}

/// I3.
pub fn class_is_true(call: &Call) -> Option<Violation> {
    let promise = "I3: the class of an error is true";
    let n_runs = call.runs.len();
    let (_, end) = call.ends.first()?;
    let is_true = match end {
        // A one-way call ends when it is written.
        End::Answered(_) if call.what == Callable::Note => true,
        End::Answered(_) | End::Failed(_, Class::Executed) => n_runs == 1,
        End::Failed(_, Class::NotExecuted) => n_runs == 0,
        End::Failed(_, Class::MaybeExecuted) | End::Dropped => n_runs <= 1,
    };
    (!is_true).then(|| Violation::of(promise, call, &format!("it ran {n_runs} times")))
}

/// I4.
pub fn answer_is_its_own(call: &Call) -> Option<Violation> {
    let promise = "I4: an answer carries the nonce of its own request";
    let wrong = call.ends.iter().any(|(_, end)| matches!(end, End::Answered(nonce) if *nonce != call.nonce));
    wrong.then(|| Violation::of(promise, call, "the answer is another's"))
}

/// A call that no fault has touched has its answer, or what its method raised.
pub fn calm_calls_succeed(call: &Call, troubles: &[Trouble], is_tight: bool) -> Option<Violation> {
    let promise = "a call that no fault has touched succeeds";
    let (at, end) = call.ends.first()?;
    let has_trouble = |t: &Trouble| t.concerns(call.caller.node, call.callee) && t.from <= *at && call.began <= t.until;
    if troubles.iter().any(has_trouble) {
        return None;
    }
    let is_fine = match end {
        End::Answered(_) | End::Dropped => true,
        End::Failed(Kind::Raised, _) => matches!(call.what, Callable::Echo | Callable::Relay),
        End::Failed(Kind::Timeout | Kind::ExpiredOnArrival, _) => call.timeout.is_some() || call.is_nested(),
        End::Failed(Kind::Overloaded | Kind::Busy | Kind::RequestTooLarge | Kind::ResponseTooLarge, _) => is_tight,
        End::Failed(..) => false,
    };
    (!is_fine).then(|| Violation::of(promise, call, "it failed"))
}

/// I14.
pub fn goodbye_answers(call: &Call, troubles: &[Trouble]) -> Option<Violation> {
    let promise = "I14: a node that shuts down answers what it has accepted";
    let (at, end) = call.ends.first()?;
    let touches = |t: &&Trouble| t.concerns(call.caller.node, call.callee) && t.from <= *at && call.began <= t.until;
    let mut touching = troubles.iter().filter(touches).peekable();
    touching.peek()?;
    let graces: Option<Vec<Duration>> = touching.map(|trouble| Some(trouble.from + trouble.grace?)).collect();
    // With another fault beside it nothing is promised.
    let grace_is_over = graces?.iter().any(|over| *over <= *at + TICK);
    let End::Failed(kind, Class::MaybeExecuted) = end else { return None };
    let is_fine = match kind {
        // Its own time was over.
        Kind::Timeout => call.timeout.is_some() || call.is_nested(),
        // What has not ended after the grace is cancelled, and told by the node that did it.
        Kind::Cancelled => grace_is_over && call.callee != call.caller.node,
        Kind::LocalShutdown => grace_is_over,
        _ => false,
    };
    (!is_fine).then(|| Violation::of(promise, call, "it does not know whether it has run"))
}

/// I9, where it can be told: calls of a serial service that went through one and the same stream, with no other there.
pub fn serial_calls_keep_their_order(calls: &[Call]) -> Vec<Violation> {
    let promise = "I9: calls of a serial service keep their order";
    let mut rows = std::collections::BTreeMap::<_, Vec<&Call>>::new();
    for call in calls.iter().filter(|call| call.what == Callable::Journal) {
        if let (Some(stream), [run]) = (call.stream, &call.runs[..])
            && run.stream == Some(stream)
        {
            rows.entry((call.caller, run.process, stream)).or_default().push(call);
        }
    }
    let mut violations = Vec::new();
    for row in rows.values_mut() {
        row.sort_by_key(|call| call.order);
        for pair in row.windows(2) {
            if pair[0].runs[0].order > pair[1].runs[0].order {
                violations.push(Violation::of(promise, pair[1], &format!("it ran before call {}", pair[0].nonce)));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Process, Run, Work};

    const CALLER: Process = Process { node: 0, life: 1 };
    const CALLEE: Process = Process { node: 1, life: 1 };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A call that began after 100 ms and has this outcome after 200 ms, and runs of its method.
    fn call(end: End, n_runs: usize) -> Call {
        let run = Run { process: CALLEE, began: ms(150), order: 2, stream: Some(1) };
        Call {
            nonce: 16,
            caller: CALLER,
            callee: CALLEE.node,
            what: Callable::Echo,
            began: ms(100),
            timeout: None,
            work: Work::default(),
            ends: vec![(ms(200), end)],
            runs: vec![run; n_runs],
            order: 1,
            stream: Some(1),
        }
    }

    fn failed(kind: Kind, class: Class, n_runs: usize) -> Call {
        call(End::Failed(kind, class), n_runs)
    }

    fn trouble(node: usize, with: Option<usize>, grace: Option<Duration>, from: u64, until: u64) -> Trouble {
        Trouble { node, with, grace, from: ms(from), until: ms(until) }
    }

    fn promises(calls: &[Call], troubles: &[Trouble]) -> Vec<&'static str> {
        all(calls, troubles, false).into_iter().map(|violation| violation.promise).collect()
    }

    #[test]
    fn what_is_in_order_is_not_complained_of() {
        let mut note = call(End::Answered(16), 0);
        note.what = Callable::Note;
        let fine = [
            call(End::Answered(16), 1),
            failed(Kind::Raised, Class::Executed, 1),
            call(End::Dropped, 0),
            call(End::Dropped, 1),
            note,
        ];
        for call in fine {
            assert_eq!(promises(std::slice::from_ref(&call), &[]), [] as [&str; 0], "{call:?}");
        }
    }

    #[test]
    fn a_call_without_an_end_or_with_two_is_found() {
        let mut call = call(End::Answered(16), 1);
        call.ends.push(call.ends[0]);
        assert_eq!(promises(&[call.clone()], &[]), ["I1: each call ends exactly once"]);
        call.ends.clear();
        assert_eq!(promises(&[call], &[]), ["I1: each call ends exactly once"]);
    }

    #[test]
    fn a_call_that_outlives_its_deadline_is_found() {
        let mut call = call(End::Answered(16), 1);
        call.timeout = Some(ms(95));
        assert_eq!(promises(&[call.clone()], &[]), [] as [&str; 0]);
        call.timeout = Some(ms(94));
        assert_eq!(promises(&[call], &[]), ["I1: each call ends by its deadline"]);
    }

    #[test]
    fn a_method_that_runs_twice_is_found() {
        let twice = call(End::Dropped, 2);
        assert!(promises(&[twice], &[]).contains(&"I2: no method runs twice for one request"));
    }

    #[test]
    fn a_class_that_is_not_true_is_found() {
        let everywhere = [trouble(0, None, None, 0, 1000)];
        for (class, n_runs) in [(Class::NotExecuted, 1), (Class::Executed, 0)] {
            let call = failed(Kind::ConnectionLost, class, n_runs);
            assert_eq!(promises(&[call], &everywhere), ["I3: the class of an error is true"]);
        }
        assert_eq!(promises(&[call(End::Answered(16), 0)], &[]), ["I3: the class of an error is true"]);
        for n_runs in [0, 1] {
            assert!(class_is_true(&failed(Kind::ConnectionLost, Class::MaybeExecuted, n_runs)).is_none());
        }
    }

    #[test]
    fn the_answer_of_another_call_is_found() {
        let promise = "I4: an answer carries the nonce of its own request";
        assert_eq!(promises(&[call(End::Answered(32), 1)], &[]), [promise]);
    }

    #[test]
    fn a_call_that_fails_without_a_fault_is_found() {
        let lost = failed(Kind::ConnectionLost, Class::MaybeExecuted, 1);
        let promise = "a call that no fault has touched succeeds";
        // Before, after, and between others.
        let others =
            [trouble(0, Some(1), None, 0, 99), trouble(1, None, None, 201, 300), trouble(0, Some(2), None, 0, 300)];
        assert_eq!(promises(std::slice::from_ref(&lost), &others), [promise]);
        for touching in [trouble(1, Some(0), None, 0, 100), trouble(0, None, None, 200, 300)] {
            assert_eq!(promises(std::slice::from_ref(&lost), &[touching]), [] as [&str; 0]);
        }
    }

    #[test]
    fn an_accepted_call_that_a_shutdown_does_not_answer_is_found() {
        let lost = failed(Kind::ConnectionLost, Class::MaybeExecuted, 1);
        let goodbye = |grace| trouble(1, None, Some(ms(grace)), 150, 10_000);
        let promise = "I14: a node that shuts down answers what it has accepted";
        assert_eq!(promises(std::slice::from_ref(&lost), &[goodbye(1000)]), [promise]);
        // After the grace it is cancelled, and told.
        assert_eq!(promises(std::slice::from_ref(&lost), &[goodbye(50)]), [promise]);
        for kind in [Kind::Cancelled, Kind::LocalShutdown] {
            let told = failed(kind, Class::MaybeExecuted, 1);
            assert_eq!(promises(std::slice::from_ref(&told), &[goodbye(50)]), [] as [&str; 0]);
            assert_eq!(promises(&[told], &[goodbye(56)]), [promise]);
        }
        // Something else was wrong too.
        assert_eq!(promises(&[lost], &[goodbye(1000), trouble(0, Some(1), None, 0, 1000)]), [] as [&str; 0]);
        let refused = failed(Kind::GoingAway, Class::NotExecuted, 0);
        assert_eq!(promises(&[refused], &[goodbye(1000)]), [] as [&str; 0]);
    }

    #[test]
    fn serial_calls_that_change_places_are_found() {
        let (mut one, mut two) = (call(End::Answered(16), 1), call(End::Answered(32), 1));
        (one.what, two.what) = (Callable::Journal, Callable::Journal);
        (two.nonce, two.order, one.runs[0].order, two.runs[0].order) = (32, 2, 3, 4);
        assert_eq!(promises(&[one.clone(), two.clone()], &[]), [] as [&str; 0]);
        (one.runs[0].order, two.runs[0].order) = (4, 3);
        assert_eq!(promises(&[one.clone(), two.clone()], &[]), ["I9: calls of a serial service keep their order"]);
        // Over two connections nothing is promised.
        two.stream = Some(2);
        assert_eq!(promises(&[one, two], &[]), [] as [&str; 0]);
    }
}
