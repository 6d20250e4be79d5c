//! Collects mistakes, so that one run reports them all.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;

/// The mistakes so far.
#[derive(Default)]
pub(crate) struct Errors {
    combined: Option<syn::Error>,
    n_errors: usize,
}

impl Errors {
    /// A mistake in `tokens`, which are underlined.
    pub(crate) fn push(&mut self, tokens: impl ToTokens, message: impl std::fmt::Display) {
        self.push_error(syn::Error::new_spanned(tokens, message));
    }

    /// A mistake at `span`.
    pub(crate) fn push_at(&mut self, span: Span, message: impl std::fmt::Display) {
        self.push_error(syn::Error::new(span, message));
    }

    /// A mistake that syn found.
    pub(crate) fn push_error(&mut self, error: syn::Error) {
        self.n_errors += 1;
        match &mut self.combined {
            Some(combined) => combined.combine(error),
            None => self.combined = Some(error),
        }
    }

    /// The value, or `None` and a mistake.
    pub(crate) fn ok_or_push<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push_error(error)).ok()
    }

    /// How many there are so far.
    pub(crate) fn len(&self) -> usize {
        self.n_errors
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.combined.is_none()
    }

    /// One `compile_error!` for each.
    pub(crate) fn to_compile_errors(&self) -> TokenStream {
        self.combined.as_ref().map(syn::Error::to_compile_error).unwrap_or_default()
    }

    /// The messages, for the tests.
    #[cfg(test)]
    pub(crate) fn messages(&self) -> Vec<String> {
        self.combined.iter().flat_map(|error| error.clone()).map(|error| error.to_string()).collect()
    }
}
