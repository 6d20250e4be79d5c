//! The attribute `#[rmi_node]`, with one entry point for each crate that hands it on.
//!
//! Both do the same; they differ in the crate that the generated code names. The documentation for users is on the
//! re-exports.
//!
//! In reading order: `parse` (tokens in, bodies untouched), `attrs` (the options), `validate` (every rule, all mistakes
//! at once), `model` (what is left: plain data), `expand` (cannot fail), `fallback` (what is generated where there
//! were mistakes). `text` prints types for descriptors, `errors` collects.

mod attrs;
mod errors;
mod expand;
mod fallback;
mod model;
mod parse;
#[cfg(test)]
mod tests;
mod text;
mod validate;

use proc_macro2::TokenStream;
use quote::quote;

use crate::errors::Errors;

// `rmi::rmi_node`: the generated code names `::rmi::__private`.
#[expect(missing_docs, reason = "the documentation is on the re-export, and this would be put behind it")]
#[proc_macro_attribute]
pub fn rmi_node(attribute: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand(attribute.into(), item.into(), quote!(::rmi)).into()
}

// `rmi_core::rmi_node`: the generated code names `::rmi_core::__private`.
#[expect(missing_docs, reason = "the documentation is on the re-export, and this would be put behind it")]
#[proc_macro_attribute]
pub fn rmi_node_core(attribute: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand(attribute.into(), item.into(), quote!(::rmi_core)).into()
}

/// The item, whatever happens; then either what it stands for, or every mistake and a stand-in.
fn expand(attribute: TokenStream, item: TokenStream, default_crate: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let options = attrs::BlockOptions::parse(attribute, &mut errors);
    let Some(block) = parse::block(item.clone(), &mut errors) else {
        let compile_errors = errors.to_compile_errors();
        return quote!(#item #compile_errors);
    };
    let model = validate::block(&block, options, default_crate, &mut errors);
    if errors.is_empty() {
        return expand::block(&block, &model);
    }
    let compile_errors = errors.to_compile_errors();
    let fallback = fallback::block(&block, &model);
    quote!(#fallback #compile_errors)
}
