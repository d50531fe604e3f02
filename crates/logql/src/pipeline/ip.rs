//! Addresses in lines: `ip("10.0.0.0/8")`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Characters of an IPv4 address.
fn is_ipv4_byte(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'.'
}

/// Characters of an IPv6 address.
fn is_ipv6_byte(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || byte == b':' || byte == b'.'
}

/// A pattern that is no address, network or range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ip: invalid pattern: {0:?}")]
pub struct IpPatternError(String);

/// One address, a network (`192.168.0.0/16`) or a range (`192.168.0.1-192.168.0.9`), of IPv4 or IPv6.
///
/// Source: the LogQL manual, "Matching IP addresses".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpMatcher {
    pattern: String,
    first: IpAddr,
    last: IpAddr,
}

impl IpMatcher {
    /// Reads a pattern.
    ///
    /// # Errors
    /// `pattern` is none of the three, mixes the two kinds of address, or its range ends before it
    /// begins.
    pub fn new(pattern: &str) -> Result<Self, IpPatternError> {
        let (first, last) = bounds(pattern).ok_or_else(|| IpPatternError(pattern.to_owned()))?;
        Ok(IpMatcher { pattern: pattern.to_owned(), first, last })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.first, self.last, address) {
            (IpAddr::V4(first), IpAddr::V4(last), IpAddr::V4(address)) => {
                first <= address && address <= last
            }
            (IpAddr::V6(first), IpAddr::V6(last), IpAddr::V6(address)) => {
                first <= address && address <= last
            }
            _ => false,
        }
    }

    /// Whether some address in `text` is one of the pattern's.
    ///
    /// An address is looked for where a digit is followed by a dot within three characters, or up to
    /// four hexadecimal digits by a colon; it reaches as far as characters of addresses do. What does
    /// not parse then is skipped as a whole, together with the character behind it.
    pub fn is_match(&self, text: &[u8]) -> bool {
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let is_part: fn(u8) -> bool = if starts_ipv4(rest) {
                is_ipv4_byte
            } else if starts_ipv6(rest) {
                is_ipv6_byte
            } else {
                at += 1;
                continue;
            };
            let len = rest.iter().position(|byte| !is_part(*byte)).unwrap_or(rest.len());
            let address = std::str::from_utf8(&rest[..len]).ok().and_then(|text| text.parse().ok());
            if address.is_some_and(|address| self.contains(address)) {
                return true;
            }
            at += len + 1;
        }
        false
    }
}

fn starts_ipv4(text: &[u8]) -> bool {
    text.len() > 3 && text[0].is_ascii_digit() && text[1..4].contains(&b'.')
}

fn starts_ipv6(text: &[u8]) -> bool {
    if text.starts_with(b"::") {
        return text.get(2).is_some_and(u8::is_ascii_hexdigit);
    }
    let digits = text.iter().take(5).take_while(|byte| byte.is_ascii_hexdigit()).count();
    (1..=4).contains(&digits) && text.get(digits) == Some(&b':')
}

fn bounds(pattern: &str) -> Option<(IpAddr, IpAddr)> {
    if let Ok(address) = IpAddr::from_str(pattern) {
        return Some((address, address));
    }
    if let Some((address, bits)) = pattern.split_once('/') {
        if bits.is_empty() || bits.len() > 3 || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // As Go has it: `/08` is no number of bits.
        if bits.len() > 1 && bits.starts_with('0') {
            return None;
        }
        return network(address.parse().ok()?, bits.parse().ok()?);
    }
    let (first, last) = pattern.split_once('-')?;
    let (first, last) = (first.parse::<IpAddr>().ok()?, last.parse::<IpAddr>().ok()?);
    (first.is_ipv4() == last.is_ipv4() && first <= last).then_some((first, last))
}

fn network(address: IpAddr, bits: u32) -> Option<(IpAddr, IpAddr)> {
    match address {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(bits).unwrap_or(0);
            let first = u32::from(address) & !host;
            (bits <= 32)
                .then(|| (Ipv4Addr::from(first).into(), Ipv4Addr::from(first | host).into()))
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(bits).unwrap_or(0);
            let first = u128::from(address) & !host;
            (bits <= 128)
                .then(|| (Ipv6Addr::from(first).into(), Ipv6Addr::from(first | host).into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, text: &str) -> bool {
        IpMatcher::new(pattern).expect("a valid pattern").is_match(text.as_bytes())
    }

    #[test]
    fn addresses_networks_and_ranges_are_found() {
        assert!(found("192.168.0.1", "vpn 192.168.0.1 connected"));
        assert!(!found("192.168.0.1", "vpn 192.168.0.12 connected"));
        assert!(found("192.168.4.5/16", "x 192.168.255.255"));
        assert!(!found("192.168.4.5/16", "x 192.169.0.0"));
        assert!(found("10.0.0.1-10.0.0.9", "[10.0.0.9]:80"));
        assert!(found("::1", "to ::1 or so") && found("::1", "to ::1") && found("a::", "a::"));
        assert!(found("2001:db8::/32", "a 2001:dc8::1 b 2001:db8::2"));
        assert!(!found("2001:db8::/32", "a 10.0.0.1"));
        assert!(found("0.0.0.0/0", "1.2.3.4") && found("::/0", "fe80::1"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in [
            "",
            "1.2.3",
            "192.168.0.2-1.0.0.0",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.1-::1",
            "1.2.3.4/08",
        ] {
            assert!(IpMatcher::new(pattern).is_err(), "{pattern:?}");
        }
    }
}
