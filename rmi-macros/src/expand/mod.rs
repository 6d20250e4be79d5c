//! Turns the model into code. Nothing here can fail: what could not be expanded was reported before.
//!
//! The generated code names everything by its absolute path, so it means the same wherever the block stands.

mod descriptor;
mod dispatch;
mod stub;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{Attribute, GenericParam, Generics, Ident, Type, WherePredicate};

use crate::attrs;
use crate::model::{Interface, Model, ModelKind, Owner, Param, ParamType, TraitImpl};
use crate::parse::{Block, BlockItem, RawMethod, is_rmi};

/// The item and what it stands for.
pub(crate) fn block(block: &Block, model: &Model) -> TokenStream {
    generate(block, model, Bodies::Real)
}

/// Whether what runs is generated, or, since there are mistakes, only what other code may name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bodies {
    Real,
    Empty,
}

pub(crate) fn generate(block: &Block, model: &Model, bodies: Bodies) -> TokenStream {
    let krate = &model.krate;
    let private = quote!(#krate::__private);
    match &model.kind {
        ModelKind::TraitImpl(model) => {
            let item = block.with_items(items(block));
            let service = trait_impl(model, &private);
            quote!(#item #service)
        }
        ModelKind::Interface(interface) => {
            let expander = Expander { interface, private, bodies };
            let item = match &interface.owner {
                Owner::Type(_) => block.with_items(items(block)),
                Owner::Trait(_) => block.with_items(expander.trait_items(block)),
            };
            let service = expander.service();
            let stub = expander.stub();
            quote!(#item #service #stub)
        }
    }
}

/// The user's items, without `#[rmi(..)]`.
fn items(block: &Block) -> TokenStream {
    block
        .items
        .iter()
        .map(|item| match item {
            BlockItem::Other(_, tokens) => tokens.clone(),
            BlockItem::Method(method) => {
                let RawMethod { attrs, vis, defaultness, sig, body } = &**method;
                let attrs = attrs::without_rmi(attrs);
                let sig = signature(sig);
                quote!(#attrs #vis #defaultness #sig #body)
            }
        })
        .collect()
}

/// The signature, its parameters without `#[rmi(..)]`.
fn signature(sig: &syn::Signature) -> syn::Signature {
    let mut sig = sig.clone();
    for input in &mut sig.inputs {
        match input {
            syn::FnArg::Receiver(receiver) => receiver.attrs.retain(|attr| !is_rmi(attr)),
            syn::FnArg::Typed(typed) => typed.attrs.retain(|attr| !is_rmi(attr)),
        }
    }
    sig
}

/// Lints that generated code may meet where the user's does not.
fn allowed() -> TokenStream {
    quote!(#[allow(
        dead_code, deprecated, private_bounds, private_interfaces, unreachable_pub,
        unused_imports, unused_qualifications, unused_variables,
        clippy::all, clippy::pedantic, clippy::nursery
    )])
}

/// `impl Service` for a type that implements an interface.
fn trait_impl(model: &TraitImpl, private: &TokenStream) -> TokenStream {
    let TraitImpl { trait_path, self_ty, generics, cfgs } = model;
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let bounds = service_bounds(generics, where_clause.map(|clause| &clause.predicates).into_iter().flatten());
    // `Interface<Self>` rather than `Interface`: with a local type in it, the compiler knows which stub it is while it
    // looks for overlaps, so a type can have several interfaces.
    let interface = quote!(<dyn #trait_path as #private::Interface<Self>>);
    let allowed = allowed();
    let dispatch = dispatch::hidden_name();
    quote! {
        #(#cfgs)*
        #allowed
        const _: () = {
            #[automatically_derived]
            impl #impl_generics #private::Service<#interface::Stub> for #self_ty #bounds {
                const DESCRIPTOR: &'static #private::ServiceDescriptor = #interface::DESCRIPTOR;

                fn dispatch(
                    self: #private::Arc<Self>,
                    __rmi_call: &#private::Call<'_>,
                ) -> ::core::result::Result<#private::Dispatch, #private::Rejection> {
                    <Self as #trait_path>::#dispatch(self, __rmi_call)
                }
            }
        };
    }
}

/// The bounds of an `impl Service`. A generic type has to say that it can be one.
fn service_bounds<'a>(generics: &Generics, predicates: impl Iterator<Item = &'a WherePredicate>) -> TokenStream {
    let own =
        (!generics.params.is_empty()).then(|| quote!(Self: ::core::marker::Send + ::core::marker::Sync + 'static));
    where_clause(own.into_iter().chain(predicates.map(ToTokens::to_token_stream)))
}

fn where_clause(predicates: impl Iterator<Item = TokenStream>) -> TokenStream {
    let predicates: Vec<_> = predicates.collect();
    if predicates.is_empty() { TokenStream::new() } else { quote!(where #(#predicates),*) }
}

/// What the parts of the expansion have in common.
struct Expander<'a> {
    interface: &'a Interface,
    /// The path of `__private`.
    private: TokenStream,
    bodies: Bodies,
}

impl Expander<'_> {
    /// The path of `__private` as if it were written at `span`, so that errors about what it leads to are shown there.
    fn private_at(&self, span: Span) -> TokenStream {
        self.private
            .clone()
            .into_iter()
            .map(|mut token| {
                token.set_span(token.span().located_at(span));
                token
            })
            .collect()
    }

    fn cfgs(&self) -> &[Attribute] {
        &self.interface.copied.cfgs
    }

    /// The stub's type, or what stands for it.
    fn stub_type(&self) -> TokenStream {
        let private = &self.private;
        let (_, ty_generics, _) = self.interface.generics.split_for_impl();
        match (&self.interface.stub, &self.interface.owner) {
            (Some(stub), _) => quote!(#stub #ty_generics),
            (None, Owner::Type(_)) => quote!(#private::NoStub<Self>),
            (None, Owner::Trait(ident)) => quote!(#private::NoStub<dyn #ident #ty_generics>),
        }
    }

    /// The `impl`s that make the interface known.
    fn service(&self) -> TokenStream {
        let private = &self.private;
        let Interface { owner, generics, .. } = self.interface;
        let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
        let predicates = where_clause.map(|clause| &clause.predicates).into_iter().flatten();
        let (allowed, cfgs) = (allowed(), self.cfgs());
        let (stub, descriptor) = (self.stub_type(), self.descriptor());
        let implementation = match owner {
            Owner::Type(self_ty) => {
                let bounds = service_bounds(generics, predicates);
                let body = self.dispatch_body();
                quote! {
                    #[automatically_derived]
                    impl #impl_generics #private::Service<#stub> for #self_ty #bounds {
                        const DESCRIPTOR: &'static #private::ServiceDescriptor = &#descriptor;

                        fn dispatch(
                            self: #private::Arc<Self>,
                            __rmi_call: &#private::Call<'_>,
                        ) -> ::core::result::Result<#private::Dispatch, #private::Rejection> {
                            #body
                        }
                    }
                }
            }
            Owner::Trait(_) if self.interface.has_associated_items => TokenStream::new(),
            Owner::Trait(ident) => {
                let params = generics.params.iter().map(without_default);
                let types = generics.type_params().map(|param| {
                    let ident = &param.ident;
                    quote!(#ident: 'static)
                });
                // What the trait demands of `Self` is for those who implement it.
                let predicates = predicates.map(ToTokens::to_token_stream).filter(|tokens| !names_self(tokens));
                let bounds = self::where_clause(types.chain(predicates));
                quote! {
                    #[automatically_derived]
                    impl<#(#params,)* __RmiFor: ?::core::marker::Sized> #private::Interface<__RmiFor>
                        for dyn #ident #ty_generics #bounds
                    {
                        type Stub = #stub;
                        const DESCRIPTOR: &'static #private::ServiceDescriptor = &#descriptor;
                    }
                }
            }
        };
        quote! {
            #(#cfgs)*
            #allowed
            const _: () = {
                #implementation
            };
        }
    }

    /// A type with `Self` replaced, for use outside of the block.
    fn outside(&self, ty: &Type) -> TokenStream {
        match &self.interface.owner {
            Owner::Type(self_ty) => crate::validate::without_self(ty.to_token_stream(), self_ty),
            Owner::Trait(_) => ty.to_token_stream(),
        }
    }

    /// The parameter's type as written, outside of the block.
    fn param_type(&self, param: &Param) -> TokenStream {
        match &param.ty {
            ParamType::Owned(ty) => self.outside(ty),
            ParamType::Lent(ty) => {
                let ty = self.outside(ty);
                quote!(&#ty)
            }
        }
    }

    /// The name of the stub for texts.
    fn owner_name(&self) -> String {
        match &self.interface.owner {
            Owner::Type(ty) => crate::text::text(ty.to_token_stream()),
            Owner::Trait(ident) => ident.to_string(),
        }
    }
}

fn without_default(param: &GenericParam) -> GenericParam {
    let mut param = param.clone();
    match &mut param {
        GenericParam::Type(param) => param.default = None,
        GenericParam::Const(param) => param.default = None,
        _ => {}
    }
    param
}

fn names_self(tokens: &TokenStream) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        proc_macro2::TokenTree::Ident(word) => word == "Self",
        proc_macro2::TokenTree::Group(group) => names_self(&group.stream()),
        _ => false,
    })
}

/// The place of `span`, for generated code: names resolve as elsewhere in it.
fn at(span: Span) -> Span {
    Span::call_site().located_at(span)
}

/// An identifier of generated code that cannot meet one of the user's.
fn local(name: &str) -> Ident {
    Ident::new(&format!("__rmi_{name}"), Span::call_site())
}
