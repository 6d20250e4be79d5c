//! Hello: who a node is and what it can take. The first frame in each direction.
//!
//! A map with integer keys, of which unknown ones are skipped. A [`NodeRecord`], which nodes hand on to each other, is
//! the same map without the keys that concern one connection.

use std::collections::BTreeMap;
use std::fmt;

use bytes::BytesMut;

use crate::frame::{MAX_PAYLOAD, VERSIONS};
use crate::pack;
use crate::scan::{ScanError, Scanner};

/// The random number by which a running process is known. A restart gives another one. Never 0 on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u64);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a node is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Role {
    /// It listens, and everybody can connect to it.
    #[default]
    Member,
    /// It does not listen. It can be called on the connections that it made.
    Client,
}

/// Bits of the features that a node offers or needs.
pub mod features {
    /// All that this version knows. None is optional yet: the bits are there for what comes.
    pub const KNOWN: u64 = 0;
}

/// What a node can take from one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerLimits {
    /// The largest message, in bytes.
    pub message: u64,
    /// The most calls that may be in flight.
    pub in_flight: u64,
    /// The bytes in parts that may be sent before more credit comes.
    pub window: u64,
    /// The bytes of messages in parts that may be interleaved; a single message may be larger.
    pub reassembly: u64,
}

impl PeerLimits {
    /// The smallest limit of a message: an exception of which only the kind is left fits.
    pub const MIN_MESSAGE: u64 = 1 << 10;

    /// The smallest window: two parts of the smallest size, so that one can go out while the other is being taken in.
    pub const MIN_WINDOW: u64 = 8 << 10;
}

/// Part of the wire format: what a Hello that leaves a limit out says.
impl Default for PeerLimits {
    fn default() -> Self {
        Self { message: 8 << 20, in_flight: 1024, window: 512 << 10, reassembly: 64 << 20 }
    }
}

/// A node as others know it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeRecord {
    /// The process.
    pub instance: InstanceId,
    /// The node's name. Two nodes can have the same.
    pub name: String,
    /// The kind of node, as its program calls it; empty if it does not.
    pub node_type: String,
    /// Whether it can be connected to.
    pub role: Role,
    /// Where it can be reached, best first.
    pub addresses: Vec<String>,
    /// The host's name.
    pub machine: String,
    /// The process's number on that host.
    pub pid: u32,
    /// The names of its services.
    pub services: Vec<String>,
    /// What its program says about it.
    pub labels: BTreeMap<String, String>,
}

impl NodeRecord {
    /// A node with nothing but an id and a name.
    pub fn new(instance: InstanceId, name: impl Into<String>) -> Self {
        Self {
            instance,
            name: name.into(),
            node_type: String::new(),
            role: Role::Member,
            addresses: Vec::new(),
            machine: String::new(),
            pid: 0,
            services: Vec::new(),
            labels: BTreeMap::new(),
        }
    }
}

/// The first frame.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hello {
    /// The oldest and the newest version that the sender speaks.
    pub versions: (u64, u64),
    /// Bits of the features that it offers.
    pub features: u64,
    /// Bits of the features without which it does not talk.
    pub required: u64,
    /// The name of its cluster.
    pub cluster: String,
    /// Who it is.
    pub node: NodeRecord,
    /// What it can take.
    pub limits: PeerLimits,
}

impl Hello {
    /// The Hello of a node.
    pub fn new(cluster: impl Into<String>, node: NodeRecord, limits: PeerLimits) -> Self {
        Self { versions: VERSIONS, features: features::KNOWN, required: 0, cluster: cluster.into(), node, limits }
    }
}

mod key {
    pub(super) const VERSIONS: u64 = 0;
    pub(super) const FEATURES: u64 = 1;
    pub(super) const REQUIRED: u64 = 2;
    pub(super) const CLUSTER: u64 = 3;
    pub(super) const NAME: u64 = 4;
    pub(super) const INSTANCE: u64 = 5;
    pub(super) const ROLE: u64 = 6;
    pub(super) const ADDRESSES: u64 = 7;
    pub(super) const LABELS: u64 = 8;
    pub(super) const LIMITS: u64 = 9;
    pub(super) const NODE_TYPE: u64 = 10;
    pub(super) const MACHINE: u64 = 11;
    pub(super) const PID: u64 = 12;
    pub(super) const SERVICES: u64 = 13;
}

/// The most addresses that are kept of a node.
pub const MAX_ADDRESSES: usize = 16;

/// The most nodes in one peers frame.
pub const MAX_RECORDS: usize = 64;

impl Hello {
    /// Writes the payload.
    pub fn encode(&self, out: &mut BytesMut) {
        pack::map(out, 5 + NODE_KEYS);
        pack::uint(out, key::VERSIONS);
        pack::array(out, 2);
        pack::uint(out, self.versions.0);
        pack::uint(out, self.versions.1);
        pack::uint(out, key::FEATURES);
        pack::uint(out, self.features);
        pack::uint(out, key::REQUIRED);
        pack::uint(out, self.required);
        pack::uint(out, key::CLUSTER);
        pack::str(out, &self.cluster);
        encode_node(&self.node, out);
        pack::uint(out, key::LIMITS);
        pack::map(out, 4);
        let PeerLimits { message, in_flight, window, reassembly } = self.limits;
        for (key, limit) in (0..).zip([message, in_flight, window, reassembly]) {
            pack::uint(out, key);
            pack::uint(out, limit);
        }
    }

    /// Reads the payload. Everything but the versions and the instance has a default.
    ///
    /// # Errors
    /// If the payload is no such map, or a limit is so small that messages could never pass.
    pub fn decode(payload: &[u8]) -> Result<Self, ScanError> {
        let mut hello = Self::new("", NodeRecord::new(InstanceId(0), ""), PeerLimits::default());
        hello.features = 0;
        let mut has_versions = false;
        read_map(payload, |key, value| {
            match key {
                key::VERSIONS => {
                    if value.array()? < 2 {
                        return Err(ScanError::Expected("the oldest and the newest version"));
                    }
                    hello.versions = (value.uint()?, value.uint()?);
                    has_versions = true;
                }
                key::FEATURES => hello.features = value.uint()?,
                key::REQUIRED => hello.required = value.uint()?,
                key::CLUSTER => value.str()?.clone_into(&mut hello.cluster),
                key::LIMITS => {
                    read_map(value.value()?, |key, value| {
                        match key {
                            0 => hello.limits.message = value.uint()?,
                            1 => hello.limits.in_flight = value.uint()?,
                            2 => hello.limits.window = value.uint()?,
                            3 => hello.limits.reassembly = value.uint()?,
                            _ => {}
                        }
                        Ok(())
                    })?;
                }
                key => decode_node_key(&mut hello.node, key, value)?,
            }
            Ok(())
        })?;
        let PeerLimits { message, window, .. } = hello.limits;
        match () {
            () if !has_versions => Err(ScanError::Expected("the oldest and the newest version")),
            // Two nodes without one would be taken for the same.
            () if hello.node.instance == InstanceId(0) => Err(ScanError::Expected("an instance id")),
            () if message < PeerLimits::MIN_MESSAGE => Err(ScanError::Expected("a message limit of at least 1 KiB")),
            () if window < PeerLimits::MIN_WINDOW => Err(ScanError::Expected("a window of at least 8 KiB")),
            () => Ok(hello),
        }
    }
}

const NODE_KEYS: usize = 9;

fn encode_node(node: &NodeRecord, out: &mut BytesMut) {
    pack::uint(out, key::NAME);
    pack::str(out, &node.name);
    pack::uint(out, key::INSTANCE);
    pack::uint(out, node.instance.0);
    pack::uint(out, key::ROLE);
    pack::uint(out, u64::from(node.role == Role::Client));
    pack::uint(out, key::ADDRESSES);
    pack::array(out, node.addresses.len());
    node.addresses.iter().for_each(|address| pack::str(out, address));
    pack::uint(out, key::LABELS);
    pack::map(out, node.labels.len());
    for (label, value) in &node.labels {
        pack::str(out, label);
        pack::str(out, value);
    }
    pack::uint(out, key::NODE_TYPE);
    pack::str(out, &node.node_type);
    pack::uint(out, key::MACHINE);
    pack::str(out, &node.machine);
    pack::uint(out, key::PID);
    pack::uint(out, node.pid.into());
    pack::uint(out, key::SERVICES);
    pack::array(out, node.services.len());
    node.services.iter().for_each(|service| pack::str(out, service));
}

fn decode_node_key(node: &mut NodeRecord, key: u64, value: &mut Scanner<'_>) -> Result<(), ScanError> {
    match key {
        key::NAME => value.str()?.clone_into(&mut node.name),
        key::INSTANCE => node.instance = InstanceId(value.uint()?),
        key::ROLE => node.role = if value.uint()? == 0 { Role::Member } else { Role::Client },
        key::ADDRESSES => {
            node.addresses = read_strings(value)?;
            node.addresses.truncate(MAX_ADDRESSES);
        }
        key::LABELS => {
            for _ in 0..value.map()? {
                let label = value.str()?.to_owned();
                node.labels.insert(label, value.str()?.to_owned());
            }
        }
        key::NODE_TYPE => value.str()?.clone_into(&mut node.node_type),
        key::MACHINE => value.str()?.clone_into(&mut node.machine),
        key::PID => node.pid = u32::try_from(value.uint()?).unwrap_or(0),
        key::SERVICES => node.services = read_strings(value)?,
        _ => {}
    }
    Ok(())
}

fn read_strings(value: &mut Scanner<'_>) -> Result<Vec<String>, ScanError> {
    (0..value.array()?).map(|_| value.str().map(str::to_owned)).collect()
}

/// Calls `entry` with each integer key of a map and a scanner on its value. Other keys are skipped.
fn read_map<'a>(
    bytes: &'a [u8],
    mut entry: impl FnMut(u64, &mut Scanner<'a>) -> Result<(), ScanError>,
) -> Result<(), ScanError> {
    let mut whole = Scanner::new(bytes);
    whole.value()?;
    whole.finish()?;
    let mut scanner = Scanner::new(bytes);
    for _ in 0..scanner.map()? {
        let key = Scanner::new(scanner.value()?).uint();
        let value = scanner.value()?;
        if let Ok(key) = key {
            entry(key, &mut Scanner::new(value))?;
        }
    }
    Ok(())
}

/// Writes the payload of a peers frame: an array of the first records that fit one. Gives back how many these are; at
/// least one, if there are any that are smaller than a frame, so that the rest can go into further frames.
///
/// A record that is larger than a frame is counted, and left out.
pub fn encode_records<'a>(records: impl IntoIterator<Item = &'a NodeRecord>, out: &mut BytesMut) -> usize {
    // The header of the array has three bytes at most.
    let room = MAX_PAYLOAD - 3;
    let mut encoded = BytesMut::new();
    let (mut n_done, mut n_encoded) = (0, 0);
    for record in records {
        let start = encoded.len();
        pack::map(&mut encoded, NODE_KEYS);
        encode_node(record, &mut encoded);
        if encoded.len() > room {
            let would_never_fit = encoded.len() - start > room;
            encoded.truncate(start);
            if !would_never_fit {
                break;
            }
        } else {
            n_encoded += 1;
        }
        n_done += 1;
        if n_encoded == MAX_RECORDS {
            break;
        }
    }
    pack::array(out, n_encoded);
    out.extend_from_slice(&encoded);
    n_done
}

/// Reads the payload of a peers frame. Records beyond [`MAX_RECORDS`], and those without an instance, are skipped.
///
/// # Errors
/// If the payload is no array of maps.
pub fn decode_records(payload: &[u8]) -> Result<Vec<NodeRecord>, ScanError> {
    let mut whole = Scanner::new(payload);
    whole.value()?;
    whole.finish()?;
    let mut scanner = Scanner::new(payload);
    let n_records = scanner.array()?.min(MAX_RECORDS);
    let mut records = Vec::new();
    for _ in 0..n_records {
        let mut node = NodeRecord::new(InstanceId(0), "");
        read_map(scanner.value()?, |key, value| decode_node_key(&mut node, key, value))?;
        if node.instance != InstanceId(0) {
            records.push(node);
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        let mut node = NodeRecord::new(InstanceId(0xfeed), "a");
        node.addresses = vec!["tcp://127.0.0.1:5000".to_owned()];
        node.labels.insert("zone".to_owned(), "north".to_owned());
        node.services = vec!["Calculator".to_owned()];
        node.pid = 7;
        Hello::new("c", node, PeerLimits::default())
    }

    #[test]
    fn hello_survives_the_wire_and_every_truncation_is_refused() {
        let mut bytes = BytesMut::new();
        hello().encode(&mut bytes);
        assert_eq!(Hello::decode(&bytes).unwrap(), hello());
        for end in 0..bytes.len() {
            assert!(Hello::decode(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn unknown_keys_are_skipped_and_missing_ones_have_defaults() {
        // {0: [1, 3], 5: 7, 99: {"x": []}, "name": 1}
        let bytes = [0x84, 0, 0x92, 1, 3, 5, 7, 99, 0x81, 0xa1, b'x', 0x90, 0xa4, b'n', b'a', b'm', b'e', 1];
        let hello = Hello::decode(&bytes).unwrap();
        assert_eq!(hello.versions, (1, 3));
        assert_eq!(hello.limits, PeerLimits::default());
        assert!(Hello::decode(&[0x80]).is_err());
    }

    #[test]
    fn hello_without_an_instance_or_with_limits_that_block_is_refused() {
        let refused = |change: fn(&mut Hello)| {
            let mut hello = hello();
            change(&mut hello);
            let mut bytes = BytesMut::new();
            hello.encode(&mut bytes);
            Hello::decode(&bytes).unwrap_err().to_string()
        };
        assert_eq!(refused(|hello| hello.node.instance = InstanceId(0)), "expected an instance id");
        assert_eq!(refused(|hello| hello.limits.message = 1023), "expected a message limit of at least 1 KiB");
        assert_eq!(refused(|hello| hello.limits.window = 8191), "expected a window of at least 8 KiB");
    }

    #[test]
    fn records_that_do_not_fit_one_frame_are_left_for_the_next() {
        let record = |instance, len| NodeRecord::new(InstanceId(instance), "n".repeat(len));
        let frames = |records: &[NodeRecord]| {
            let mut counts = Vec::new();
            let mut rest = records;
            while !rest.is_empty() {
                let mut bytes = BytesMut::new();
                let n = encode_records(rest, &mut bytes);
                assert!(bytes.len() <= MAX_PAYLOAD && n > 0);
                counts.push((n, decode_records(&bytes).unwrap().len()));
                rest = &rest[n..];
            }
            counts
        };
        assert_eq!(frames(&vec![record(1, 1); 130]), [(64, 64), (64, 64), (2, 2)]);
        assert_eq!(frames(&vec![record(1, 30_000); 3]), [(2, 2), (1, 1)]);
        assert_eq!(frames(&[record(1, 1), record(1, 70_000), record(1, 1)]), [(3, 2)]);
        assert_eq!(decode_records(&[0x91, 0x80]).unwrap(), []);
    }

    #[test]
    fn records_survive_the_wire() {
        let records = [hello().node, NodeRecord::new(InstanceId(1), "b")];
        let mut bytes = BytesMut::new();
        encode_records(records.iter(), &mut bytes);
        assert_eq!(decode_records(&bytes).unwrap(), records);
    }
}
