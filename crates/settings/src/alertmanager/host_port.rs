//! Addresses of the form `host:port`.

use std::fmt;

/// A host and a port, as Go's `net.SplitHostPort` takes them apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address; may be empty. An IPv6 address stands without its brackets.
    pub host: String,
    /// Number or name of the port; never empty.
    pub port: String,
}

impl HostPort {
    /// Takes an address apart.
    ///
    /// # Errors
    /// What is missing or too much, in Go's words.
    pub fn parse(text: &str) -> Result<HostPort, String> {
        let fault = |what: &str| Err(format!("address {text}: {what}"));
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let Some((host, rest)) = rest.split_once(']') else {
                return fault("missing ']' in address");
            };
            match rest.strip_prefix(':') {
                Some(port) if !port.contains(':') => (host, port),
                Some(_) => return fault("too many colons in address"),
                None => return fault("missing port in address"),
            }
        } else {
            match text.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => {
                    return fault("too many colons in address");
                }
                Some((host, port)) => (host, port),
                None => return fault("missing port in address"),
            }
        };
        if host.contains(['[', ']']) || port.contains(['[', ']']) {
            return fault("unexpected '[' or ']' in address");
        }
        if port.is_empty() {
            return Err(format!("address {text:?}: port cannot be empty"));
        }
        Ok(HostPort { host: host.to_owned(), port: port.to_owned() })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostPort { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_apart_what_go_does() {
        for (text, host, port) in [
            ("localhost:25", "localhost", "25"),
            (":25", "", "25"),
            ("[fd12:3456:789a::1]:25", "fd12:3456:789a::1", "25"),
        ] {
            let parsed = HostPort::parse(text).expect(text);
            assert_eq!((parsed.host.as_str(), parsed.port.as_str()), (host, port));
            assert_eq!(parsed.to_string(), text);
        }
        for text in ["localhost", "localhost:", "a:b:25", "[::1]", "[::1", "[::1]:2:3", "a]:1", ""]
        {
            assert!(HostPort::parse(text).is_err(), "{text}");
        }
    }
}
