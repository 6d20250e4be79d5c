//! The arguments of one call, encoded as they are given.
//!
//! `args![1, b = 2]` collects them for a call by name; stubs push theirs one by one. Either way each value is encoded
//! once, at once: nothing is borrowed after that, and a value that cannot be encoded is reported by the call, not here.

use std::ops::Deref;

use bytes::Bytes;
use serde::Serialize;

use crate::draft::Draft;
use crate::payload::{self, EncodeError};

/// Positional and keyword arguments, encoded.
///
/// What was pushed is read as [`EncodedArgs`].
#[derive(Debug)]
pub struct Args(pub(crate) Box<Draft>);

impl Args {
    /// No arguments.
    pub fn new() -> Self {
        Self(Draft::new())
    }

    /// Adds a positional argument.
    pub fn push<T: Serialize + ?Sized>(&mut self, value: &T) {
        let args = &mut self.0.args;
        let pushed = payload::encode(value, &mut args.values, &mut args.attachments);
        args.n_positional += 1;
        args.note(pushed);
    }

    /// Adds a keyword argument.
    pub fn push_keyword<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        let args = &mut self.0.args;
        let _ = rmp_serde::encode::write(&mut args.keywords, name);
        let pushed = payload::encode(value, &mut args.keywords, &mut args.attachments);
        args.n_keywords += 1;
        args.note(pushed);
    }

    /// Adds the argument of a parameter that may be left out by `None`. What follows a gap goes by name.
    #[doc(hidden)]
    pub fn push_defaulted<T: Serialize + ?Sized>(&mut self, name: &str, value: Option<&T>) {
        match value {
            Some(value) if self.has_gap => self.push_keyword(name, value),
            Some(value) => self.push(value),
            None => self.0.args.has_gap = true,
        }
    }

    /// The same for a parameter that can be given by position only: it cannot follow a gap.
    #[doc(hidden)]
    pub fn push_defaulted_positional<T: Serialize + ?Sized>(&mut self, name: &str, value: Option<&T>) {
        if self.has_gap && value.is_some() {
            self.0.args.note(Err(EncodeError::new(format_args!(
                "argument `{name}` can be given by position only, so the ones before it cannot be left out"
            ))));
        } else {
            self.push_defaulted(name, value);
        }
    }

    /// Adds the argument of a keyword-only parameter that may be left out.
    #[doc(hidden)]
    pub fn push_defaulted_keyword<T: Serialize + ?Sized>(&mut self, name: &str, value: Option<&T>) {
        if let Some(value) = value {
            self.push_keyword(name, value);
        }
    }
}

impl Default for Args {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for Args {
    fn clone(&self) -> Self {
        let mut clone = Self::new();
        clone.0.args.copy(&self.0.args);
        clone
    }
}

impl Deref for Args {
    type Target = EncodedArgs;

    fn deref(&self) -> &EncodedArgs {
        &self.0.args
    }
}

/// The arguments of a call, one behind the other.
#[derive(Debug, Clone, Default)]
pub struct EncodedArgs {
    /// The positional values.
    values: Vec<u8>,
    n_positional: usize,
    /// Names and values of the keyword arguments, in turn.
    keywords: Vec<u8>,
    n_keywords: usize,
    attachments: Vec<Bytes>,
    /// A defaulted parameter was left out, so what follows goes by name.
    has_gap: bool,
    error: Option<EncodeError>,
}

impl EncodedArgs {
    /// How many positional arguments there are.
    pub fn n_positional(&self) -> usize {
        self.n_positional
    }

    /// How many keyword arguments there are.
    pub fn n_keywords(&self) -> usize {
        self.n_keywords
    }

    /// The positional values, one behind the other.
    pub fn positional(&self) -> &[u8] {
        &self.values
    }

    /// Names and values of the keyword arguments, one behind the other.
    pub fn keywords(&self) -> &[u8] {
        &self.keywords
    }

    /// The blobs among the arguments.
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// The first argument that could not be encoded.
    pub fn error(&self) -> Option<&EncodeError> {
        self.error.as_ref()
    }

    /// Becomes these, in its own buffers.
    fn copy(&mut self, from: &Self) {
        let Self { values, n_positional, keywords, n_keywords, attachments, has_gap, error } = from;
        values.clone_into(&mut self.values);
        keywords.clone_into(&mut self.keywords);
        attachments.clone_into(&mut self.attachments);
        (self.n_positional, self.n_keywords, self.has_gap) = (*n_positional, *n_keywords, *has_gap);
        self.error.clone_from(error);
    }

    /// Forgets all of them. Buffers that are not larger than this stay, for others.
    #[inline]
    pub(crate) fn clear(&mut self, most: usize) {
        self.values.clear();
        self.keywords.clear();
        (self.n_positional, self.n_keywords, self.has_gap) = (0, 0, false);
        let is_small = self.values.capacity() <= most && self.keywords.capacity() <= most;
        if !is_small || !self.attachments.is_empty() || self.error.is_some() {
            self.let_go(most);
        }
    }

    /// Lets go of what is not used again.
    #[cold]
    fn let_go(&mut self, most: usize) {
        for buffer in [&mut self.values, &mut self.keywords] {
            if buffer.capacity() > most {
                *buffer = Vec::new();
            }
        }
        self.attachments = Vec::new();
        self.error = None;
    }

    /// Bytes for which there is memory.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.values.capacity() + self.keywords.capacity()
    }

    fn note(&mut self, pushed: Result<(), EncodeError>) {
        if let Err(error) = pushed {
            self.error.get_or_insert(error);
        }
    }
}

/// The arguments of a call by name: positional ones, then keyword ones.
///
/// ```
/// # use rmi_core::args;
/// let nothing = args![];
/// let both = args![1, "two", scale = 2.5];
/// assert_eq!((both.n_positional(), both.n_keywords()), (2, 1));
/// ```
///
/// A positional argument behind a keyword argument is a compile error, as in Python:
///
/// ```compile_fail
/// # use rmi_core::args;
/// args![a = 1, 2];
/// ```
#[macro_export]
macro_rules! args {
    (@ $args:ident,) => {};
    (@ $args:ident, $name:ident = $value:expr $(, $($rest:tt)*)?) => {
        $args.push_keyword($crate::__private::parameter_name(::core::stringify!($name)), &$value);
        $crate::args!(@keywords $args, $($($rest)*)?);
    };
    (@ $args:ident, $value:expr $(, $($rest:tt)*)?) => {
        $args.push(&$value);
        $crate::args!(@ $args, $($($rest)*)?);
    };
    (@keywords $args:ident,) => {};
    (@keywords $args:ident, $name:ident = $value:expr $(, $($rest:tt)*)?) => {
        $args.push_keyword($crate::__private::parameter_name(::core::stringify!($name)), &$value);
        $crate::args!(@keywords $args, $($($rest)*)?);
    };
    (@keywords $args:ident, $value:expr $(, $($rest:tt)*)?) => {
        ::core::compile_error!(::core::concat!("positional argument `", ::core::stringify!($value), "` follows a keyword argument"));
    };
    () => { $crate::Args::new() };
    ($($all:tt)+) => {{
        let mut __rmi_args = $crate::Args::new();
        $crate::args!(@ __rmi_args, $($all)+);
        __rmi_args
    }};
}

#[cfg(test)]
pub(crate) mod tests {
    /// A value that cannot be encoded.
    pub(crate) struct Never;

    impl serde::Serialize for Never {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("never"))
        }
    }

    #[test]
    fn a_gap_turns_what_follows_into_keywords() {
        let mut args = super::Args::new();
        args.push(&1);
        args.push_defaulted("b", None::<&i32>);
        args.push_defaulted("c", Some(&3));
        assert_eq!(args.positional(), [1]);
        assert_eq!(args.keywords(), [0xa1, b'c', 3]);
        args.push_defaulted_positional("d", Some(&4));
        assert!(args.error().unwrap().to_string().contains("`d` can be given by position only"));
    }

    #[test]
    fn raw_identifiers_lose_their_prefix() {
        let args = args![r#type = 1];
        assert_eq!(args.keywords(), [0xa4, b't', b'y', b'p', b'e', 1]);
    }

    #[test]
    fn what_cannot_be_encoded_is_kept_for_the_call() {
        let args = args![1, k = Never];
        assert_eq!(args.error().unwrap().to_string(), "never");
    }
}
