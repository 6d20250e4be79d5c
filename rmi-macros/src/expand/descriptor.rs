//! The description of an interface, as constant data.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::quote;

use super::{Bodies, Expander};
use crate::model::{DefaultValue, Execution, Interface, Method, Param, ParamKind, Source};
use crate::text::text;
use crate::validate::raised_type;

impl Expander<'_> {
    /// `ServiceDescriptor::new(..)`.
    pub(super) fn descriptor(&self) -> TokenStream {
        let private = &self.private;
        let Interface { name, copied, methods, serial, allow, .. } = self.interface;
        let doc = &copied.doc;
        let methods = methods.iter().filter(|_| self.bodies == Bodies::Real).map(|method| self.method(method));
        let serial = serial.then(|| quote!(.serial()));
        let allow = allow.iter().map(|role| quote!(.allow(#role)));
        quote!(#private::ServiceDescriptor::new(#name, #doc, &[#(#methods),*]) #serial #(#allow)*)
    }

    fn method(&self, method: &Method) -> TokenStream {
        let private = &self.private;
        let Method { name, copied, params, returns, execution, one_way, idempotent, no_cancel, timeout, allow, .. } =
            method;
        let (cfgs, doc) = (&copied.cfgs, &copied.doc);
        let params = params.iter().filter_map(|param| self.param(param));
        let returned = text(self.outside(&returns.ty));
        let execution = match execution {
            Execution::Async => quote!(Async),
            Execution::Spawned => quote!(Spawned),
            Execution::Blocking => quote!(Blocking),
            Execution::Compute => quote!(Compute),
            Execution::Direct => quote!(Direct),
        };
        let raises = returns.is_result.then(|| {
            let raised = raised_type(&returns.ty);
            quote!(.raises(#raised))
        });
        let one_way = one_way.then(|| quote!(.one_way()));
        let idempotent = idempotent.then(|| quote!(.idempotent()));
        let no_cancel = no_cancel.then(|| quote!(.no_cancel()));
        let timeout = timeout.map(|timeout| {
            let timeout = self.duration(timeout);
            quote!(.timeout(#timeout))
        });
        let allow = allow.iter().map(|role| quote!(.allow(#role)));
        quote! {
            #(#cfgs)*
            #private::MethodDescriptor::new(
                #name, #doc, &[#(#params),*], #returned, #private::Execution::#execution
            ) #raises #one_way #idempotent #no_cancel #timeout #(#allow)*
        }
    }

    /// `None` for an injected parameter, which callers do not see.
    fn param(&self, param: &Param) -> Option<TokenStream> {
        let private = &self.private;
        let Source::Argument { name, kind, default } = &param.source else { return None };
        let cfgs = &param.cfgs;
        let ty = text(self.param_type(param));
        let new = match default {
            None => quote!(required(#name, #ty)),
            Some(default) => {
                let default = match default {
                    DefaultValue::OfType => "Default::default()".to_owned(),
                    DefaultValue::Expr(expr) => text(quote!(#expr)),
                };
                quote!(defaulted(#name, #ty, #default))
            }
        };
        let kind = match kind {
            ParamKind::Positional => quote!(.positional_only()),
            ParamKind::Ordinary => TokenStream::new(),
            ParamKind::Keyword => quote!(.keyword_only()),
        };
        Some(quote!(#(#cfgs)* #private::ParamDescriptor::#new #kind))
    }

    pub(super) fn duration(&self, duration: Duration) -> TokenStream {
        let private = &self.private;
        // At most 24 hours, see the option.
        let millis = duration.as_millis() as u64;
        quote!(#private::Duration::from_millis(#millis))
    }
}
