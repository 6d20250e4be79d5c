//! What is compared: a file for each system.

#[cfg(feature = "capnp")]
mod capnp;
pub mod erlang;
#[cfg(feature = "jsonrpsee")]
mod jsonrpsee;
#[cfg(feature = "kameo")]
mod kameo;
#[cfg(feature = "ractor")]
mod ractor;
mod raw;
#[cfg(feature = "remoc")]
mod remoc;
mod rmi;
#[cfg(feature = "tarpc")]
mod tarpc;
#[cfg(feature = "tonic")]
mod tonic;
#[cfg(feature = "volo")]
mod volo;

use std::time::Duration;

use crate::workload::{self, Figures, Result, System, Workload};

/// A system by its name, with what it can be asked to do.
#[derive(Debug)]
pub struct Entry {
    pub name: &'static str,
    /// The workloads that it cannot do.
    pub skips: &'static [&'static str],
}

macro_rules! systems {
    ($($(#[$cfg:meta])? $name:literal => $system:ty;)+) => {
        /// All that were built, in the order of the tables.
        pub const ALL: &[Entry] = &[
            $($(#[$cfg])? Entry { name: $name, skips: <$system as System>::SKIPS },)+
            Entry { name: erlang::NAME, skips: erlang::SKIPS },
        ];

        pub fn serve(name: &str) -> Result<()> {
            match name {
                $($(#[$cfg])? $name => crate::serve::<$system>(),)+
                erlang::NAME => erlang::serve(),
                _ => Err(format!("`{name}` was not built").into()),
            }
        }

        pub fn measure(
            name: &str,
            address: &str,
            server_pid: u32,
            workload: &Workload,
            window: Duration,
        ) -> Result<Figures> {
            match name {
                $($(#[$cfg])? $name => {
                    type S = $system;
                    S::block_on(workload::measure::<S>(address, server_pid, workload, window))
                })+
                _ => Err(format!("`{name}` was not built").into()),
            }
        }
    };
}

systems! {
    "raw" => raw::Raw;
    "rmi" => rmi::Rmi;
    #[cfg(feature = "tarpc")] "tarpc-bincode" => tarpc::Tarpc<tarpc::WithBincode>;
    #[cfg(feature = "tarpc")] "tarpc-msgpack" => tarpc::Tarpc<tarpc::WithMessagePack>;
    #[cfg(feature = "capnp")] "capnp-rpc" => capnp::Capnp;
    #[cfg(feature = "tonic")] "tonic" => tonic::Tonic;
    #[cfg(feature = "jsonrpsee")] "jsonrpsee" => jsonrpsee::Jsonrpsee;
    #[cfg(feature = "remoc")] "remoc" => remoc::Remoc;
    #[cfg(feature = "volo")] "volo-thrift" => volo::Volo;
    #[cfg(feature = "ractor")] "ractor_cluster" => ractor::Ractor;
    #[cfg(feature = "kameo")] "kameo" => kameo::Kameo;
}
