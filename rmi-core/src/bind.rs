//! Python's rules: which positional or keyword argument belongs to which parameter.
//!
//! [`bind`] takes the arguments as they travelled (counted values, and one MessagePack map) and gives the bytes of each
//! parameter, in the order of declaration. It decodes no value and is not generic. Where a call without keywords fits, and
//! its method has no keyword-only parameter, it neither looks at the values nor allocates; else it allocates once.
//!
//! A call that does not fit gets the mistake that CPython 3.11 would report first, in CPython's words. It looks at the
//! keywords (twice in the map, not a string), then at each keyword in turn (unknown, positional-only, already filled),
//! then at surplus positional arguments, then at what is missing: first by position, then by keyword. `tests/binding/`
//! holds calls with the answers recorded from CPython.
//!
//! Invariant: a parameter without a default always has its bytes in a [`Bound`].

use std::{collections::HashSet, fmt, vec};

use crate::{
    descriptor::{MethodDescriptor, ParamDescriptor, ParamKind},
    payload,
    positional::Positional,
    scan::{ScanError, Scanner},
    suggest,
};

/// Matches the arguments of a call to the parameters of `method`.
///
/// `kwargs` is one map with string keys, or nil, or `None`.
///
/// ```
/// use rmi_core::bind::bind;
/// use rmi_core::descriptor::{Execution, MethodDescriptor, ParamDescriptor};
/// use rmi_core::positional::Positional;
///
/// static PARAMS: [ParamDescriptor; 2] =
///     [ParamDescriptor::required("a", "i64"), ParamDescriptor::defaulted("b", "i64", "1")];
/// static ADD: MethodDescriptor = MethodDescriptor::new("add", "", &PARAMS, "i64", Execution::Async);
///
/// let args = Positional::read(&[0x91, 0x07])?; // [7]
/// let mut bound = bind(&ADD, args, None)?;
/// assert_eq!(bound.take(), Some(&[0x07][..]));
/// assert_eq!(bound.take(), None); // `b` is left to its default
///
/// let kwargs = [0x81, 0xa1, b'c', 0x02]; // {"c": 2}
/// let error = bind(&ADD, args, Some(&kwargs)).unwrap_err();
/// assert_eq!(error.to_string(), "add() got an unexpected keyword argument 'c'");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Any [`BindError`] but [`BindError::BadValue`], which is for values that do not decode later on.
pub fn bind<'a>(
    method: &'static MethodDescriptor,
    args: Positional<'a>,
    kwargs: Option<&'a [u8]>,
) -> Result<Bound<'a>, BindError> {
    match bind_in_order(method, args, kwargs) {
        Some(bound) => Ok(bound),
        None => bind_with_slots(method, args, kwargs),
    }
}

/// The same for any other call.
#[cold]
pub(crate) fn bind_with_slots<'a>(
    method: &'static MethodDescriptor,
    args: Positional<'a>,
    kwargs: Option<&'a [u8]>,
) -> Result<Bound<'a>, BindError> {
    let values = Values::Slots(fill(method, args, kwargs)?.into_iter());
    Ok(Bound { method, values, n_taken: 0 })
}

/// The same for a call that fits as it is, as most do.
#[inline]
pub(crate) fn bind_in_order<'a>(
    method: &'static MethodDescriptor,
    args: Positional<'a>,
    kwargs: Option<&'a [u8]>,
) -> Option<Bound<'a>> {
    let fits = kwargs.is_none() && method.fits_by_position(args.len());
    fits.then_some(Bound { method, values: Values::InOrder(args), n_taken: 0 })
}

/// The bytes of each parameter, in the order of declaration: what [`bind`] gives.
#[derive(Debug, Clone)]
pub struct Bound<'a> {
    method: &'static MethodDescriptor,
    values: Values<'a>,
    n_taken: usize,
}

/// What is left to be taken.
#[derive(Debug, Clone)]
enum Values<'a> {
    /// The first parameters' values; the others are left to their defaults.
    InOrder(Positional<'a>),
    /// A slot for each parameter.
    Slots(vec::IntoIter<Option<&'a [u8]>>),
}

impl<'a> Bound<'a> {
    /// The bytes of the next parameter, in the order of declaration; `None` leaves it to its default.
    ///
    /// Behind the last parameter it is `None` as well.
    #[inline]
    pub fn take(&mut self) -> Option<&'a [u8]> {
        self.n_taken += 1;
        match &mut self.values {
            Values::InOrder(args) => args.take(),
            Values::Slots(slots) => slots.next().flatten(),
        }
    }

    /// The parameter that was taken last; `None` before the first [`take`](Self::take).
    pub fn param(&self) -> Option<&'static ParamDescriptor> {
        self.method.params().get(self.n_taken.checked_sub(1)?)
    }

    /// The method whose arguments these are.
    pub fn method(&self) -> &'static MethodDescriptor {
        self.method
    }

    /// Says that `value`, which was taken last, does not decode.
    ///
    /// `rmp_serde` names a MessagePack marker where it wanted a number; here that becomes the wording of its other
    /// errors, `invalid type: string, expected i64`.
    #[cold]
    pub fn bad_value(&self, value: &[u8], error: &rmp_serde::decode::Error) -> BindError {
        let method = self.method.name();
        let Some(param) = self.param() else {
            return BindError::BadValue { method, param: "", message: error.to_string() };
        };
        let message = payload::readable(error, value, param.type_name());
        BindError::BadValue { method, param: param.name(), message }
    }
}

/// Why the arguments of a call do not fit its method. `Display` is what CPython 3.11 says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// No parameter has this name. The only text with an addition to Python's: `. Did you mean 'x'?`, if there is a
    /// suggestion.
    #[error(fmt = fmt_unexpected)]
    UnexpectedKeyword {
        /// The method that was called.
        method: &'static str,
        /// The name that was given, cut to 64 characters.
        name: String,
        /// A parameter with a similar name that was not given.
        suggestion: Option<&'static str>,
    },
    /// A parameter was given by position and by name.
    #[error("{method}() got multiple values for argument '{param}'")]
    MultipleValues {
        /// The method that was called.
        method: &'static str,
        /// The parameter.
        param: &'static str,
    },
    /// The map of keyword arguments holds a name twice.
    #[error("{method}() got multiple values for keyword argument '{name}'")]
    DuplicateKeyword {
        /// The method that was called.
        method: &'static str,
        /// The name that was given, cut to 64 characters.
        name: String,
    },
    /// The map of keyword arguments has a key that is no string.
    #[error("keywords must be strings")]
    KeywordNotString {
        /// The method that was called.
        method: &'static str,
    },
    /// Parameters that can be given by position only were given by name.
    #[error("{method}() got some positional-only arguments passed as keyword arguments: '{}'", params.join(", "))]
    PositionalOnlyAsKeyword {
        /// The method that was called.
        method: &'static str,
        /// The parameters, in the order of declaration.
        params: Vec<&'static str>,
    },
    /// More positional arguments than parameters that take one.
    #[error(fmt = fmt_too_many)]
    TooManyPositional {
        /// The method that was called.
        method: &'static str,
        /// How many positional arguments it needs.
        least: usize,
        /// How many positional arguments it takes.
        most: usize,
        /// How many positional arguments were given.
        given: usize,
        /// How many keyword-only arguments were given besides.
        keyword_only: usize,
    },
    /// Parameters without a default were not given.
    #[error("{method}() missing {}", Missing { kind: "positional", params })]
    MissingPositional {
        /// The method that was called.
        method: &'static str,
        /// The parameters, in the order of declaration.
        params: Vec<&'static str>,
    },
    /// Keyword-only parameters without a default were not given.
    #[error("{method}() missing {}", Missing { kind: "keyword-only", params })]
    MissingKeywordOnly {
        /// The method that was called.
        method: &'static str,
        /// The parameters, in the order of declaration.
        params: Vec<&'static str>,
    },
    /// An argument has its place, but its value does not decode as the parameter's type. See [`Bound::bad_value`].
    #[error("{method}() argument '{param}': {message}")]
    BadValue {
        /// The method that was called.
        method: &'static str,
        /// The parameter.
        param: &'static str,
        /// What is wrong with the value, for people.
        message: String,
    },
    /// The keyword arguments are no map, or the bytes are not MessagePack.
    #[error("{method}() got arguments that cannot be read")]
    Malformed {
        /// The method that was called.
        method: &'static str,
        /// What is wrong with the bytes.
        source: ScanError,
    },
}

/// The first keyword that does not fit, before it is explained.
enum Misfit<'a> {
    NotString,
    Unknown(&'a str),
    Filled(&'static str),
}

/// Gives each parameter its slot, whatever the call looks like.
fn fill<'a>(
    method: &'static MethodDescriptor,
    mut args: Positional<'a>,
    kwargs: Option<&'a [u8]>,
) -> Result<Vec<Option<&'a [u8]>>, BindError> {
    let given = args.len();
    let by_position = |param| if is_positional(param) { args.take() } else { None };
    let mut slots: Vec<_> = method.params().iter().map(by_position).collect();
    if let Some(kwargs) = kwargs {
        let malformed = |source| BindError::Malformed { method: method.name(), source };
        if let Some(misfit) = bind_keywords(method, kwargs, &mut slots).map_err(malformed)? {
            return Err(explain(method, kwargs, misfit).unwrap_or_else(malformed));
        }
    }
    check_complete(method, given, &slots)?;
    Ok(slots)
}

/// Fills the slots that are named, up to the first keyword that does not fit.
fn bind_keywords<'a>(
    method: &'static MethodDescriptor,
    kwargs: &'a [u8],
    slots: &mut [Option<&'a [u8]>],
) -> Result<Option<Misfit<'a>>, ScanError> {
    let mut kwargs = Scanner::new(kwargs);
    let n_kwargs = if kwargs.nil() { 0 } else { kwargs.map()? };
    // Each round fills a slot or ends the loop: a map with a million keys costs no more rounds than there are slots.
    for _ in 0..n_kwargs {
        let key = match kwargs.str() {
            Ok(key) => key,
            Err(ScanError::Expected(_)) => return Ok(Some(Misfit::NotString)),
            Err(error) => return Err(error),
        };
        let fits = |(param, _): &(&ParamDescriptor, _)| is_keyword(param) && param.name() == key;
        let Some((param, slot)) = method.params().iter().zip(slots.iter_mut()).find(fits) else {
            return Ok(Some(Misfit::Unknown(key)));
        };
        if slot.is_some() {
            return Ok(Some(Misfit::Filled(param.name())));
        }
        *slot = Some(kwargs.value()?);
    }
    kwargs.finish()?;
    Ok(None)
}

/// Finds a surplus of positional arguments, then what is missing.
fn check_complete(method: &'static MethodDescriptor, given: usize, slots: &[Option<&[u8]>]) -> Result<(), BindError> {
    let params = method.params();
    let most = params.iter().filter(|param| is_positional(param)).count();
    if given > most {
        let least = params.iter().filter(|param| is_positional(param) && !param.has_default()).count();
        let filled = |(param, slot): &(&ParamDescriptor, &Option<_>)| !is_positional(param) && slot.is_some();
        let keyword_only = params.iter().zip(slots).filter(filled).count();
        return Err(BindError::TooManyPositional { method: method.name(), least, most, given, keyword_only });
    }
    // The usual case needs one pass and no allocation.
    if params.iter().zip(slots).all(|(param, slot)| slot.is_some() || param.has_default()) {
        return Ok(());
    }
    let missing = |positional: bool| -> Vec<&'static str> {
        let of_kind = params.iter().zip(slots).filter(|(param, _)| is_positional(param) == positional);
        of_kind.filter(|(param, slot)| slot.is_none() && !param.has_default()).map(|(param, _)| param.name()).collect()
    };
    let method = method.name();
    Err(match missing(true) {
        positional if positional.is_empty() => BindError::MissingKeywordOnly { method, params: missing(false) },
        params => BindError::MissingPositional { method, params },
    })
}

/// Says what is wrong with the keywords, given the first one that does not fit.
///
/// Python looks at all keywords (twice, not a string) before it looks at each: hence the second pass over the map. One
/// hash set keeps it linear in what the caller has sent.
#[cold]
fn explain(method: &'static MethodDescriptor, kwargs: &[u8], misfit: Misfit<'_>) -> Result<BindError, ScanError> {
    let name = method.name();
    let mut scanner = Scanner::new(kwargs);
    let mut keys = HashSet::new();
    let mut all_strings = true;
    for _ in 0..scanner.map()? {
        match scanner.str() {
            Ok(key) if !keys.insert(key) => {
                return Ok(BindError::DuplicateKeyword { method: name, name: shown(key) });
            }
            Ok(_) => {}
            Err(ScanError::Expected(_)) => {
                all_strings = false;
                scanner.value()?;
            }
            Err(error) => return Err(error),
        }
        scanner.value()?;
    }
    let key = match misfit {
        _ if !all_strings => return Ok(BindError::KeywordNotString { method: name }),
        Misfit::NotString => return Ok(BindError::KeywordNotString { method: name }),
        Misfit::Filled(param) => return Ok(BindError::MultipleValues { method: name, param }),
        Misfit::Unknown(key) => key,
    };
    let wrongly_named = |param: &&ParamDescriptor| !is_keyword(param) && keys.contains(param.name());
    let params: Vec<_> = method.params().iter().filter(wrongly_named).map(ParamDescriptor::name).collect();
    if !params.is_empty() {
        return Ok(BindError::PositionalOnlyAsKeyword { method: name, params });
    }
    let suggestion = suggestion(method, key, &keys);
    Ok(BindError::UnexpectedKeyword { method: name, name: shown(key), suggestion })
}

/// The parameter that was most likely meant: at most a third of its letters differ, and it was not given by name.
fn suggestion(method: &'static MethodDescriptor, key: &str, keys: &HashSet<&str>) -> Option<&'static str> {
    // Comparing costs the product of the lengths, and the key's is the caller's choice.
    if key.len() > MAX_SHOWN {
        return None;
    }
    let candidates = method.params().iter().filter(|param| is_keyword(param) && !keys.contains(param.name()));
    suggest::closest(key, candidates.map(|param| param.name()))
}

fn is_positional(param: &ParamDescriptor) -> bool {
    param.kind() != ParamKind::KeywordOnly
}

fn is_keyword(param: &ParamDescriptor) -> bool {
    param.kind() != ParamKind::PositionalOnly
}

/// How much of a caller's keyword is repeated in an error: names are short, and what comes back goes into logs.
const MAX_SHOWN: usize = 64;

fn shown(key: &str) -> String {
    key.chars().take(MAX_SHOWN).collect()
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

fn fmt_unexpected(
    method: &&'static str,
    name: &String,
    suggestion: &Option<&'static str>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    write!(f, "{method}() got an unexpected keyword argument '{name}'")?;
    match suggestion {
        Some(suggestion) => write!(f, ". Did you mean '{suggestion}'?"),
        None => Ok(()),
    }
}

fn fmt_too_many(
    method: &&'static str,
    least: &usize,
    most: &usize,
    given: &usize,
    keyword_only: &usize,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    write!(f, "{method}() takes ")?;
    // Python writes the plural after every range, even "from 0 to 1".
    if least == most {
        write!(f, "{most} positional argument{} but {given}", plural(*most))?;
    } else {
        write!(f, "from {least} to {most} positional arguments but {given}")?;
    }
    if *keyword_only > 0 {
        let (given, named) = (plural(*given), plural(*keyword_only));
        write!(f, " positional argument{given} (and {keyword_only} keyword-only argument{named})")?;
    }
    f.write_str(if *given == 1 && *keyword_only == 0 { " was given" } else { " were given" })
}

/// `3 required positional arguments: 'a', 'b', and 'c'`
struct Missing<'a> {
    kind: &'static str,
    params: &'a [&'static str],
}

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, params } = self;
        let n = params.len();
        write!(f, "{n} required {kind} argument{}: ", plural(n))?;
        for (idx, param) in params.iter().enumerate() {
            let separator = match (idx, n) {
                (0, _) => "",
                (1, 2) => " and ",
                _ if idx + 1 == n => ", and ",
                _ => ", ",
            };
            write!(f, "{separator}'{param}'")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::Execution;

    static PARAMS: [ParamDescriptor; 4] = [
        ParamDescriptor::required("amount", "i64"),
        // A keyword-only parameter between positional ones, which Python cannot write.
        ParamDescriptor::defaulted("dry_run", "bool", "false").keyword_only(),
        ParamDescriptor::required("target", "Point"),
        ParamDescriptor::defaulted("timeout_ms", "u64", "0"),
    ];
    static PAY: MethodDescriptor = MethodDescriptor::new("pay", "", &PARAMS, "()", Execution::Async);

    fn args(array: &[u8]) -> Positional<'_> {
        Positional::read(array).unwrap()
    }

    /// `{key: nil, ..}`
    fn kwargs(keys: &[&str]) -> Vec<u8> {
        let mut bytes = vec![0x80 | keys.len() as u8];
        for key in keys {
            bytes.extend([0xd9, key.len() as u8]);
            bytes.extend(key.as_bytes());
            bytes.push(0xc0);
        }
        bytes
    }

    fn suggested(keys: &[&str]) -> Option<&'static str> {
        match bind(&PAY, Positional::NONE, Some(&kwargs(keys))) {
            Err(BindError::UnexpectedKeyword { suggestion, .. }) => suggestion,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn slots_come_in_the_order_of_declaration() {
        let mut bound = bind(&PAY, args(&[0x92, 1, 0x91, 2]), None).unwrap();
        assert_eq!(bound.param(), None);
        assert_eq!(bound.take(), Some(&[1][..]));
        assert_eq!(bound.param(), Some(&PARAMS[0]));
        assert_eq!(bound.take(), None);
        assert_eq!(bound.take(), Some(&[0x91, 2][..]));
        assert_eq!(bound.take(), None);
        assert_eq!(bound.param().map(ParamDescriptor::name), Some("timeout_ms"));
        assert_eq!(bound.take(), None);
        assert_eq!(bound.param(), None);
    }

    #[test]
    fn similar_names_are_suggested_and_far_ones_are_not() {
        assert_eq!(suggested(&["amonut"]), Some("amount"));
        assert_eq!(suggested(&["timeoutMs"]), Some("timeout_ms"));
        assert_eq!(suggested(&["TARGET"]), Some("target"));
        assert_eq!(suggested(&["x"]), None);
        assert_eq!(suggested(&["wallet"]), None);
        assert_eq!(suggested(&[""]), None);
        // What is given anyway was not meant.
        assert_eq!(suggested(&["amonut", "amount"]), None);
        let error = bind(&PAY, Positional::NONE, Some(&kwargs(&["amonut"]))).unwrap_err();
        assert_eq!(error.to_string(), "pay() got an unexpected keyword argument 'amonut'. Did you mean 'amount'?");
    }

    #[test]
    fn long_keywords_are_cut() {
        let Err(BindError::UnexpectedKeyword { name, suggestion: None, .. }) =
            bind(&PAY, Positional::NONE, Some(&kwargs(&[&"é".repeat(100)])))
        else {
            panic!("accepted");
        };
        assert_eq!(name, "é".repeat(64));
    }

    #[test]
    fn nil_stands_for_no_keywords() {
        assert!(bind(&PAY, args(&[0x92, 1, 2]), Some(&[0xc0])).is_ok());
    }

    #[test]
    fn bytes_that_are_no_keywords_are_malformed() {
        let source = |array: &[u8], kwargs: &[u8]| match bind(&PAY, args(array), Some(kwargs)) {
            Err(BindError::Malformed { method: "pay", source }) => source,
            other => panic!("{other:?}"),
        };
        assert_eq!(source(&[0x92, 1, 2], &[]), ScanError::Expected("a map"));
        assert_eq!(source(&[0x92, 1, 2], &[0x90]), ScanError::Expected("a map"));
        assert_eq!(source(&[0x92, 1, 2], &[0x80, 0]), ScanError::TrailingBytes(1));
        assert_eq!(source(&[0x92, 1, 2], &[0x81, 0xa2, b'x']), ScanError::LengthBeyondEnd);
        assert_eq!(source(&[0x90], &[0x82, 0xa1, b'x', 0, 0xa1]), ScanError::LengthBeyondEnd);
    }

    #[test]
    fn values_that_do_not_decode_name_method_parameter_and_type() {
        let mut bound = bind(&PAY, args(&[0x92, 0xa1, b'x', 0x91, 0xa1, b'y']), None).unwrap();
        let value = bound.take().unwrap();
        let error = rmp_serde::from_slice::<i64>(value).unwrap_err();
        let error = bound.bad_value(value, &error);
        assert_eq!(error.to_string(), "pay() argument 'amount': invalid type: string, expected i64");
        bound.take();
        let value = bound.take().unwrap();
        let error = rmp_serde::from_slice::<(i64,)>(value).unwrap_err();
        assert_eq!(bound.bad_value(value, &error).to_string(), "pay() argument 'target': invalid type: string");
        let error = rmp_serde::from_slice::<i64>(&[0xc3]).unwrap_err();
        let error = bound.bad_value(value, &error).to_string();
        assert_eq!(error, "pay() argument 'target': invalid type: boolean `true`, expected i64");
    }
}
