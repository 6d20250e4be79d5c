//! What can become of a call, and what its caller may conclude.
//!
//! [`Kind`] says what happened, [`Class`] whether the method can have run. The two travel together: a node that
//! receives a kind it does not know still knows the class.

use std::fmt;

/// Whether the method of a failed call can have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The method did not run and will not: the call may be repeated.
    NotExecuted,
    /// It ran once, not at all, or still runs.
    MaybeExecuted,
    /// It was started exactly once.
    Executed,
}

impl Class {
    /// The number on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Class::NotExecuted => 0,
            Class::MaybeExecuted => 1,
            Class::Executed => 2,
        }
    }

    /// The class with this number; what is unknown can have run.
    pub const fn from_code(code: u64) -> Self {
        match code {
            0 => Class::NotExecuted,
            2 => Class::Executed,
            _ => Class::MaybeExecuted,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::NotExecuted => "not executed",
            Class::MaybeExecuted => "may have executed",
            Class::Executed => "executed",
        })
    }
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $class:ident;)+) => {
        /// What happened to a call that did not return a value.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[doc = $doc])+ $name,)+
            /// A kind that this version does not know, with its code. Its class travelled beside it.
            Other(u16),
        }

        impl Kind {
            /// The number on the wire. It never changes its meaning.
            pub const fn code(self) -> u16 {
                match self {
                    $(Kind::$name => $code,)+
                    Kind::Other(code) => code,
                }
            }

            /// The kind with this number.
            pub const fn from_code(code: u16) -> Self {
                match code {
                    $($code => Kind::$name,)+
                    code => Kind::Other(code),
                }
            }

            /// The class of this kind where nothing is known about how far the call got: the careful answer.
            pub const fn class(self) -> Class {
                match self {
                    $(Kind::$name => Class::$class,)+
                    Kind::Other(_) => Class::MaybeExecuted,
                }
            }

            /// Every kind with a code of its own.
            pub const ALL: &'static [Kind] = &[$(Kind::$name),+];
        }
    };
}

kinds! {
    /// The method ran and returned an error.
    Raised = 1, Executed;
    /// The method panicked: its effects may be partial.
    Panicked = 2, Executed;
    /// The method ran; its result is larger than a message may be.
    ResponseTooLarge = 3, Executed;
    /// The method ran; its result could not be encoded.
    ResponseEncode = 4, Executed;
    /// The method ran; its result could not be decoded here.
    ResponseDecode = 5, Executed;
    /// There is no connection to the peer and no way to make one.
    NotConnected = 16, NotExecuted;
    /// The peer could not be connected to.
    ConnectFailed = 17, NotExecuted;
    /// Too many calls wait on this side already.
    Overloaded = 18, NotExecuted;
    /// The arguments are larger than a message may be.
    RequestTooLarge = 19, NotExecuted;
    /// The arguments could not be encoded.
    RequestEncode = 20, NotExecuted;
    /// This node is shutting down.
    LocalShutdown = 21, NotExecuted;
    /// `wait()` was called where it would block an async runtime.
    WouldBlock = 22, NotExecuted;
    /// The peer is at its limit of calls or of memory.
    Busy = 32, NotExecuted;
    /// The peer has no such service or method.
    NoSuchMethod = 33, NotExecuted;
    /// The peer does not allow this caller to call.
    Denied = 34, NotExecuted;
    /// The arguments do not fit the method.
    BadArguments = 35, NotExecuted;
    /// The deadline had passed when the call reached the peer.
    ExpiredOnArrival = 36, NotExecuted;
    /// The peer is shutting down.
    GoingAway = 37, MaybeExecuted;
    /// No answer came in time.
    Timeout = 48, MaybeExecuted;
    /// The call was cancelled.
    Cancelled = 49, MaybeExecuted;
    /// The connection ended before the answer came.
    ConnectionLost = 50, MaybeExecuted;
    /// The peer was restarted before the answer came.
    PeerRestarted = 51, MaybeExecuted;
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Other(code) => write!(f, "kind {code}"),
            kind => fmt::Debug::fmt(kind, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_survive_the_wire() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), *kind);
        }
        let mut codes: Vec<u16> = Kind::ALL.iter().map(|kind| kind.code()).collect();
        codes.dedup();
        assert_eq!(codes.len(), Kind::ALL.len());
        assert_eq!(Kind::from_code(999), Kind::Other(999));
        assert_eq!(Kind::Other(999).class(), Class::MaybeExecuted);
    }
}
