//! Reads the annotated item: the header and the signatures with syn, the bodies as the tokens that they are.
//!
//! A body is user code in the middle of being typed; nothing here depends on what is in it. What cannot be read is kept
//! as tokens too, so the item can always be written back.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Attribute, Generics, Ident, ItemImpl, ItemTrait, Path, Signature, Token, Type, Visibility};

use crate::errors::Errors;

/// The annotated item.
pub(crate) struct Block {
    /// Everything before the braces, without the attributes.
    pub(crate) header: TokenStream,
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) generics: Generics,
    pub(crate) kind: BlockKind,
    /// Attributes like `#![allow(..)]` at the start of the block.
    pub(crate) inner_attrs: Vec<Attribute>,
    pub(crate) items: Vec<BlockItem>,
    /// Where the braces were.
    pub(crate) brace_span: Span,
}

pub(crate) enum BlockKind {
    /// `impl Type { .. }`
    Inherent { self_ty: Type },
    /// `impl Trait for Type { .. }`
    TraitImpl { trait_path: Path, self_ty: Type },
    /// `trait Trait { .. }`
    Trait { ident: Ident, vis: Visibility },
}

pub(crate) enum BlockItem {
    Method(Box<RawMethod>),
    /// Constants, types: handed on.
    Other(OtherItem, TokenStream),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OtherItem {
    Const,
    Type,
    Macro,
    /// What could not be read, and has been reported.
    Broken,
}

/// A function of the block. Its body is `{ .. }` or `;`.
pub(crate) struct RawMethod {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) defaultness: Option<Token![default]>,
    pub(crate) sig: Signature,
    pub(crate) body: TokenTree,
}

impl RawMethod {
    pub(crate) fn has_body(&self) -> bool {
        matches!(self.body, TokenTree::Group(_))
    }
}

/// Reads the item. `None` if it is not one that the attribute can be on.
pub(crate) fn block(item: TokenStream, errors: &mut Errors) -> Option<Block> {
    let mut header: Vec<TokenTree> = item.into_iter().collect();
    let keyword = keyword.parse2(header.iter().cloned().collect());
    let keyword = errors.ok_or_push(keyword)?;
    let body = match header.pop() {
        Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace && keyword.is_block => body,
        _ => {
            let message = "`#[rmi_node]` goes on an `impl` block or a trait";
            errors.push_at(keyword.span, message);
            return None;
        }
    };
    let empty = Group::new(Delimiter::Brace, TokenStream::new());
    let whole = header.iter().cloned().chain([TokenTree::Group(empty)]).collect();
    let (attrs, generics, kind) = if keyword.is_trait {
        let item: ItemTrait = errors.ok_or_push(syn::parse2(whole))?;
        if let Some(unsafety) = &item.unsafety {
            errors.push(unsafety, "an interface cannot be an unsafe trait");
        }
        (item.attrs, item.generics, BlockKind::Trait { ident: item.ident, vis: item.vis })
    } else {
        let item: ItemImpl = errors.ok_or_push(syn::parse2(whole))?;
        let self_ty = *item.self_ty;
        let kind = match item.trait_ {
            Some((trait_path, _)) => BlockKind::TraitImpl { trait_path, self_ty },
            None => BlockKind::Inherent { self_ty },
        };
        (item.attrs, item.generics, kind)
    };
    // An attribute is `#` and a group; a doc comment looks the same here.
    let header = header.into_iter().skip(2 * attrs.len()).collect();
    let mut block =
        Block { header, attrs, generics, kind, inner_attrs: Vec::new(), items: Vec::new(), brace_span: body.span() };
    let content = |input: ParseStream<'_>| {
        block.inner_attrs = input.call(Attribute::parse_inner)?;
        while !input.is_empty() {
            let item = block_item(input, errors)?;
            block.items.push(item);
        }
        Ok(())
    };
    // Every item is read or put aside, so this cannot fail.
    let read = content.parse2(body.stream());
    errors.ok_or_push(read);
    Some(block)
}

struct Keyword {
    span: Span,
    is_block: bool,
    is_trait: bool,
}

/// Finds out what the item is, by the word that says so.
fn keyword(input: ParseStream<'_>) -> syn::Result<Keyword> {
    input.call(Attribute::parse_outer)?;
    input.parse::<Visibility>()?;
    let start = input.fork();
    input.parse::<Option<Token![default]>>()?;
    input.parse::<Option<Token![unsafe]>>()?;
    input.parse::<Option<Token![auto]>>()?;
    let is_trait = input.peek(Token![trait]);
    let is_block = is_trait || input.peek(Token![impl]);
    let from = if is_block { input } else { &start };
    let keyword: TokenTree = from.parse()?;
    skip_all(input)?;
    skip_all(&start)?;
    Ok(Keyword { span: keyword.span(), is_block, is_trait })
}

fn skip_all(input: ParseStream<'_>) -> syn::Result<()> {
    input.parse::<TokenStream>().map(drop)
}

fn block_item(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<BlockItem> {
    let ahead = input.fork();
    let error = match method(&ahead) {
        Ok(Some(method)) => {
            syn::parse::discouraged::Speculative::advance_to(input, &ahead);
            return Ok(BlockItem::Method(Box::new(method)));
        }
        Ok(None) => None,
        Err(error) => Some(error),
    };
    let kind = match &error {
        Some(_) => OtherItem::Broken,
        None => other_kind(&input.fork())?,
    };
    if let Some(error) = error {
        errors.push_error(error);
    }
    let tokens = other_item(input)?;
    if kind == OtherItem::Macro {
        let message = "a macro call in this block would hide its methods\nhelp: move it to an `impl` block of its own, \
                       or write the methods out";
        errors.push(&tokens, message);
    }
    Ok(BlockItem::Other(kind, tokens))
}

/// Reads a function; `None` if the item is something else.
fn method(input: ParseStream<'_>) -> syn::Result<Option<RawMethod>> {
    let attrs = input.call(Attribute::parse_outer)?;
    let vis = input.parse()?;
    let defaultness = match input.peek(Token![default]) && !input.peek2(Token![!]) {
        true => input.parse()?,
        false => None,
    };
    let is_constant = input.peek(Token![const]) && !is_qualified_fn(&input.fork())?;
    if is_constant || !is_qualified_fn(&input.fork())? {
        return Ok(None);
    }
    let sig = input.parse()?;
    let body: TokenTree = input.parse()?;
    match &body {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {}
        TokenTree::Punct(punct) if punct.as_char() == ';' => {}
        other => return Err(syn::Error::new(other.span(), "expected the method's body")),
    }
    Ok(Some(RawMethod { attrs, vis, defaultness, sig, body }))
}

/// Whether `const async unsafe extern "C"`, in part or not at all, and then `fn` follow.
fn is_qualified_fn(input: ParseStream<'_>) -> syn::Result<bool> {
    input.parse::<Option<Token![const]>>()?;
    input.parse::<Option<Token![async]>>()?;
    input.parse::<Option<Token![unsafe]>>()?;
    input.parse::<Option<syn::Abi>>()?;
    let is_fn = input.peek(Token![fn]);
    skip_all(input)?;
    Ok(is_fn)
}

fn other_kind(input: ParseStream<'_>) -> syn::Result<OtherItem> {
    input.call(Attribute::parse_outer)?;
    input.parse::<Visibility>()?;
    input.parse::<Option<Token![default]>>()?;
    let kind = match () {
        () if input.peek(Token![const]) => OtherItem::Const,
        () if input.peek(Token![type]) => OtherItem::Type,
        () => OtherItem::Macro,
    };
    skip_all(input)?;
    Ok(kind)
}

/// Everything to the `;` or the braces that end the item.
fn other_item(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    let mut tokens = TokenStream::new();
    let mut is_assigned = false;
    while !input.is_empty() {
        let token: TokenTree = input.parse()?;
        let ends = match &token {
            TokenTree::Punct(punct) => punct.as_char() == ';',
            // `const A: T = { .. };` ends with its semicolon.
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace && !is_assigned,
            _ => false,
        };
        is_assigned |= matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '=');
        token.to_tokens(&mut tokens);
        if ends {
            break;
        }
    }
    Ok(tokens)
}

impl Block {
    /// The functions of the block.
    pub(crate) fn methods(&self) -> impl Iterator<Item = &RawMethod> {
        self.items.iter().filter_map(|item| match item {
            BlockItem::Method(method) => Some(&**method),
            BlockItem::Other(..) => None,
        })
    }

    /// The item with these contents, its attributes those of the user.
    pub(crate) fn with_items(&self, items: TokenStream) -> TokenStream {
        let Self { header, inner_attrs, .. } = self;
        let attrs = self.attrs.iter().filter(|attr| !is_rmi(attr));
        let mut body = Group::new(Delimiter::Brace, quote!(#(#inner_attrs)* #items));
        body.set_span(self.brace_span);
        quote!(#(#attrs)* #header #body)
    }
}

/// Whether it is `#[rmi(..)]`.
pub(crate) fn is_rmi(attr: &Attribute) -> bool {
    attr.path().is_ident("rmi")
}

/// The type without the invisible groups that `macro_rules!` puts around it, and without parentheses.
pub(crate) fn ungroup(mut ty: &Type) -> &Type {
    loop {
        ty = match ty {
            Type::Group(group) => &group.elem,
            Type::Paren(paren) => &paren.elem,
            other => return other,
        };
    }
}

/// The last segment of a path type.
pub(crate) fn last_segment(ty: &Type) -> Option<&syn::PathSegment> {
    match ungroup(ty) {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

/// Where a type starts, for errors.
pub(crate) fn span_of(ty: &Type) -> Span {
    ty.span()
}
