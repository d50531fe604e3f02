//! Hosts with ports, as Go's `net` splits them, and addresses.

use std::net::IpAddr;

/// Host and port of `host:port` or `[host]:port`; `None` if it is neither.
fn split(text: &str) -> Option<(&str, &str)> {
    let colon = text.rfind(':')?;
    let (host, rest_from) = match text.strip_prefix('[') {
        Some(inside) => {
            let end = inside.find(']')?;
            if end + 2 != colon {
                return None;
            }
            (&inside[..end], end + 2)
        }
        None => {
            let host = &text[..colon];
            if host.contains(':') {
                return None;
            }
            (host, 0)
        }
    };
    let after_open = usize::from(text.starts_with('['));
    let stray = text[after_open..].contains('[') || text[rest_from..].contains(']');
    (!stray).then_some((host, &text[colon + 1..]))
}

/// `stripPort`: the host alone, where there is a port.
pub(super) fn strip_port(text: &str) -> &str {
    split(text).map_or(text, |(host, _)| host)
}

/// `stripDomain`: the first part of the host's name, with the port.
pub(super) fn strip_domain(text: &str) -> String {
    let (host, port) = split(text).unwrap_or((text, ""));
    if is_address(host) {
        return text.to_owned();
    }
    let name = host.split('.').next().unwrap_or_default();
    match port {
        "" => name.to_owned(),
        port if name.contains(':') => format!("[{name}]:{port}"),
        port => format!("{name}:{port}"),
    }
}

fn is_address(host: &str) -> bool {
    let (address, zone) = host.split_once('%').unwrap_or((host, "none"));
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => address.len() == host.len(),
        Ok(IpAddr::V6(_)) => !zone.is_empty(),
        Err(_) => false,
    }
}

/// The path of an address, decoded.
pub(super) fn path_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = &rest[rest.find('/').unwrap_or(rest.len())..];
    let path = &path[..path.find(['?', '#']).unwrap_or(path.len())];
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%')
            .then(|| path.get(at + 1..at + 3))
            .flatten()
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_ports_and_domains() {
        for (text, port, domain) in [
            ("foo.example.com", "foo.example.com", "foo"),
            ("foo.example.com:12345", "foo.example.com", "foo:12345"),
            ("192.0.2.1:12345", "192.0.2.1", "192.0.2.1:12345"),
            ("2001:0DB8::1", "2001:0DB8::1", "2001:0DB8::1"),
            ("[2001:0DB8::1]:12345", "2001:0DB8::1", "[2001:0DB8::1]:12345"),
            ("[2001:0DB8::1]::12345", "[2001:0DB8::1]::12345", "[2001:0DB8::1]::12345"),
            ("[fe80::1%eth0]:1", "fe80::1%eth0", "[fe80::1%eth0]:1"),
            ("[a", "[a", "[a"),
            ("", "", ""),
            ("a:", "a", "a"),
        ] {
            assert_eq!(strip_port(text), port, "{text}");
            assert_eq!(strip_domain(text), domain, "{text}");
        }
    }

    #[test]
    fn addresses_have_paths() {
        for (url, want) in [
            ("http://testhost:9090/path/prefix", "/path/prefix"),
            ("http://h", ""),
            ("http://h/a%20b?q#f", "/a b"),
            ("http://h/%zz", "/%zz"),
        ] {
            assert_eq!(path_of(url), want, "{url}");
        }
    }
}
