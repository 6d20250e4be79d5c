//! The attribute `#[rmi_node]`.
