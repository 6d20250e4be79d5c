//! The options: `#[rmi_node(..)]` on the block, `#[rmi(..)]` on methods and parameters.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Attribute, Expr, ExprLit, Ident, Lit, LitStr, Meta, Path, Token};

use crate::errors::Errors;
use crate::parse::is_rmi;

const BLOCK_KEYS: &[&str] = &["name", "stub", "crate", "serial", "allow"];
const METHOD_KEYS: &[&str] = &[
    "name",
    "skip",
    "direct",
    "cpu",
    "spawn",
    "oneway",
    "idempotent",
    "no_cancel",
    "timeout",
    "allow",
    "fallible",
    "infallible",
];
const PARAM_KEYS: &[&str] = &["name", "default", "keyword", "positional", "context", "arg"];

/// `#[rmi_node(..)]`. Flags hold their key, to underline it.
#[derive(Default)]
pub(crate) struct BlockOptions {
    pub(crate) name: Option<LitStr>,
    pub(crate) stub: Option<StubOption>,
    pub(crate) krate: Option<Path>,
    pub(crate) serial: Option<Ident>,
    pub(crate) allow: Option<LitStr>,
    /// Every key that was given, for blocks where only some mean anything.
    pub(crate) keys: Vec<Ident>,
}

pub(crate) enum StubOption {
    Named(Ident),
    /// `stub = false`
    Without,
}

/// `#[rmi(..)]` on a method.
#[derive(Default)]
pub(crate) struct MethodOptions {
    pub(crate) name: Option<LitStr>,
    pub(crate) skip: Option<Ident>,
    pub(crate) direct: Option<Ident>,
    pub(crate) cpu: Option<Ident>,
    pub(crate) spawn: Option<Ident>,
    pub(crate) oneway: Option<Ident>,
    pub(crate) idempotent: Option<Ident>,
    pub(crate) no_cancel: Option<Ident>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) allow: Option<LitStr>,
    pub(crate) fallible: Option<Ident>,
    pub(crate) infallible: Option<Ident>,
    pub(crate) keys: Vec<Ident>,
}

/// `#[rmi(..)]` on a parameter.
#[derive(Default)]
pub(crate) struct ParamOptions {
    pub(crate) name: Option<LitStr>,
    /// The key, and the expression if there is one.
    pub(crate) default: Option<(Ident, Option<Expr>)>,
    pub(crate) keyword: Option<Ident>,
    pub(crate) positional: Option<Ident>,
    pub(crate) context: Option<Ident>,
    pub(crate) arg: Option<Ident>,
    pub(crate) keys: Vec<Ident>,
}

impl BlockOptions {
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut options = Self::default();
        for entry in known_entries(entries(tokens, errors), BLOCK_KEYS, errors) {
            match &*entry.name() {
                "name" => options.name = entry.string(errors),
                "stub" => options.stub = entry.stub(errors),
                "crate" => options.krate = entry.path(errors),
                "serial" => options.serial = entry.flag(errors),
                _ => options.allow = entry.string(errors),
            }
            options.keys.push(entry.key);
        }
        options
    }
}

impl MethodOptions {
    pub(crate) fn parse(attrs: &[Attribute], errors: &mut Errors) -> Self {
        let mut options = Self::default();
        for entry in known_entries(attr_entries(attrs, errors), METHOD_KEYS, errors) {
            match &*entry.name() {
                "name" => options.name = entry.string(errors),
                "skip" => options.skip = entry.flag(errors),
                "direct" => options.direct = entry.flag(errors),
                "cpu" => options.cpu = entry.flag(errors),
                "spawn" => options.spawn = entry.flag(errors),
                "oneway" => options.oneway = entry.flag(errors),
                "idempotent" => options.idempotent = entry.flag(errors),
                "no_cancel" => options.no_cancel = entry.flag(errors),
                "timeout" => options.timeout = entry.duration(errors),
                "allow" => options.allow = entry.string(errors),
                "fallible" => options.fallible = entry.flag(errors),
                _ => options.infallible = entry.flag(errors),
            }
            options.keys.push(entry.key);
        }
        options
    }
}

impl ParamOptions {
    pub(crate) fn parse(attrs: &[Attribute], errors: &mut Errors) -> Self {
        let mut options = Self::default();
        for entry in known_entries(attr_entries(attrs, errors), PARAM_KEYS, errors) {
            match &*entry.name() {
                "name" => options.name = entry.string(errors),
                "default" => options.default = Some((entry.key.clone(), entry.value.clone())),
                "keyword" => options.keyword = entry.flag(errors),
                "positional" => options.positional = entry.flag(errors),
                "context" => options.context = entry.flag(errors),
                _ => options.arg = entry.flag(errors),
            }
            options.keys.push(entry.key);
        }
        options
    }
}

/// `key` or `key = value`.
struct Entry {
    key: Ident,
    value: Option<Expr>,
}

impl Entry {
    fn name(&self) -> String {
        self.key.to_string()
    }

    fn flag(&self, errors: &mut Errors) -> Option<Ident> {
        if let Some(value) = &self.value {
            errors.push(value, format!("`{0}` takes no value\nhelp: write `{0}` alone", self.key));
        }
        Some(self.key.clone())
    }

    /// The value, which must be there.
    fn value(&self, example: &str, errors: &mut Errors) -> Option<&Expr> {
        if self.value.is_none() {
            errors.push(&self.key, format!("`{0}` needs a value\nhelp: write `{0} = {example}`", self.key));
        }
        self.value.as_ref()
    }

    fn string(&self, errors: &mut Errors) -> Option<LitStr> {
        self.string_like("..", errors)
    }

    fn string_like(&self, example: &str, errors: &mut Errors) -> Option<LitStr> {
        match self.value(&format!("\"{example}\""), errors)? {
            Expr::Lit(ExprLit { lit: Lit::Str(string), .. }) => Some(string.clone()),
            other => {
                errors.push(other, format!("expected a string\nhelp: write `{} = \"{example}\"`", self.key));
                None
            }
        }
    }

    fn path(&self, errors: &mut Errors) -> Option<Path> {
        match self.value("some::path", errors)? {
            Expr::Path(path) if path.qself.is_none() => Some(path.path.clone()),
            other => {
                errors.push(other, format!("expected a path\nhelp: write `{} = some::path`", self.key));
                None
            }
        }
    }

    fn stub(&self, errors: &mut Errors) -> Option<StubOption> {
        let value = self.value("CalculatorStub", errors)?;
        match value {
            Expr::Lit(ExprLit { lit: Lit::Bool(wanted), .. }) if !wanted.value => return Some(StubOption::Without),
            Expr::Path(path) if path.qself.is_none() => {
                if let Some(ident) = path.path.get_ident() {
                    return Some(StubOption::Named(ident.clone()));
                }
            }
            _ => {}
        }
        errors.push(value, "expected the stub's name, or `false` for no stub\nhelp: write `stub = CalculatorStub`");
        None
    }

    fn duration(&self, errors: &mut Errors) -> Option<Duration> {
        let literal = self.string_like("5s", errors)?;
        let duration = parse_duration(&literal.value());
        if duration.is_none() {
            let message = "expected a duration like \"250ms\" or \"5s\"\nnote: the units are `ms`, `s`, `min` and `h`, \
                           up to 24 hours";
            errors.push(literal, message);
        }
        duration
    }
}

/// `250ms`, `5s`, `2min`, `1h`: a whole number of them, more than none, at most 24 hours.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "min" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return None,
    };
    let millis = number.checked_mul(millis).filter(|millis| (1..=24 * 60 * 60 * 1000).contains(millis))?;
    Some(Duration::from_millis(millis))
}

/// The entries of all `#[rmi(..)]` among the attributes.
fn attr_entries(attrs: &[Attribute], errors: &mut Errors) -> Vec<Entry> {
    let mut all = Vec::new();
    for attr in attrs.iter().filter(|attr| is_rmi(attr)) {
        match &attr.meta {
            Meta::List(list) => all.extend(entries(list.tokens.clone(), errors)),
            other => errors.push(other, "expected options\nhelp: write `#[rmi(..)]`"),
        }
    }
    all
}

/// Reads what can be read and reports the rest.
fn entries(tokens: TokenStream, errors: &mut Errors) -> Vec<Entry> {
    let mut entries = Vec::new();
    let parser = |input: ParseStream<'_>| {
        while !input.is_empty() {
            match entry(input) {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    errors.push_error(error);
                    while !input.is_empty() && !input.peek(Token![,]) {
                        input.parse::<proc_macro2::TokenTree>()?;
                    }
                }
            }
            input.parse::<Option<Token![,]>>()?;
        }
        Ok(())
    };
    // Everything is read or skipped, so this cannot fail.
    let parsed = parser.parse2(tokens);
    errors.ok_or_push(parsed);
    entries
}

fn entry(input: ParseStream<'_>) -> syn::Result<Entry> {
    if !input.peek(Ident::peek_any) {
        return Err(input.error("expected an option like `name = \"..\"`"));
    }
    let key = input.call(Ident::parse_any)?;
    let value = match input.parse::<Option<Token![=]>>()? {
        Some(equals) if input.is_empty() || input.peek(Token![,]) => {
            return Err(syn::Error::new(equals.span, format!("expected a value for `{key}`")));
        }
        Some(_) => Some(input.parse()?),
        None => None,
    };
    if !input.is_empty() && !input.peek(Token![,]) {
        return Err(input.error(format!("expected `,` or `=`\nhelp: write `{key}` or `{key} = ..`")));
    }
    Ok(Entry { key, value })
}

/// Drops entries that are unknown or given twice, and says so.
fn known_entries(entries: Vec<Entry>, known: &[&str], errors: &mut Errors) -> Vec<Entry> {
    let mut kept: Vec<Entry> = Vec::new();
    for entry in entries {
        let name = entry.name();
        if !known.contains(&&*name) {
            errors.push(&entry.key, unknown_key(&name, known));
        } else if kept.iter().any(|earlier| earlier.key == entry.key) {
            errors.push(&entry.key, format!("`{name}` is given twice"));
        } else {
            kept.push(entry);
        }
    }
    kept
}

fn unknown_key(name: &str, known: &[&str]) -> String {
    let list: Vec<_> = known.iter().map(|key| format!("`{key}`")).collect();
    let mut message = format!("unknown `rmi` option `{name}`; known here: {}", list.join(", "));
    let nearest = known.iter().map(|key| (distance(name, key), key)).min();
    let elsewhere =
        [(BLOCK_KEYS, "in `#[rmi_node(..)]`"), (METHOD_KEYS, "on a method"), (PARAM_KEYS, "on a parameter")];
    if let Some((_, place)) = elsewhere.iter().find(|(keys, _)| keys.contains(&name)) {
        message += &format!("\nnote: `{name}` goes {place}");
    } else if let Some((_, key)) = nearest.filter(|(distance, key)| distance * 3 <= key.len()) {
        message += &format!("\nhelp: did you mean `{key}`?");
    }
    message
}

/// How many letters to add, remove, change or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// The doc comment as text: the lines without the space after `///`.
pub(crate) fn doc_text(docs: &[Attribute]) -> String {
    let lines: Vec<String> = docs
        .iter()
        .filter_map(|attr| match &attr.meta {
            Meta::NameValue(meta) => match &meta.value {
                Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) => Some(line.value()),
                _ => None,
            },
            _ => None,
        })
        .map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned())
        .collect();
    lines.join("\n").trim_end().to_owned()
}

/// The attributes with one of these names.
pub(crate) fn named(attrs: &[Attribute], name: &str) -> Vec<Attribute> {
    attrs.iter().filter(|attr| attr.path().is_ident(name)).cloned().collect()
}

/// Whether a method is not to be remote.
pub(crate) fn is_skipped(attrs: &[Attribute]) -> bool {
    // Mistakes in the options have been reported.
    MethodOptions::parse(attrs, &mut Errors::default()).skip.is_some()
}

/// The attributes without `#[rmi(..)]`, as tokens.
pub(crate) fn without_rmi(attrs: &[Attribute]) -> TokenStream {
    let mut tokens = TokenStream::new();
    attrs.iter().filter(|attr| !is_rmi(attr)).for_each(|attr| attr.to_tokens(&mut tokens));
    tokens
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        for (text, millis) in
            [("250ms", 250), ("5s", 5000), ("2min", 120_000), ("24h", 86_400_000), ("86400000ms", 86_400_000)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "0s", "-1s", "1.5s", "5 s", "5sec", "25h", "86400001ms", "99999999999999999999h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn the_nearest_key_is_suggested() {
        assert!(unknown_key("nmae", BLOCK_KEYS).ends_with("help: did you mean `name`?"));
        assert!(unknown_key("keywrod", PARAM_KEYS).ends_with("help: did you mean `keyword`?"));
        assert!(unknown_key("skip", PARAM_KEYS).ends_with("note: `skip` goes on a method"));
        assert!(unknown_key("xyz", METHOD_KEYS).ends_with("`infallible`"));
    }
}
