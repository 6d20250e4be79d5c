//! The strictest lints that a crate may have say nothing of generated code.
#![deny(warnings)]
#![deny(missing_docs, missing_debug_implementations, unreachable_pub, elided_lifetimes_in_paths, unused_qualifications)]
#![deny(single_use_lifetimes, trivial_casts, trivial_numeric_casts, unused_results, unused_lifetimes, let_underscore_drop)]
#![deny(unsafe_code, explicit_outlives_requirements, unnameable_types, redundant_lifetimes)]

use rmi::rmi_node;

/// A service.
#[derive(Debug)]
pub struct Service;

#[rmi_node]
impl Service {
    async fn private(&self, a: u8, _b: u8) -> u8 {
        a
    }

    /// Documented.
    pub async fn documented(&self) {}
}

struct Unused;

#[rmi_node]
impl Unused {
    async fn never_called(&self) {}
}

#[deprecated]
#[derive(Debug)]
/// Old.
pub struct Old;

#[allow(deprecated)]
#[rmi_node]
impl Old {
    /// Old.
    #[deprecated]
    pub async fn old(&self) {}
}

/// An interface.
#[rmi_node]
#[deprecated]
pub trait Interface {
    /// A method.
    async fn method(&self);
}

fn main() {
    let _ = (Service, Unused);
}
