//! What a node says about itself: the built-in service `rmi`.

use std::sync::{Arc, Weak};

use rmi_core::descriptor::{Execution, MethodDescriptor, ParamDescriptor, ParamKind as Kind, ServiceDescriptor};
use rmi_core::payload::Payload;
use rmi_core::rejection::Rejection;
use rmi_core::reply::reply_value;
use rmi_core::service::{AnyService, Call, Dispatch};
use serde::{Deserialize, Serialize};

use crate::host::{BUILT_IN, Host};

/// What a node offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeDescription {
    /// The node's name.
    pub name: String,
    /// Its services, by name.
    pub services: Vec<ServiceDescription>,
    /// A hash of the services: two nodes with the same one offer the same.
    pub hash: u64,
}

/// A service of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceDescription {
    /// The name under which it is offered.
    pub name: String,
    /// Its doc comment.
    pub doc: String,
    /// Its methods, as written.
    pub methods: Vec<MethodDescription>,
}

/// A method of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodDescription {
    /// Its name.
    pub name: String,
    /// Its doc comment.
    pub doc: String,
    /// What callers give.
    pub params: Vec<ParamDescription>,
    /// The type of the result, as written.
    pub returns: String,
    /// The type of the error, as written, if it can raise one.
    pub raises: Option<String>,
    /// Whether it sends no answer.
    pub one_way: bool,
    /// Whether running it twice does no harm.
    pub idempotent: bool,
}

/// A parameter of a method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParamDescription {
    /// Its name.
    pub name: String,
    /// Its type, as written.
    pub type_name: String,
    /// How it may be given.
    pub kind: ParamKind,
    /// Its default, as written, if it may be left out.
    pub default: Option<String>,
}

/// How a parameter may be given. The names are Python's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ParamKind {
    /// By position only.
    PositionalOnly,
    /// By position or by name.
    PositionalOrKeyword,
    /// By name only.
    KeywordOnly,
}

impl std::fmt::Display for MethodDescription {
    /// The signature, in Python's notation: `add(a: i64, b: i64 = 1) -> i64`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}(", self.name)?;
        let mut separator = "";
        let mut has_star = false;
        for (idx, param) in self.params.iter().enumerate() {
            if param.kind == ParamKind::KeywordOnly && !has_star {
                has_star = true;
                write!(f, "{separator}*")?;
                separator = ", ";
            }
            write!(f, "{separator}{}: {}", param.name, param.type_name)?;
            separator = ", ";
            if let Some(default) = &param.default {
                write!(f, " = {default}")?;
            }
            let next = self.params.get(idx + 1);
            if param.kind == ParamKind::PositionalOnly && next.is_none_or(|next| next.kind != ParamKind::PositionalOnly)
            {
                write!(f, ", /")?;
            }
        }
        write!(f, ") -> {}", self.returns)
    }
}

impl NodeDescription {
    fn of(host: &Host) -> Self {
        let services: Vec<ServiceDescription> =
            host.services().iter().map(|(name, descriptor)| ServiceDescription::of(name, descriptor)).collect();
        let encoded = Payload::encode(&services).unwrap_or_default();
        // FNV-1a (Fowler, Noll, Vo): the same on every machine and in every version.
        let hash = encoded
            .body()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        Self { name: host.node().to_string(), services, hash }
    }
}

impl ServiceDescription {
    fn of(name: &str, descriptor: &ServiceDescriptor) -> Self {
        let methods = descriptor.methods().iter().map(MethodDescription::of).collect();
        Self { name: name.to_owned(), doc: descriptor.doc().to_owned(), methods }
    }
}

impl MethodDescription {
    fn of(descriptor: &MethodDescriptor) -> Self {
        Self {
            name: descriptor.name().to_owned(),
            doc: descriptor.doc().to_owned(),
            params: descriptor.params().iter().map(ParamDescription::of).collect(),
            returns: descriptor.returns().to_owned(),
            raises: descriptor.raised_type().map(str::to_owned),
            one_way: descriptor.is_one_way(),
            idempotent: descriptor.is_idempotent(),
        }
    }
}

impl ParamDescription {
    fn of(descriptor: &ParamDescriptor) -> Self {
        Self {
            name: descriptor.name().to_owned(),
            type_name: descriptor.type_name().to_owned(),
            kind: match descriptor.kind() {
                Kind::PositionalOnly => ParamKind::PositionalOnly,
                Kind::KeywordOnly => ParamKind::KeywordOnly,
                _ => ParamKind::PositionalOrKeyword,
            },
            default: descriptor.default_text().map(str::to_owned),
        }
    }
}

/// The service that each node has. Written by hand: it belongs to the host that holds it.
pub(crate) struct BuiltIn {
    host: Weak<Host>,
}

static DESCRIPTOR: ServiceDescriptor = ServiceDescriptor::new(
    BUILT_IN,
    "What every node can be asked.",
    &[
        MethodDescriptor::new("describe", "What the node offers.", &[], "NodeDescription", Execution::Direct),
        MethodDescriptor::new("ping", "Does nothing.", &[], "()", Execution::Direct),
    ],
);

impl BuiltIn {
    pub(crate) fn offer(host: &Arc<Host>) {
        // A new host has no service of this name.
        let _ = host.serve_any(BUILT_IN, Arc::new(Self { host: Arc::downgrade(host) }));
    }
}

impl AnyService for BuiltIn {
    fn descriptor(&self) -> &'static ServiceDescriptor {
        &DESCRIPTOR
    }

    fn dispatch(&self, call: &Call<'_>) -> Result<Dispatch, Rejection> {
        call.bind()?;
        Ok(Dispatch::Done(match (call.method(), self.host.upgrade()) {
            ("describe", Some(host)) => reply_value(NodeDescription::of(&host)),
            _ => reply_value(()),
        }))
    }
}
