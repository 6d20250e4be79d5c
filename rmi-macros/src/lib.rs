//! The attribute `#[rmi_node]`, with one entry point for each crate that hands it on.
//!
//! Both do the same; they differ in the crate that the generated code names.

use proc_macro::TokenStream;

/// `rmi::rmi_node`: the generated code names `::rmi::__private`.
#[proc_macro_attribute]
pub fn rmi_node(_attribute: TokenStream, item: TokenStream) -> TokenStream {
    item
}

/// `rmi_core::rmi_node`: the generated code names `::rmi_core::__private`.
#[proc_macro_attribute]
pub fn rmi_node_core(_attribute: TokenStream, item: TokenStream) -> TokenStream {
    item
}
