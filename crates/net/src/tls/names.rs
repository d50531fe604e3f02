//! The names and addresses under which this host is reached.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::BROKER_NAME;

/// More are left out of a certificate: a host with thousands of addresses is a router.
const MAX_ADDRESSES: usize = 128;

/// What a server's certificate is made for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CertificateNames {
    pub(crate) hosts: BTreeSet<String>,
    pub(crate) addresses: BTreeSet<IpAddr>,
}

impl CertificateNames {
    /// `configured` names and addresses, `localhost`, [`BROKER_NAME`], this host's name and every
    /// address it has now.
    pub(crate) fn of_this_host(configured: &[String]) -> Self {
        let mut names = CertificateNames::default();
        for name in configured {
            names.add(name);
        }
        names.add("localhost");
        names.add(BROKER_NAME);
        names.add(&rustix::system::uname().nodename().to_string_lossy());
        names.addresses.insert(IpAddr::V4(Ipv4Addr::LOCALHOST));
        names.addresses.insert(IpAddr::V6(Ipv6Addr::LOCALHOST));
        let trie = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
        let v6 = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let found = local_v4(&trie).into_iter().map(IpAddr::V4);
        let found = found.chain(local_v6(&v6).into_iter().map(IpAddr::V6));
        names.addresses.extend(found.take(MAX_ADDRESSES));
        names
    }

    /// Takes a name, an address, or an address with a port; leaves out what is neither.
    fn add(&mut self, text: &str) {
        let bare = text.trim().trim_start_matches('[').trim_end_matches(']');
        let address = bare.parse::<IpAddr>().ok();
        let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|with| with.ip()));
        if let Some(address) = address {
            if !address.is_unspecified() {
                self.addresses.insert(address);
            }
        } else if is_host_name(bare) {
            self.hosts.insert(bare.to_ascii_lowercase());
        } else if !bare.is_empty() {
            tracing::warn!(name = bare, "not a host name; the certificate will not bear it");
        }
    }

    /// Whether a certificate for `self` serves everyone for whom one for `wanted` would.
    pub(crate) fn covers(&self, wanted: &CertificateNames) -> bool {
        self.hosts.is_superset(&wanted.hosts) && self.addresses.is_superset(&wanted.addresses)
    }
}

/// Letters, digits, hyphens and dots, with `*` as the whole first label (RFC 6125, section 6.4.3).
fn is_host_name(name: &str) -> bool {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    !rest.is_empty()
        && name.len() <= 253
        && rest.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
                && !label.starts_with('-')
        })
}

/// Addresses of this host in the kernel's routing table: a leaf line with the address, and below
/// it one that says `/32 host LOCAL`. Source: `net/ipv4/fib_trie.c`.
fn local_v4(trie: &str) -> BTreeSet<Ipv4Addr> {
    let mut found = BTreeSet::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in trie.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(leaf);
        }
    }
    found
}

/// The first column is the address in 32 digits. Link-local ones are left out: they mean nothing
/// without an interface.
fn local_v6(table: &str) -> BTreeSet<Ipv6Addr> {
    let digits = table.lines().filter_map(|line| line.split_whitespace().next());
    digits
        .filter(|digits| digits.len() == 32)
        .filter_map(|digits| u128::from_str_radix(digits, 16).ok())
        .map(Ipv6Addr::from_bits)
        .filter(|address| !address.is_unicast_link_local())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_tables() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
                    \x20    +-- 10.1.2.0/24 2 0 2\n        |-- 10.1.2.3\n           /32 host LOCAL\n\
                    \x20       |-- 10.1.2.255\n           /32 link BROADCAST\n";
        assert_eq!(local_v4(trie), BTreeSet::from([Ipv4Addr::new(10, 1, 2, 3)]));
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fe800000000000000000000000000001 02 40 20 80     eth0\n\
                     20010db8000000000000000000000007 02 40 00 80     eth0\nrubbish\n";
        let expected: BTreeSet<Ipv6Addr> =
            ["::1", "2001:db8::7"].iter().map(|text| text.parse().expect("valid")).collect();
        assert_eq!(local_v6(table), expected);
    }

    #[test]
    fn takes_names_and_addresses_and_leaves_out_the_rest() {
        let configured = ["Mon.Example", "10.0.0.9", "[::7]", "10.0.0.8:9595", "a b", "0.0.0.0"];
        let names = CertificateNames::of_this_host(&configured.map(str::to_owned));
        for host in ["mon.example", "localhost", BROKER_NAME] {
            assert!(names.hosts.contains(host), "{host}");
        }
        assert!(!names.hosts.iter().any(|host| host.contains(' ')));
        for address in ["10.0.0.9", "::7", "10.0.0.8", "127.0.0.1", "::1"] {
            assert!(names.addresses.contains(&address.parse().expect("valid")), "{address}");
        }
        assert!(!names.addresses.contains(&IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        assert!(names.covers(&CertificateNames::of_this_host(&[])));
        assert!(!CertificateNames::default().covers(&names));
    }
}
