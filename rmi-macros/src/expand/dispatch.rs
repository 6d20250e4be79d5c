//! From a call to the method: one arm for each, which takes the arguments and says what is to be run.
//!
//! Arguments are taken before the `async move`: a call that does not fit ends before anything runs, and the state
//! machines stay small, which the optimiser rewards.

use proc_macro2::{Literal, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Ident, parse_quote};

use super::{Bodies, Expander, at, local, signature};
use crate::attrs;
use crate::model::{DefaultValue, Execution, Method, Owner, Param, ParamType, Source};
use crate::parse::{Block, BlockItem, RawMethod, span_of};

/// The trait's hidden method. Its name is what the compiler says where `#[rmi_node]` is missing on the trait.
pub(super) fn hidden_name() -> Ident {
    Ident::new("__rmi_dispatch_needs_rmi_node_on_the_trait", Span::call_site())
}

impl Expander<'_> {
    /// The body of `dispatch(self: Arc<Self>, __rmi_call: &Call<'_>)`.
    pub(super) fn dispatch_body(&self) -> TokenStream {
        let private = &self.private;
        if self.bodies == Bodies::Empty || self.interface.methods.is_empty() {
            return quote!(::core::result::Result::Err(#private::no_such_method(__rmi_call)));
        }
        let arms = self.interface.methods.iter().map(|method| self.arm(method));
        let asserts_plain = self.interface.methods.iter().any(|method| method.returns.may_hide_result).then(|| {
            // The only `use` of generated code: a trait's constant that gives way to an inherent one has to be in scope.
            quote! { use #private::IsNoResult as _; }
        });
        quote! {
            #asserts_plain
            match #private::Call::method(__rmi_call) {
                #(#arms)*
                _ => ::core::result::Result::Err(#private::no_such_method(__rmi_call)),
            }
        }
    }

    fn arm(&self, method: &Method) -> TokenStream {
        let private = &self.private;
        let Method { ident, name, name_span, copied, params, returns, execution, .. } = method;
        let cfgs = &copied.cfgs;
        let mut name = Literal::string(name);
        name.set_span(*name_span);
        let has_arguments = params.iter().any(|param| matches!(param.source, Source::Argument { .. }));
        // Bound even if the method takes nothing: the caller may have given something.
        let bind = match has_arguments {
            true => quote!(let mut __rmi_slots = #private::Call::bind(__rmi_call)?;),
            false => quote!(#private::Call::bind(__rmi_call)?;),
        };
        let values: Vec<Ident> =
            params.iter().enumerate().map(|(param_idx, _)| local(&param_idx.to_string())).collect();
        let takes = params.iter().zip(&values).map(|(param, value)| self.take(param, value));
        let passes = params.iter().zip(&values).map(|(param, value)| self.pass(param, value));
        // At the method's name, so that what the compiler has to say of its future is shown there.
        let at_name = at(ident.span());
        let owner = self.owner(at_name);
        let call = quote_spanned!(at_name=> #owner::#ident(&*self, #(#passes),*));
        let ty = &returns.ty;
        let at_type = at(span_of(ty));
        let private_at = self.private_at(at_type);
        let respond = match returns.is_result {
            true => quote_spanned!(at_type=> #private_at::reply_result::<#ty>),
            false => quote_spanned!(at_type=> #private_at::reply_value::<#ty>),
        };
        let assertion = returns.may_hide_result.then(|| {
            let kind = quote_spanned!(at_type=> #private_at::Returned::<#ty>::KIND);
            quote!(#private::returns_a_plain_value(#kind);)
        });
        let run = match execution {
            Execution::Async | Execution::Spawned => {
                let future = quote_spanned!(at_name=> async move { #respond(#call.await) });
                let private = self.private_at(at_name);
                quote_spanned!(at_name=> #private::Dispatch::task(#future))
            }
            Execution::Blocking | Execution::Compute => {
                let closure = quote_spanned!(at_name=> move || #respond(#call));
                let private = self.private_at(at_name);
                quote_spanned!(at_name=> #private::Dispatch::closure(#closure))
            }
            Execution::Direct => quote!(#private::Dispatch::Done(#respond(#call))),
        };
        quote! {
            #(#cfgs)*
            #name => {
                #assertion
                #bind
                #(#takes)*
                ::core::result::Result::Ok(#run)
            }
        }
    }

    /// What the methods are functions of.
    fn owner(&self, at: Span) -> TokenStream {
        let (_, ty_generics, _) = self.interface.generics.split_for_impl();
        match &self.interface.owner {
            Owner::Type(_) => quote_spanned!(at=> Self),
            Owner::Trait(ident) => quote_spanned!(at=> <Self as #ident #ty_generics>),
        }
    }

    /// `let value = ..`, from the call or from the arguments.
    fn take(&self, param: &Param, value: &Ident) -> TokenStream {
        let private = &self.private;
        let cfgs = &param.cfgs;
        let (written, owned) = match &param.ty {
            ParamType::Owned(ty) => (ty, ty.to_token_stream()),
            ParamType::Lent(ty) => (ty, quote!(<#ty as #private::ToOwned>::Owned)),
        };
        let taken = match &param.source {
            Source::Injected => {
                quote!(<#written as #private::FromCall>::from_call(#private::Call::context(__rmi_call))?)
            }
            Source::Argument { default: None, .. } => quote!(#private::Slots::take::<#owned>(&mut __rmi_slots)?),
            Source::Argument { default: Some(default), .. } => {
                let default = match (default, &param.ty) {
                    (DefaultValue::OfType, _) => quote!(::core::default::Default::default),
                    (DefaultValue::Expr(expr), ParamType::Owned(_)) => quote!(|| #expr),
                    (DefaultValue::Expr(expr), ParamType::Lent(ty)) => {
                        quote!(|| <#ty as #private::ToOwned>::to_owned(#expr))
                    }
                };
                quote!(#private::Slots::take_or::<#owned>(&mut __rmi_slots, #default)?)
            }
        };
        quote!(#(#cfgs)* let #value = #taken;)
    }

    /// The value as the method takes it.
    fn pass(&self, param: &Param, value: &Ident) -> TokenStream {
        let private = &self.private;
        let cfgs = &param.cfgs;
        let passed = match (&param.ty, &param.source) {
            (ParamType::Owned(_), _) => quote!(#value),
            (ParamType::Lent(_), Source::Injected) => quote!(&#value),
            (ParamType::Lent(ty), Source::Argument { .. }) => {
                quote!(#private::Borrow::<#ty>::borrow(&#value))
            }
        };
        quote!(#(#cfgs)* #passed)
    }

    /// The items of the trait as it is compiled: `async fn` with futures that can be sent, and the hidden method.
    pub(super) fn trait_items(&self, block: &Block) -> TokenStream {
        let private = &self.private;
        let items = block.items.iter().map(|item| match item {
            BlockItem::Other(_, tokens) => tokens.clone(),
            BlockItem::Method(method) => trait_method(method),
        });
        let body = self.dispatch_body();
        let allowed = super::allowed();
        let hidden = hidden_name();
        quote! {
            #(#items)*

            #[doc(hidden)]
            #allowed
            fn #hidden(
                self: #private::Arc<Self>,
                __rmi_call: &#private::Call<'_>,
            ) -> ::core::result::Result<#private::Dispatch, #private::Rejection>
            where
                Self: ::core::marker::Sized + ::core::marker::Send + ::core::marker::Sync + 'static,
            {
                #body
            }
        }
    }
}

/// The method with a future that can be sent, and out of the way of `dyn Trait`.
fn trait_method(method: &RawMethod) -> TokenStream {
    let RawMethod { attrs, vis, defaultness, sig, body } = method;
    let mut sig = signature(sig);
    let is_async = sig.asyncness.take().is_some();
    let mut body = body.to_token_stream();
    let mut bounds = vec![quote!(::core::marker::Sized)];
    if is_async {
        let output = match &sig.output {
            syn::ReturnType::Default => quote!(()),
            syn::ReturnType::Type(_, ty) => ty.to_token_stream(),
        };
        sig.output = parse_quote!(-> impl ::core::future::Future<Output = #output> + ::core::marker::Send);
        if method.has_body() {
            // The future holds `&self`.
            if sig.receiver().is_some() {
                bounds.push(quote!(::core::marker::Sync));
            }
            body = quote!({ async move #body });
        }
    }
    let is_plain = !is_async && sig.receiver().is_some() && sig.generics.params.is_empty();
    if !(is_plain && attrs::is_skipped(attrs)) {
        sig.generics.make_where_clause().predicates.push(parse_quote!(Self: #(#bounds)+*));
    }
    let attrs = attrs::without_rmi(attrs);
    quote!(#attrs #vis #defaultness #sig #body)
}
