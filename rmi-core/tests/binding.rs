//! The binder against CPython: recorded calls word for word, random calls against a model of the rules.

use proptest::prelude::*;
use rmi_core::{
    bind::{BindError, bind},
    descriptor::{Execution, MethodDescriptor, ParamDescriptor, ParamKind},
    positional::Positional,
};

/// What CPython 3.11 answered; `binding/record.py` writes the file and explains its format.
const CASES: &str = include_str!("binding/cases.txt");

/// A keyword as it travels.
#[derive(Debug, Clone, PartialEq)]
enum Key {
    Name(String),
    Number(u8),
}

/// `f(1, 2, c=3)`: the values are counted from 1.
#[derive(Debug, Clone)]
struct Call {
    n_positional: usize,
    keys: Vec<Key>,
}

impl Call {
    /// Parses what is between the parentheses.
    fn parse(text: &str) -> Self {
        let (named, positional): (Vec<_>, Vec<_>) =
            text.split(", ").filter(|part| !part.is_empty()).partition(|part| part.contains('='));
        let key = |part: &str| {
            let (key, _) = part.split_once('=').expect("it was chosen for its =");
            key.parse().map(Key::Number).unwrap_or_else(|_| Key::Name(key.to_owned()))
        };
        Self { n_positional: positional.len(), keys: named.into_iter().map(key).collect() }
    }

    fn args(&self) -> Vec<u8> {
        let mut bytes = vec![0xdc, 0, self.n_positional as u8];
        bytes.extend(1..=self.n_positional as u8);
        bytes
    }

    fn kwargs(&self) -> Option<Vec<u8>> {
        if self.keys.is_empty() {
            return None;
        }
        let mut bytes = vec![0xde, 0, self.keys.len() as u8];
        for (key, value) in self.keys.iter().zip(self.n_positional as u8 + 1..) {
            match key {
                Key::Name(name) => {
                    bytes.push(0xa0 | name.len() as u8);
                    bytes.extend(name.as_bytes());
                }
                Key::Number(number) => bytes.push(*number),
            }
            bytes.push(value);
        }
        Some(bytes)
    }

    /// Binds, and gives the value of each parameter, `None` for its default.
    fn bind(&self, method: &'static MethodDescriptor) -> Result<Vec<Option<u8>>, BindError> {
        let (args, kwargs) = (self.args(), self.kwargs());
        let args = Positional::read(&args).expect("an array");
        let values = |kwargs| {
            let mut bound = bind(method, args, kwargs)?;
            let values: Vec<_> = method.params().iter().map(|_| bound.take().map(|bytes| bytes[0])).collect();
            assert_eq!(bound.take(), None);
            Ok(values)
        };
        let answer = values(kwargs.as_deref());
        if kwargs.is_none() {
            // A call without keywords may take the short way; with an empty map of them none does.
            assert_eq!(answer, values(Some(&[0x80])), "{method:?}({self:?})");
        }
        answer
    }
}

fn method(name: &str, params: Vec<ParamDescriptor>) -> &'static MethodDescriptor {
    let name = Box::leak(name.to_owned().into_boxed_str());
    Box::leak(Box::new(MethodDescriptor::new(name, "", Box::leak(params.into_boxed_slice()), "()", Execution::Async)))
}

fn param(name: &str, kind: ParamKind, has_default: bool) -> ParamDescriptor {
    let name = Box::leak(name.to_owned().into_boxed_str());
    let param =
        if has_default { ParamDescriptor::defaulted(name, "u8", "0") } else { ParamDescriptor::required(name, "u8") };
    match kind {
        ParamKind::PositionalOnly => param.positional_only(),
        ParamKind::KeywordOnly => param.keyword_only(),
        _ => param,
    }
}

/// Parses `f(a, b=0, /, *, c)`.
fn parse_signature(signature: &str) -> &'static MethodDescriptor {
    let (name, params) = signature.trim_end_matches(')').split_once('(').expect("a signature has parentheses");
    let parts: Vec<_> = params.split(", ").filter(|part| !part.is_empty()).collect();
    let slash = parts.iter().position(|part| *part == "/").unwrap_or(0);
    let star = parts.iter().position(|part| *part == "*").unwrap_or(parts.len());
    let named = parts.iter().enumerate().filter(|(_, part)| !["/", "*"].contains(part));
    let params = named.map(|(idx, part)| {
        let kind = match idx {
            idx if idx < slash => ParamKind::PositionalOnly,
            idx if idx > star => ParamKind::KeywordOnly,
            _ => ParamKind::PositionalOrKeyword,
        };
        param(part.trim_end_matches("=0"), kind, part.ends_with("=0"))
    });
    method(name, params.collect())
}

/// Python's text: ours without the suggestion, which Python does not make.
fn python_text(error: &BindError) -> String {
    let text = error.to_string();
    match text.split_once(". Did you mean '") {
        Some((python, _)) => python.to_owned(),
        None => text,
    }
}

#[test]
fn every_recorded_call_is_answered_as_cpython_answers_it() {
    let mut method = None;
    let mut n_cases = 0;
    let mut wrong = Vec::new();
    for line in CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(signature) = line.strip_prefix("def ") {
            method = Some(parse_signature(signature));
            continue;
        }
        let method = method.expect("the first line is a signature");
        let (call, expected) = line.split_once(") ").expect("a call ends with a parenthesis");
        let (_, call) = call.split_once('(').expect("a call has parentheses");
        let answer = match Call::parse(call).bind(method) {
            Ok(values) => {
                let filled = method.params().iter().zip(values).filter_map(|(p, value)| Some((p.name(), value?)));
                "->".to_owned() + &filled.map(|(name, value)| format!(" {name}={value}")).collect::<String>()
            }
            Err(error) => format!("!! {}", python_text(&error)),
        };
        n_cases += 1;
        if answer != expected {
            wrong.push(format!("{line}\n    instead: {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {n_cases} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(n_cases >= 1000, "only {n_cases} cases were found");
}

/// Python's rules once more, for names instead of bytes. The error is the name of the [`BindError`].
fn model(params: &[ParamDescriptor], call: &Call) -> Result<Vec<Option<u8>>, &'static str> {
    let names: Vec<_> =
        call.keys.iter().filter_map(|key| if let Key::Name(n) = key { Some(n) } else { None }).collect();
    if (1..names.len()).any(|idx| names[..idx].contains(&names[idx])) {
        return Err("DuplicateKeyword");
    }
    if names.len() < call.keys.len() {
        return Err("KeywordNotString");
    }
    let by_position = |idx: &usize| params[*idx].kind() != ParamKind::KeywordOnly;
    let mut slots = vec![None; params.len()];
    for (value, idx) in (1..=call.n_positional as u8).zip((0..params.len()).filter(by_position)) {
        slots[idx] = Some(value);
    }
    let posonly = |name: &&&String| params.iter().any(|p| p.name() == **name && p.kind() == ParamKind::PositionalOnly);
    for (value, name) in (call.n_positional as u8 + 1..).zip(&names) {
        match params.iter().position(|p| p.name() == *name && p.kind() != ParamKind::PositionalOnly) {
            None if names.iter().any(|name| posonly(&name)) => return Err("PositionalOnlyAsKeyword"),
            None => return Err("UnexpectedKeyword"),
            Some(idx) if slots[idx].is_some() => return Err("MultipleValues"),
            Some(idx) => slots[idx] = Some(value),
        }
    }
    let missing: Vec<_> =
        (0..params.len()).filter(|idx| slots[*idx].is_none() && !params[*idx].has_default()).collect();
    match missing.iter().any(by_position) {
        _ if call.n_positional > (0..params.len()).filter(by_position).count() => Err("TooManyPositional"),
        true => Err("MissingPositional"),
        false if !missing.is_empty() => Err("MissingKeywordOnly"),
        false => Ok(slots),
    }
}

fn kind(error: &BindError) -> &'static str {
    match error {
        BindError::UnexpectedKeyword { .. } => "UnexpectedKeyword",
        BindError::MultipleValues { .. } => "MultipleValues",
        BindError::DuplicateKeyword { .. } => "DuplicateKeyword",
        BindError::KeywordNotString { .. } => "KeywordNotString",
        BindError::PositionalOnlyAsKeyword { .. } => "PositionalOnlyAsKeyword",
        BindError::TooManyPositional { .. } => "TooManyPositional",
        BindError::MissingPositional { .. } => "MissingPositional",
        BindError::MissingKeywordOnly { .. } => "MissingKeywordOnly",
        _ => "other",
    }
}

fn any_kind() -> impl Strategy<Value = ParamKind> + Clone {
    use ParamKind::*;
    prop_oneof![1 => Just(PositionalOnly), 2 => Just(PositionalOrKeyword), 1 => Just(KeywordOnly)]
}

/// Up to ten parameters `p0`, `p1`, .. of any kinds and defaults, also in orders that Python does not allow.
fn any_method() -> impl Strategy<Value = &'static MethodDescriptor> {
    let in_any_order = prop::collection::vec((any_kind(), any::<bool>()), 0..=10);
    let in_python_order = in_any_order.clone().prop_map(|mut params| {
        // Kinds in Python's order; of those given by position, the ones with a default are the last.
        params.sort_by_key(|(kind, _)| *kind as u8);
        let n_positional = params.iter().filter(|(kind, _)| *kind != ParamKind::KeywordOnly).count();
        let mut defaults: Vec<_> = params[..n_positional].iter().map(|(_, has_default)| *has_default).collect();
        defaults.sort_unstable();
        params.iter_mut().zip(defaults).for_each(|(param, has_default)| param.1 = has_default);
        params
    });
    prop_oneof![1 => in_any_order, 3 => in_python_order].prop_map(|params| {
        let params = params.into_iter().enumerate();
        method("f", params.map(|(idx, (kind, default))| param(&format!("p{idx}"), kind, default)).collect())
    })
}

fn any_key() -> impl Strategy<Value = Key> {
    prop_oneof![
        30 => (0..11u8).prop_map(|idx| Key::Name(format!("p{idx}"))),
        1 => "[a-z_]{0,12}".prop_map(Key::Name),
        1 => (0..3u8).prop_map(Key::Number),
    ]
}

/// Few positional arguments and distinct keywords most of the time: calls that are wrong in one way or none.
fn any_call() -> impl Strategy<Value = Call> {
    let keys = prop::collection::vec(any_key(), 0..8);
    (0..12usize, keys, prop::bool::weighted(0.8)).prop_map(|(n_positional, mut keys, distinct)| {
        if distinct {
            let mut seen = Vec::new();
            keys.retain(|key| {
                !seen.contains(key) && {
                    seen.push(key.clone());
                    true
                }
            });
        }
        Call { n_positional, keys }
    })
}

/// A call that names what is left of `method` behind a random number of positional arguments.
fn fitting_call(method: &'static MethodDescriptor) -> impl Strategy<Value = Call> {
    let params = method.params();
    let positional: Vec<_> = (0..params.len()).filter(|i| params[*i].kind() != ParamKind::KeywordOnly).collect();
    (0..=positional.len()).prop_flat_map(move |n_positional| {
        let given = positional[..n_positional].to_vec();
        let rest = params.iter().enumerate().filter(|(idx, _)| !given.contains(idx)).map(|(_, param)| param);
        let rest: Vec<_> = rest.filter(|param| param.kind() != ParamKind::PositionalOnly).collect();
        let keep = prop::collection::vec(prop::bool::weighted(0.5), rest.len());
        keep.prop_flat_map(move |keep| {
            let kept = rest.iter().zip(keep).filter(|(param, keep)| *keep || !param.has_default());
            Just(kept.map(|(param, _)| Key::Name(param.name().to_owned())).collect::<Vec<_>>()).prop_shuffle()
        })
        .prop_map(move |keys| Call { n_positional, keys })
    })
}

fn check(method: &'static MethodDescriptor, call: &Call) -> Result<(), TestCaseError> {
    let answer = call.bind(method).map_err(|error| kind(&error));
    prop_assert_eq!(answer, model(method.params(), call));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_call_is_answered_as_the_model_answers_it(method in any_method(), call in any_call()) {
        check(method, &call)?;
    }

    #[test]
    fn calls_that_fit_are_answered_as_the_model_answers_them(
        (method, call) in any_method().prop_flat_map(|method| (Just(method), fitting_call(method)))
    ) {
        check(method, &call)?;
    }

    #[test]
    fn no_bytes_make_it_panic(
        method in any_method(),
        call in any_call(),
        (at, byte, cut) in (any::<prop::sample::Index>(), any::<u8>(), any::<prop::sample::Index>()),
        noise in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let (args, kwargs) = (call.args(), call.kwargs().unwrap_or_default());
        let bind = |args: &[u8], kwargs: Option<&[u8]>| {
            Positional::read(args).ok().and_then(|args| bind(method, args, kwargs).err()).map(|error| error.to_string())
        };
        let _ = bind(&noise, Some(&noise));
        let _ = bind(&args, Some(&noise));
        for bytes in [args.clone(), kwargs] {
            let mut bytes = bytes;
            let _ = bind(&args, bytes.get(..cut.index(bytes.len() + 1)));
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = bind(&args, Some(&bytes));
            let _ = bind(&bytes, None);
        }
    }
}
