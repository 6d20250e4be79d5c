//! Every rule of the macro. Each mistake is noted and the rest is looked at all the same, so that one run shows all;
//! what comes out is as near to what was meant as can be told.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::{
    Attribute, FnArg, GenericArgument, GenericParam, Generics, Ident, LitStr, Pat, PatType, PathArguments,
    ReceiverKind, ReturnType, Safety, Type, Visibility, parse_quote,
};

use crate::attrs::{self, BlockOptions, MethodOptions, ParamOptions, StubOption};
use crate::errors::Errors;
use crate::model::{
    Copied, DefaultValue, Execution, Interface, Method, Model, ModelKind, Owner, Param, ParamKind, ParamType, Returns,
    Source, TraitImpl,
};
use crate::parse::{Block, BlockItem, BlockKind, OtherItem, RawMethod, is_rmi, last_segment, span_of, ungroup};

/// Names of types that are taken from the call.
const INJECTED: &[&str] = &["Peer", "CallContext", "Node"];

/// What every stub has besides the remote methods.
const STUB_FUNCTIONS: &[&str] = &["new", "named", "local"];

/// The longest name of a service or a method.
const MAX_NAME: usize = 100;

/// Checks the block and says what it means.
pub(crate) fn block(block: &Block, options: BlockOptions, default_crate: TokenStream, errors: &mut Errors) -> Model {
    if let Some(attr) = block.attrs.iter().find(|attr| is_rmi(attr)) {
        errors.push(attr, "options of the block go in the first attribute\nhelp: write `#[rmi_node(..)]`");
    }
    let krate = options.krate.as_ref().map_or(default_crate, ToTokens::to_token_stream);
    let kind = match &block.kind {
        BlockKind::TraitImpl { trait_path, self_ty } => {
            trait_impl(block, &options, errors);
            ModelKind::TraitImpl(TraitImpl {
                trait_path: trait_path.clone(),
                self_ty: self_ty.clone(),
                generics: block.generics.clone(),
                cfgs: attrs::named(&block.attrs, "cfg"),
            })
        }
        BlockKind::Inherent { self_ty } => {
            let owner = Owner::Type(Box::new(self_ty.clone()));
            let name = last_segment(self_ty).map(|segment| segment.ident.clone());
            if name.is_none() {
                errors.push(self_ty, "`#[rmi_node]` needs a type with a name of its own");
            }
            let name = name.unwrap_or_else(|| Ident::new("Unnamed", span_of(self_ty)));
            ModelKind::Interface(interface(block, owner, &name, options, errors))
        }
        BlockKind::Trait { ident, .. } => {
            let owner = Owner::Trait(ident.clone());
            ModelKind::Interface(interface(block, owner, ident, options, errors))
        }
    };
    Model { krate, kind }
}

fn trait_impl(block: &Block, options: &BlockOptions, errors: &mut Errors) {
    for key in options.keys.iter().filter(|key| *key != "crate") {
        let message = format!("`{key}` belongs to the interface\nhelp: move it to `#[rmi_node(..)]` on the trait");
        errors.push(key, message);
    }
    for method in block.methods() {
        let of_params = method.sig.inputs.iter().flat_map(param_attrs);
        if let Some(attr) = method.attrs.iter().chain(of_params).find(|attr| is_rmi(attr)) {
            errors.push(attr, "options belong to the interface\nhelp: move `#[rmi(..)]` to the trait's method");
        }
    }
}

fn interface(block: &Block, owner: Owner, ident: &Ident, options: BlockOptions, errors: &mut Errors) -> Interface {
    let is_trait = matches!(owner, Owner::Trait(_));
    block_generics(&block.generics, errors);
    let mut has_associated_items = false;
    for item in &block.items {
        let BlockItem::Other(kind @ (OtherItem::Const | OtherItem::Type), tokens) = item else { continue };
        if is_trait {
            has_associated_items = true;
            let (what, help) = match kind {
                OtherItem::Const => ("constants", "a method that returns it"),
                _ => ("types", "a type parameter of the trait"),
            };
            let message = format!("an interface cannot have associated {what}\nhelp: use {help}");
            errors.push(tokens, message);
        }
    }
    let own_name = ident.unraw().to_string();
    let (name, name_span) = match &options.name {
        Some(name) => (name.value(), name.span()),
        None => (own_name.clone(), ident.span()),
    };
    service_name(&name, name_span, options.name.is_some(), errors);

    let scope = Scope { owner: &owner, ident, trait_vis: trait_vis(block) };
    let mut methods: Vec<Method> = Vec::new();
    for raw in block.methods() {
        let Some(method) = method(raw, &scope, errors) else { continue };
        check_twice(&methods, &method, errors);
        methods.push(method);
    }

    let stub = match options.stub {
        Some(StubOption::Without) => None,
        Some(StubOption::Named(ident)) => Some(ident),
        None => Some(Ident::new(&format!("{own_name}Stub"), ident.span())),
    };
    if stub.is_some() {
        for method in methods.iter().filter(|method| is_stub_function(&method.ident)) {
            let message = format!(
                "method `{0}` has the name of a function that every stub has\nhelp: rename it, and keep the remote \
                 name with `#[rmi(name = \"{0}\")]`",
                method.ident
            );
            errors.push(&method.ident, message);
        }
    }
    let stub_vis = match trait_vis(block) {
        Some(vis) => vis.clone(),
        None => widest(methods.iter().map(|method| &method.vis)),
    };
    Interface {
        owner,
        generics: block.generics.clone(),
        name,
        copied: copied(&block.attrs),
        stub,
        stub_vis,
        serial: options.serial.is_some(),
        allow: options.allow.map(|role| role.value()),
        has_associated_items,
        methods,
    }
}

fn trait_vis(block: &Block) -> Option<&Visibility> {
    match &block.kind {
        BlockKind::Trait { vis, .. } => Some(vis),
        _ => None,
    }
}

fn block_generics(generics: &Generics, errors: &mut Errors) {
    for lifetime in generics.lifetimes() {
        let message = "a service lives as long as its node, so it cannot borrow\nhelp: own the data, or share it in an \
                       `Arc`";
        errors.push(lifetime, message);
    }
}

/// Service names may have dots: a call by name is split at the last one.
fn service_name(name: &str, span: Span, is_given: bool, errors: &mut Errors) {
    if name.starts_with("rmi") {
        let message = format!("the name `{name}` is reserved: names that begin with `rmi` are the node's own");
        errors.push_at(span, message);
    } else if name.len() > MAX_NAME || !name.split('.').all(is_name) {
        let help = if is_given { "" } else { "\nhelp: give it a name with `#[rmi_node(name = \"..\")]`" };
        errors.push_at(span, format!("`{name}` is no name for a service{}{help}", name_note(name)));
    }
}

fn method_name(name: &str, span: Span, errors: &mut Errors) {
    if name.len() > MAX_NAME || !is_name(name) {
        errors.push_at(span, format!("`{name}` is no name for a method{}", name_note(name)));
    }
}

fn name_note(name: &str) -> String {
    match name.len() > MAX_NAME {
        true => format!("\nnote: it has more than {MAX_NAME} bytes"),
        false => "\nnote: names have letters, digits, `_` and `-`, and begin with no digit".into(),
    }
}

fn is_name(name: &str) -> bool {
    let is_first = |c: char| c.is_alphabetic() || c == '_';
    name.starts_with(is_first) && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

fn check_twice(methods: &[Method], method: &Method, errors: &mut Errors) {
    // Where one is conditional, perhaps only one of them exists.
    let unconditional = |method: &Method| method.copied.cfgs.is_empty();
    let Some(earlier) =
        methods.iter().find(|earlier| earlier.name == method.name && (unconditional(earlier) && unconditional(method)))
    else {
        return;
    };
    // Two methods of one name are rustc's to report.
    if earlier.ident != method.ident {
        let message = format!("remote name `{}` is already used by `{}`", method.name, earlier.ident);
        errors.push_at(method.name_span, message);
        errors.push_at(earlier.name_span, format!("remote name `{}` is first used here", method.name));
    }
}

/// Whose methods are looked at.
struct Scope<'a> {
    owner: &'a Owner,
    ident: &'a Ident,
    /// The visibility of all methods, in a trait.
    trait_vis: Option<&'a Visibility>,
}

impl Scope<'_> {
    fn is_trait(&self) -> bool {
        matches!(self.owner, Owner::Trait(_))
    }
}

/// `None` if the method is not remote.
fn method(raw: &RawMethod, scope: &Scope<'_>, errors: &mut Errors) -> Option<Method> {
    let sig = &raw.sig;
    let ident = &sig.ident;
    let options = MethodOptions::parse(&raw.attrs, errors);
    let Some(receiver) = sig.receiver() else {
        let of_params = sig.inputs.iter().flat_map(param_attrs);
        if let Some(attr) = raw.attrs.iter().chain(of_params).find(|attr| is_rmi(attr)) {
            let message = format!(
                "method `{ident}` has no `&self`, so it cannot be remote\nhelp: add `&self`, or remove `#[rmi(..)]`"
            );
            errors.push(attr, message);
        }
        return None;
    };
    if let Some(skip) = &options.skip {
        if let Some(other) = options.keys.iter().find(|key| *key != skip) {
            errors.push(other, format!("`{other}` means nothing beside `skip`: method `{ident}` is not remote"));
        }
        for attr in sig.inputs.iter().flat_map(param_attrs).filter(|attr| is_rmi(attr)) {
            errors.push(attr, format!("method `{ident}` is skipped, so its parameters have no options"));
        }
        return None;
    }
    match &receiver.kind {
        ReceiverKind::Reference(_, None, None) if receiver.mutability.is_none() => {}
        ReceiverKind::Reference(_, Some(lifetime), None) => {
            if lifetime.ident != "_" {
                errors.push(lifetime, not_generic(ident, "write `&self`"));
            }
        }
        _ => {
            let message = format!(
                "method `{ident}` must take `&self`\nhelp: keep state behind a lock inside of it, or mark the method \
                 with `#[rmi(skip)]`"
            );
            errors.push(receiver, message);
        }
    }
    qualifiers(raw, errors);
    let n_errors = errors.len();
    method_generics(raw, scope, errors);
    let mut is_sound = errors.len() == n_errors;

    let (name, name_span) = match &options.name {
        Some(name) => (name.value(), name.span()),
        None => (ident.unraw().to_string(), ident.span()),
    };
    method_name(&name, name_span, errors);
    if options.name.is_none() && name.starts_with('_') {
        let message = format!(
            "method `{ident}` begins with `_`\nhelp: mark it with `#[rmi(skip)]`, or give it a remote name with \
             `#[rmi(name = \"..\")]`"
        );
        errors.push(ident, message);
    }

    let typed = sig.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    });
    let params: Vec<Param> = typed.map(|typed| param(typed, ident, &mut is_sound, scope, errors)).collect();
    check_params(&params, &sig.inputs, errors);
    let mut returns = returns(&sig.output, ident, &options, &mut is_sound, scope, errors);
    let execution = execution(sig.asyncness.is_some(), &options, errors);
    if options.oneway.is_some() && !is_unit(&returns.ty) {
        let message = format!("a `oneway` method returns nothing\nhelp: remove the return type of `{ident}`");
        errors.push(&returns.ty, message);
        returns.ty = parse_quote!(());
        returns.is_result = false;
    }
    Some(Method {
        ident: ident.clone(),
        is_sound,
        name,
        name_span,
        vis: scope.trait_vis.unwrap_or(&raw.vis).clone(),
        copied: copied(&raw.attrs),
        params,
        returns,
        execution,
        one_way: options.oneway.is_some(),
        idempotent: options.idempotent.is_some(),
        no_cancel: options.no_cancel.is_some(),
        timeout: options.timeout,
        allow: options.allow.as_ref().map(LitStr::value),
    })
}

fn not_generic(ident: &Ident, help: &str) -> String {
    format!("method `{ident}` must not be generic\nhelp: {help}")
}

fn qualifiers(raw: &RawMethod, errors: &mut Errors) {
    let (sig, ident) = (&raw.sig, &raw.sig.ident);
    if let Safety::Unsafe(unsafety) = &sig.safety {
        errors.push(unsafety, format!("method `{ident}` must not be `unsafe`: callers are on other nodes"));
    }
    if let Some(abi) = &sig.abi {
        errors.push(abi, format!("method `{ident}` must not be `extern`"));
    }
    if let Some(variadic) = &sig.variadic {
        errors.push(variadic, format!("method `{ident}` must not be variadic"));
    }
    if let Some(defaultness) = &raw.defaultness {
        errors.push(defaultness, format!("method `{ident}` must not be `default`"));
    }
}

fn method_generics(raw: &RawMethod, scope: &Scope<'_>, errors: &mut Errors) {
    let (generics, ident) = (&raw.sig.generics, &raw.sig.ident);
    let block = if scope.is_trait() { "the trait" } else { "the `impl` block" };
    for param in &generics.params {
        let help = match param {
            GenericParam::Lifetime(lifetime) => {
                format!("remove `{}`: borrowed arguments need no lifetime", lifetime.lifetime)
            }
            GenericParam::Type(ty) => format!("move `{}` to {block}", ty.ident),
            GenericParam::Const(konst) => format!("move `{}` to {block}", konst.ident),
        };
        errors.push(param, not_generic(ident, &help));
    }
    if let Some(clause) = generics.where_clause.as_ref().filter(|_| generics.params.is_empty()) {
        errors.push(clause, not_generic(ident, &format!("move the bounds to {block}")));
    }
}

fn param(typed: &PatType, method: &Ident, is_sound: &mut bool, scope: &Scope<'_>, errors: &mut Errors) -> Param {
    let options = ParamOptions::parse(&typed.attrs, errors);
    let ident = match &*typed.pat {
        Pat::Ident(pat) if pat.subpat.is_none() && pat.by_ref.is_none() => pat.ident.clone(),
        other => {
            let message = "parameter needs a name: callers may pass it by keyword\nhelp: write `name: Type`, and take it \
                           apart in the body";
            errors.push(other, message);
            *is_sound = false;
            Ident::new("__rmi_unnamed", span_of(&typed.ty))
        }
    };
    let ty = ungroup(&typed.ty);
    let (ty, referent) = match ty {
        Type::Reference(reference) => {
            if let Some(mutability) = &reference.mutability {
                let elem = text_of(&reference.elem);
                let message = format!("argument `{ident}` is sent by value\nhelp: take `{elem}` or `&{elem}`");
                errors.push(mutability, message);
            }
            if let Some(lifetime) = reference.lifetime.as_ref().filter(|lifetime| lifetime.ident != "_") {
                let elem = text_of(&reference.elem);
                let message = format!(
                    "argument `{ident}` is lent for the length of the call\nhelp: write `&{elem}` without `{lifetime}`"
                );
                errors.push(lifetime, message);
            }
            (ParamType::Lent((*reference.elem).clone()), ungroup(&reference.elem))
        }
        owned => (ParamType::Owned(owned.clone()), owned),
    };
    let cfgs = attrs::named(&typed.attrs, "cfg");
    let is_named_so = last_segment(referent)
        .is_some_and(|segment| segment.arguments.is_none() && INJECTED.iter().any(|name| segment.ident == name));
    if let (Some(_), Some(arg)) = (&options.context, &options.arg) {
        errors.push(arg, format!("parameter `{ident}` is either given by the node, `context`, or sent, `arg`"));
    }
    if options.context.is_some() || is_named_so && options.arg.is_none() {
        for key in options.keys.iter().filter(|key| *key != "context" && *key != "arg") {
            let message = format!(
                "`{key}` means nothing here: parameter `{ident}` is given by the node, not sent\nhelp: mark it with \
                 `#[rmi(arg)]` if it is an ordinary argument"
            );
            errors.push(key, message);
        }
        return Param { ident, cfgs, ty, source: Source::Injected };
    }
    *is_sound &= sent_type(referent, Place::Argument(&ident), method, scope, errors);

    let name = match &options.name {
        Some(name) => name.value(),
        None => ident.unraw().to_string(),
    };
    if let Some(given) = options.name.as_ref().filter(|_| !is_name(&name) || name.len() > MAX_NAME) {
        errors.push(given, format!("`{name}` is no name for a parameter{}", name_note(&name)));
    }
    if let (Some(_), Some(positional)) = (&options.keyword, &options.positional) {
        let message = format!("parameter `{ident}` cannot be both `keyword`, by name only, and `positional`");
        errors.push(positional, message);
    }
    let kind = match (&options.keyword, &options.positional) {
        (Some(_), _) => ParamKind::Keyword,
        (None, Some(_)) => ParamKind::Positional,
        (None, None) => ParamKind::Ordinary,
    };
    let default = options.default.map(|(_, value)| value.map_or(DefaultValue::OfType, DefaultValue::Expr));
    Param { ident, cfgs, ty, source: Source::Argument { name, kind, default } }
}

/// The order of the parameters is Python's: positional only, ordinary, keyword only; required before defaulted, except
/// among those that are given by name.
fn check_params<'a>(params: &[Param], inputs: impl IntoIterator<Item = &'a FnArg>, errors: &mut Errors) {
    let tokens: Vec<&FnArg> = inputs.into_iter().collect();
    let at = |param: &Param| {
        let found = tokens.iter().find(|input| match input {
            FnArg::Typed(PatType { pat, .. }) => matches!(&**pat, Pat::Ident(pat) if pat.ident == param.ident),
            FnArg::Receiver(_) => false,
        });
        match found {
            Some(FnArg::Typed(PatType { pat, ty, colon_token, .. })) => quote!(#pat #colon_token #ty),
            _ => param.ident.to_token_stream(),
        }
    };
    let mut highest: Option<(&Ident, ParamKind)> = None;
    let mut defaulted: Option<&Ident> = None;
    let mut names: Vec<(&str, &Param)> = Vec::new();
    for param in params {
        let Source::Argument { name, kind, default } = &param.source else { continue };
        let ident = &param.ident;
        // Two parameters of one identifier are rustc's to report, or conditional.
        let earlier = names.iter().find(|(earlier, param)| earlier == name && param.ident != *ident);
        if let Some((_, earlier)) = earlier {
            errors.push(at(param), format!("parameter name `{name}` is already used by `{}`", earlier.ident));
        }
        names.push((name, param));
        match highest {
            Some((earlier, ParamKind::Keyword)) if *kind < ParamKind::Keyword => {
                let message = format!(
                    "parameter `{ident}` follows `{earlier}`, which is given by name only\nhelp: mark it with \
                     `#[rmi(keyword)]` too, or move it before `{earlier}`"
                );
                errors.push(at(param), message);
            }
            Some((earlier, ParamKind::Ordinary)) if *kind < ParamKind::Ordinary => {
                let message = format!(
                    "parameter `{ident}` is given by position only, but `{earlier}` before it can be given by name\n\
                     help: mark `{earlier}` with `#[rmi(positional)]` too, or move `{ident}` before it"
                );
                errors.push(at(param), message);
            }
            _ => highest = Some((ident, *kind)),
        }
        match (default, defaulted) {
            (Some(_), _) if *kind != ParamKind::Keyword => defaulted = Some(ident),
            (None, Some(earlier)) if *kind != ParamKind::Keyword => {
                let message = format!(
                    "parameter `{ident}` without a default follows `{earlier}`, which has one\nhelp: mark it with \
                     `#[rmi(default)]` or `#[rmi(keyword)]`"
                );
                errors.push(at(param), message);
            }
            _ => {}
        }
    }
}

fn returns(
    output: &ReturnType,
    method: &Ident,
    options: &MethodOptions,
    is_sound: &mut bool,
    scope: &Scope<'_>,
    errors: &mut Errors,
) -> Returns {
    if let (Some(_), Some(infallible)) = (&options.fallible, &options.infallible) {
        errors.push(infallible, format!("method `{method}` cannot be both `fallible` and `infallible`"));
    }
    let ReturnType::Type(_, ty) = output else {
        if let Some(fallible) = &options.fallible {
            errors.push(fallible, format!("method `{method}` returns nothing, so it is not `fallible`"));
        }
        return Returns { ty: parse_quote!(()), is_result: false, may_hide_result: false };
    };
    *is_sound &= sent_type(ty, Place::Return, method, scope, errors);
    let segment = last_segment(ty);
    let is_named_so = segment.is_some_and(|segment| segment.ident.to_string().ends_with("Result"));
    let is_result = options.infallible.is_none() && (options.fallible.is_some() || is_named_so);
    let is_plain = match ungroup(ty) {
        Type::Path(path) => path.path.get_ident().is_some_and(is_primitive) || segment.is_some_and(is_std_container),
        _ => true,
    };
    let may_hide_result = !is_result && !is_plain && options.infallible.is_none();
    Returns { ty: (**ty).clone(), is_result, may_hide_result }
}

fn is_primitive(ident: &Ident) -> bool {
    const PRIMITIVES: &[&str] = &[
        "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128",
        "usize",
    ];
    PRIMITIVES.iter().any(|primitive| ident == primitive)
}

fn is_std_container(segment: &syn::PathSegment) -> bool {
    ["String", "Vec", "Option", "HashMap", "BTreeMap"].iter().any(|name| segment.ident == name)
}

fn execution(is_async: bool, options: &MethodOptions, errors: &mut Errors) -> Execution {
    let plain_only = [&options.direct, &options.cpu];
    if is_async {
        for key in plain_only.into_iter().flatten() {
            errors.push(key, format!("`{key}` applies to plain `fn` only\nhelp: remove `{key}`, or `async`"));
        }
        return if options.spawn.is_some() { Execution::Spawned } else { Execution::Async };
    }
    if let Some(key) = &options.spawn {
        let message = "`spawn` applies to `async fn` only\nnote: a plain `fn` never runs on the connection's task, unless \
                       it is `direct`";
        errors.push(key, message);
    }
    match (&options.direct, &options.cpu) {
        (Some(_), Some(cpu)) => {
            errors.push(cpu, "`cpu` and `direct` exclude each other: a method runs in one place");
            Execution::Direct
        }
        (Some(_), None) => Execution::Direct,
        (None, Some(_)) => Execution::Compute,
        (None, None) => Execution::Blocking,
    }
}

#[derive(Clone, Copy)]
enum Place<'a> {
    Argument(&'a Ident),
    Return,
}

/// Refuses what cannot be part of a type that travels: one mistake for each type, the first. Whether there was none.
fn sent_type(ty: &Type, place: Place<'_>, method: &Ident, scope: &Scope<'_>, errors: &mut Errors) -> bool {
    let Some((token, mistake)) = find_mistake(ty.to_token_stream(), scope.is_trait()) else { return true };
    let message = match (mistake, place) {
        (Mistake::Impl { is_stream: true }, Place::Return) => format!(
            "method `{method}` returns a stream\nnote: streams come in a later version; until then return a `Vec`, or \
             call the caller back"
        ),
        (Mistake::Impl { is_stream: false }, Place::Return) => format!(
            "method `{method}` must return a type with a name\nhelp: name the type instead of `impl Trait` (for a future, \
             write `async fn`)"
        ),
        (Mistake::Impl { .. }, Place::Argument(_)) => not_generic(method, "name the type instead of `impl Trait`"),
        (Mistake::Dyn, Place::Argument(name)) => {
            format!("argument `{name}` has a `dyn` type, which cannot travel\nhelp: name the type, or use an enum")
        }
        (Mistake::Dyn, Place::Return) => {
            format!("method `{method}` returns a `dyn` type, which cannot travel\nhelp: name the type, or use an enum")
        }
        (Mistake::Borrow, Place::Argument(name)) => format!(
            "argument `{name}` borrows inside of its type\nhelp: own what is inside, as in `Option<String>`; only the \
             whole argument can be `&T`"
        ),
        (Mistake::Borrow, Place::Return) => {
            format!("method `{method}` returns a reference\nhelp: return an owned value, as `String` for `&str`")
        }
        (Mistake::SelfType, _) => {
            let name = scope.ident;
            format!(
                "method `{method}` of an interface must not name `Self`: callers of `{name}` do not know the type\nhelp: \
                 name a type, or make it a type parameter of the trait"
            )
        }
    };
    errors.push(token, message);
    false
}

#[derive(Clone, Copy)]
enum Mistake {
    Impl { is_stream: bool },
    Dyn,
    Borrow,
    SelfType,
}

fn find_mistake(tokens: TokenStream, is_trait: bool) -> Option<(TokenTree, Mistake)> {
    let is_stream =
        tokens.clone().into_iter().any(|token| matches!(&token, TokenTree::Ident(word) if word == "Stream"));
    tokens.into_iter().find_map(|token| {
        let mistake = match &token {
            TokenTree::Ident(word) if word == "impl" => Mistake::Impl { is_stream },
            TokenTree::Ident(word) if word == "dyn" => Mistake::Dyn,
            TokenTree::Ident(word) if word == "Self" && is_trait => Mistake::SelfType,
            TokenTree::Punct(punct) if punct.as_char() == '&' => Mistake::Borrow,
            TokenTree::Group(group) => return find_mistake(group.stream(), is_trait),
            _ => return None,
        };
        Some((token, mistake))
    })
}

fn param_attrs(input: &FnArg) -> &[Attribute] {
    match input {
        FnArg::Receiver(receiver) => &receiver.attrs,
        FnArg::Typed(typed) => &typed.attrs,
    }
}

fn copied(attributes: &[Attribute]) -> Copied {
    let docs = attrs::named(attributes, "doc");
    Copied {
        doc: attrs::doc_text(&docs),
        docs,
        cfgs: attrs::named(attributes, "cfg"),
        deprecated: attrs::named(attributes, "deprecated"),
    }
}

/// `pub` before `pub(crate)` before `pub(in path)` before private.
fn widest<'a>(all: impl Iterator<Item = &'a Visibility>) -> Visibility {
    let width = |vis: &Visibility| match vis {
        Visibility::Public(_) => 3,
        Visibility::Restricted(path) if path.path.is_ident("crate") => 2,
        Visibility::Restricted(path) if path.path.is_ident("self") => 0,
        Visibility::Restricted(_) => 1,
        Visibility::Inherited => 0,
    };
    // `max_by_key` takes the last of equals; the first is as good, and reads as written.
    all.fold(Visibility::Inherited, |widest, vis| if width(vis) > width(&widest) { vis.clone() } else { widest })
}

/// Whether every stub has a function of this name.
pub(crate) fn is_stub_function(ident: &Ident) -> bool {
    STUB_FUNCTIONS.iter().any(|name| ident == name)
}

fn is_unit(ty: &Type) -> bool {
    matches!(ungroup(ty), Type::Tuple(tuple) if tuple.elems.is_empty())
}

fn text_of(ty: &Type) -> String {
    crate::text::text(ty.to_token_stream())
}

/// The error type of a `Result`, as written: `_` where an alias hides it.
pub(crate) fn raised_type(ty: &Type) -> String {
    let Some(segment) = last_segment(ty) else { return "_".into() };
    let arguments: Vec<&Type> = match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => arguments
            .args
            .iter()
            .filter_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    match arguments[..] {
        [_, error] => text_of(error),
        _ => "_".into(),
    }
}

/// The tokens with `Self` replaced by the type, for places outside of the block.
pub(crate) fn without_self(tokens: TokenStream, self_ty: &Type) -> TokenStream {
    let mut replaced = TokenStream::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(word) if word == "Self" => {
                let is_path = matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == ':');
                replaced.extend(if is_path { quote!(<#self_ty>) } else { quote!(#self_ty) });
            }
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), without_self(group.stream(), self_ty));
                inner.set_span(group.span());
                replaced.extend([TokenTree::Group(inner)]);
            }
            other => replaced.extend([other]),
        }
    }
    replaced
}
