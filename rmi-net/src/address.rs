//! Where a node listens, as a URL: `tcp://host:port`, `unix:///path`, `mem://name`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

/// The port of a TCP address that names none. When it is taken, a node listens on the next free one.
pub const DEFAULT_PORT: u16 = 5000;

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Address {
    /// `tcp://host:port`. Without a port it is [`DEFAULT_PORT`] or, to listen on, the next free one; port 0 is the
    /// system's choice.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// `None` if it was not written.
        port: Option<u16>,
    },
    /// `unix:///path`: a socket in the file system, for its owner only.
    Unix(PathBuf),
    /// `mem://name`: within this process, without sockets. For tests.
    Mem(String),
}

/// A text that is no address. It says what to write.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no address: {reason}; write {}", SHAPES)]
pub struct AddressError {
    text: String,
    reason: &'static str,
}

const SHAPES: &str = "`tcp://host:port`, `unix:///path` or `mem://name`";

impl Address {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Tcp { host, .. } => match host.parse::<IpAddr>() {
                Ok(ip) => ip.is_loopback(),
                Err(_) => host == "localhost",
            },
            Address::Unix(_) | Address::Mem(_) => true,
        }
    }

    /// Whether it means "all interfaces", which nobody can dial.
    pub fn is_unspecified(&self) -> bool {
        match self {
            Address::Tcp { host, .. } => host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()),
            _ => false,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let fail = |reason| AddressError { text: text.to_owned(), reason };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| fail("it has no scheme"))?;
        match scheme {
            "tcp" => parse_tcp(rest).map_err(fail),
            "unix" if rest.starts_with('/') && rest.len() > 1 => Ok(Address::Unix(rest.into())),
            "unix" => Err(fail("the path of a Unix socket begins with `/`")),
            "mem" if rest.is_empty() => Err(fail("it has no name")),
            "mem" => Ok(Address::Mem(rest.to_owned())),
            _ => Err(fail("its scheme is not known")),
        }
    }
}

fn parse_tcp(rest: &str) -> Result<Address, &'static str> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed.split_once(']').ok_or("`]` is missing")?;
            host.parse::<Ipv6Addr>().map_err(|_| "what stands in brackets is no IPv6 address")?;
            match port {
                "" => (host, None),
                port => (host, Some(port.strip_prefix(':').ok_or("a port follows `:`")?)),
            }
        }
        None => match rest.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("an IPv6 address stands in brackets"),
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(is_host) {
        return Err("the host is missing or has strange characters");
    }
    let port = port.map(|port| port.parse().map_err(|_| "a port is a number up to 65535")).transpose()?;
    Ok(Address::Tcp { host: host.to_owned(), port })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } => {
                if host.contains(':') { write!(f, "tcp://[{host}]") } else { write!(f, "tcp://{host}") }?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Mem(name) => write!(f, "mem://{name}"),
        }
    }
}

/// What can be given as an address: a URL as text, or an [`Address`].
pub trait IntoAddress {
    /// The address.
    ///
    /// # Errors
    /// If the text is no address.
    fn into_address(self) -> Result<Address, AddressError>;
}

impl IntoAddress for Address {
    fn into_address(self) -> Result<Address, AddressError> {
        Ok(self)
    }
}

impl IntoAddress for &Address {
    fn into_address(self) -> Result<Address, AddressError> {
        Ok(self.clone())
    }
}

impl IntoAddress for &str {
    fn into_address(self) -> Result<Address, AddressError> {
        self.parse()
    }
}

impl IntoAddress for String {
    fn into_address(self) -> Result<Address, AddressError> {
        self.parse()
    }
}

impl IntoAddress for &String {
    fn into_address(self) -> Result<Address, AddressError> {
        self.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_their_text() {
        for text in ["tcp://127.0.0.1:5000", "tcp://[::1]:0", "tcp://node-1.example", "unix:///run/rmi.sock", "mem://a"]
        {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_bad_address_says_what_to_write() {
        for text in ["", "127.0.0.1:5000", "http://a", "tcp://", "tcp://a:b", "tcp://::1:5000", "unix://x", "mem://"] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.ends_with("write `tcp://host:port`, `unix:///path` or `mem://name`"), "{error}");
        }
    }

    #[test]
    fn only_loopback_is_local() {
        for (text, is_local) in [
            ("tcp://127.0.0.1:1", true),
            ("tcp://127.9.9.9:1", true),
            ("tcp://[::1]:1", true),
            ("tcp://localhost:1", true),
            ("tcp://0.0.0.0:1", false),
            ("tcp://10.0.0.1:1", false),
            ("tcp://localhost.example:1", false),
            ("unix:///a", true),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().is_local(), is_local, "{text}");
        }
    }
}
