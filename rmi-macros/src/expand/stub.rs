//! The stub: one method for each remote method, which encodes the arguments and gives back the invocation.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::GenericParam;

use super::{Bodies, Expander, where_clause};
use crate::model::{Interface, Method, Owner, Param, ParamKind, ParamType, Source};
use crate::parse::span_of;
use crate::validate::is_stub_function;

impl Expander<'_> {
    pub(super) fn stub(&self) -> TokenStream {
        let Interface { stub: Some(stub), stub_vis, name, generics, copied, methods, .. } = self.interface else {
            return TokenStream::new();
        };
        let private = &self.private;
        let (impl_generics, ty_generics, block_where) = generics.split_for_impl();
        let (cfgs, deprecated) = (&copied.cfgs, &copied.deprecated);
        let allowed = super::allowed();
        let summary = format!("Calls `{}` on another node.", self.owner_name());
        let docs = match copied.docs.is_empty() {
            true => TokenStream::new(),
            false => {
                let docs = &copied.docs;
                quote!(#[doc = ""] #(#docs)*)
            }
        };

        // The struct asks nothing of its parameters: it holds none of their values.
        let declared = generics.params.iter().map(|param| match param {
            GenericParam::Type(param) => {
                let ident = &param.ident;
                quote!(#ident: ?::core::marker::Sized)
            }
            GenericParam::Const(param) => {
                let (ident, ty) = (&param.ident, &param.ty);
                quote!(const #ident: #ty)
            }
            other => other.to_token_stream(),
        });
        let declared: Vec<_> = declared.collect();
        let declared = (!declared.is_empty()).then(|| quote!(<#(#declared),*>));
        let types = generics.type_params().map(|param| param.ident.to_token_stream());
        // A lifetime is a mistake, which should not become two.
        let lifetimes = generics.lifetimes().map(|param| {
            let lifetime = &param.lifetime;
            quote!(&#lifetime ())
        });
        let types: Vec<_> = types.chain(lifetimes).collect();
        let phantom = quote!(::core::marker::PhantomData);
        let marker_field = (!types.is_empty()).then(|| quote!(types: #phantom<fn() -> (#(#phantom<#types>,)*)>,));
        let marker = (!types.is_empty()).then(|| quote!(types: #phantom,));

        let predicates = block_where.map(|clause| &clause.predicates).into_iter().flatten();
        let predicates = predicates.map(ToTokens::to_token_stream).filter(|tokens| !super::names_self(tokens));
        let bounds = where_clause(predicates);
        let local = self.local();
        let stub_name = stub.to_string();
        let methods = methods
            .iter()
            .filter(|method| self.bodies == Bodies::Real || !is_stub_function(&method.ident))
            .map(|method| self.stub_method(method));
        quote! {
            #[doc = #summary]
            #docs
            #(#cfgs)*
            #(#deprecated)*
            #[allow(dead_code, unreachable_pub)]
            #stub_vis struct #stub #declared {
                remote: #private::Remote,
                #marker_field
            }

            #(#cfgs)*
            #allowed
            impl #impl_generics #stub #ty_generics #bounds {
                /// The service under its own name, on `peer`.
                #stub_vis fn new(peer: impl ::core::convert::Into<#private::Remote>) -> Self {
                    Self::named(peer, #name)
                }

                /// The service that `peer` serves as `name`.
                #stub_vis fn named(
                    peer: impl ::core::convert::Into<#private::Remote>,
                    name: impl ::core::convert::Into<#private::Name>,
                ) -> Self {
                    let peer: #private::Remote = ::core::convert::Into::into(peer);
                    Self { remote: #private::Remote::with_service(peer, name), #marker }
                }

                #local

                #(#methods)*
            }

            #(#cfgs)*
            #allowed
            const _: () = {
                #[automatically_derived]
                impl #declared ::core::clone::Clone for #stub #ty_generics {
                    fn clone(&self) -> Self {
                        Self { remote: ::core::clone::Clone::clone(&self.remote), #marker }
                    }
                }

                #[automatically_derived]
                impl #declared ::core::fmt::Debug for #stub #ty_generics {
                    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                        #private::fmt_stub(f, #stub_name, &self.remote)
                    }
                }
            };
        }
    }

    /// `local(service)`.
    fn local(&self) -> TokenStream {
        let Interface { owner, stub_vis, generics, .. } = self.interface;
        let private = &self.private;
        let has_marker = generics.type_params().next().is_some() || generics.lifetimes().next().is_some();
        let marker = has_marker.then(|| quote!(types: ::core::marker::PhantomData,));
        let (service, bounds) = match owner {
            Owner::Type(self_ty) => {
                let bounds = (!generics.params.is_empty())
                    .then(|| quote!(where #self_ty: #private::Service<Self>, Self: 'static));
                (self_ty.to_token_stream(), bounds)
            }
            Owner::Trait(_) => {
                let bounds = (!generics.params.is_empty()).then(|| quote!(where Self: 'static));
                (quote!(impl #private::Service<Self>), bounds)
            }
        };
        quote! {
            /// Calls `service` in this process, without a network: for tests.
            #stub_vis fn local(service: #service) -> Self #bounds {
                Self { remote: #private::local::<Self>(service), #marker }
            }
        }
    }

    fn stub_method(&self, method: &Method) -> TokenStream {
        let private = &self.private;
        let Method { ident, name, vis, copied, params, returns, one_way, no_cancel, timeout, .. } = method;
        let (cfgs, deprecated) = (&copied.cfgs, &copied.deprecated);
        let docs = match copied.docs.is_empty() {
            true => {
                let doc = format!("Calls `{name}`.");
                quote!(#[doc = #doc])
            }
            false => {
                let docs = &copied.docs;
                quote!(#(#docs)*)
            }
        };
        let arguments = || params.iter().filter(|param| matches!(param.source, Source::Argument { .. }));
        if !method.is_sound {
            // Whatever is called, there is one mistake: the method's.
            let types: Vec<_> = arguments().enumerate().map(|(idx, _)| super::local(&idx.to_string())).collect();
            return quote! {
                #docs
                #(#cfgs)*
                #vis fn #ident<#(#types),*>(&self, #(_: #types),*) -> #private::Invocation<()> {
                    ::core::unreachable!()
                }
            };
        }
        let declared = arguments().map(|param| self.declared(param));
        let pushes = arguments().map(push);
        let ty = self.outside(&returns.ty);
        let invocation = match returns.is_result {
            true => {
                let at = super::at(span_of(&returns.ty));
                let private = self.private_at(at);
                quote_spanned!(at=> #private::ResultInvocation<#ty>)
            }
            false => quote!(#private::Invocation<#ty>),
        };
        let body = match self.bodies {
            Bodies::Real => {
                let args = match arguments().next() {
                    Some(_) => quote!(let mut __rmi_args = #private::Args::new();),
                    None => quote!(let __rmi_args = #private::Args::new();),
                };
                let one_way = one_way.then(|| quote!(.one_way()));
                let no_cancel = no_cancel.then(|| quote!(.no_cancel()));
                let timeout = timeout.map(|timeout| {
                    let timeout = self.duration(timeout);
                    quote!(.default_timeout(#timeout))
                });
                quote! {
                    #args
                    #(#pushes)*
                    #private::Remote::call(&self.remote, #name, __rmi_args) #one_way #no_cancel #timeout
                }
            }
            Bodies::Empty => quote!(::core::unreachable!()),
        };
        let method_name = quote_spanned!(ident.span()=> #ident);
        quote! {
            #docs
            #(#cfgs)*
            #(#deprecated)*
            #vis fn #method_name(&self, #(#declared),*) -> #invocation {
                #body
            }
        }
    }

    /// The parameter as the stub takes it.
    fn declared(&self, param: &Param) -> TokenStream {
        let Param { ident, cfgs, .. } = param;
        let ty = self.param_type(param);
        match &param.source {
            Source::Argument { default: Some(_), .. } => {
                quote!(#(#cfgs)* #ident: ::core::option::Option<#ty>)
            }
            _ => quote!(#(#cfgs)* #ident: #ty),
        }
    }
}

fn push(param: &Param) -> TokenStream {
    let Source::Argument { name, kind, default } = &param.source else { return TokenStream::new() };
    let Param { ident, cfgs, ty, .. } = param;
    // At the type, since that is what cannot be encoded if something cannot.
    let (ParamType::Owned(written) | ParamType::Lent(written)) = ty;
    let at = span_of(written);
    let mut ident = ident.clone();
    ident.set_span(ident.span().located_at(at));
    let lent = quote_spanned!(at=> &#ident);
    let push = match (default, kind, ty) {
        (None, ParamKind::Keyword, ParamType::Owned(_)) => quote!(__rmi_args.push_keyword(#name, #lent)),
        (None, ParamKind::Keyword, ParamType::Lent(_)) => quote!(__rmi_args.push_keyword(#name, #ident)),
        (None, _, ParamType::Owned(_)) => quote!(__rmi_args.push(#lent)),
        (None, _, ParamType::Lent(_)) => quote!(__rmi_args.push(#ident)),
        (Some(_), kind, ty) => {
            let value = match ty {
                ParamType::Owned(_) => quote!(::core::option::Option::as_ref(#lent)),
                ParamType::Lent(_) => quote!(#ident),
            };
            match kind {
                ParamKind::Positional => quote!(__rmi_args.push_defaulted_positional(#name, #value)),
                ParamKind::Ordinary => quote!(__rmi_args.push_defaulted(#name, #value)),
                ParamKind::Keyword => quote!(__rmi_args.push_defaulted_keyword(#name, #value)),
            }
        }
    };
    quote!(#(#cfgs)* #push;)
}
