//! What is generated where there were mistakes: the item, and everything that other code may name.
//!
//! The stub is there with all methods that could be made out, and the type is a service; so a mistake in the block does
//! not make errors elsewhere. Nothing of it runs, since the program does not compile.

use proc_macro2::TokenStream;

use crate::expand::{Bodies, generate};
use crate::model::Model;
use crate::parse::Block;

/// The item and its stand-in.
pub(crate) fn block(block: &Block, model: &Model) -> TokenStream {
    generate(block, model, Bodies::Empty)
}
