//! core
pub mod descriptor;
pub mod scan;
