//! What an annotated block says, as plain data with the user's tokens inside.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use syn::{Attribute, Expr, Generics, Ident, Path, Type, Visibility};

/// An annotated block.
pub(crate) struct Model {
    /// The path of the crate that has `__private`.
    pub(crate) krate: TokenStream,
    pub(crate) kind: ModelKind,
}

pub(crate) enum ModelKind {
    /// A block that makes an interface: `impl Type` or `trait Trait`.
    Interface(Interface),
    /// `impl Trait for Type`: says only that the type offers the trait's interface.
    TraitImpl(TraitImpl),
}

pub(crate) struct TraitImpl {
    pub(crate) trait_path: Path,
    pub(crate) self_ty: Type,
    pub(crate) generics: Generics,
    pub(crate) cfgs: Vec<Attribute>,
}

pub(crate) struct Interface {
    pub(crate) owner: Owner,
    pub(crate) generics: Generics,
    /// The service's name on the wire.
    pub(crate) name: String,
    pub(crate) copied: Copied,
    /// `None` if no stub is wanted.
    pub(crate) stub: Option<Ident>,
    pub(crate) stub_vis: Visibility,
    pub(crate) serial: bool,
    pub(crate) allow: Option<String>,
    /// A trait with associated types or constants, which is a mistake: `dyn Trait` means nothing then.
    pub(crate) has_associated_items: bool,
    pub(crate) methods: Vec<Method>,
}

/// Whose methods they are.
pub(crate) enum Owner {
    Type(Box<Type>),
    Trait(Ident),
}

/// What goes to the stub of a block's or a method's attributes.
#[derive(Default)]
pub(crate) struct Copied {
    pub(crate) docs: Vec<Attribute>,
    /// The doc comment as text.
    pub(crate) doc: String,
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) deprecated: Vec<Attribute>,
}

/// A remote method.
pub(crate) struct Method {
    pub(crate) ident: Ident,
    /// Whether its signature makes sense outside of the block. If not, there was a mistake.
    pub(crate) is_sound: bool,
    /// The name on the wire, and where it was given.
    pub(crate) name: String,
    pub(crate) name_span: Span,
    pub(crate) vis: Visibility,
    pub(crate) copied: Copied,
    pub(crate) params: Vec<Param>,
    pub(crate) returns: Returns,
    pub(crate) execution: Execution,
    pub(crate) one_way: bool,
    pub(crate) idempotent: bool,
    pub(crate) no_cancel: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) allow: Option<String>,
}

/// Where a method runs, as in `rmi_core::descriptor::Execution`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Execution {
    Async,
    Spawned,
    Blocking,
    Compute,
    Direct,
}

pub(crate) struct Returns {
    /// The type with `Self` as in the block; `()` if none was written.
    pub(crate) ty: Type,
    /// It is a `Result`, whose parts the stub's type is made of.
    pub(crate) is_result: bool,
    /// Its name might hide a `Result`, so the compiler is asked.
    pub(crate) may_hide_result: bool,
}

pub(crate) struct Param {
    pub(crate) ident: Ident,
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) ty: ParamType,
    pub(crate) source: Source,
}

/// How the method takes a parameter.
pub(crate) enum ParamType {
    Owned(Type),
    /// `&T`, by the `T`.
    Lent(Type),
}

/// Where a parameter comes from.
pub(crate) enum Source {
    /// From the call itself.
    Injected,
    /// From the caller.
    Argument { name: String, kind: ParamKind, default: Option<DefaultValue> },
}

/// How an argument may be given. The order is the one in which they may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ParamKind {
    Positional,
    Ordinary,
    Keyword,
}

pub(crate) enum DefaultValue {
    /// `#[rmi(default)]`
    OfType,
    /// `#[rmi(default = expr)]`
    Expr(Expr),
}
