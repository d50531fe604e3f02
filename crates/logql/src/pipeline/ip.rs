//! Addresses in lines: `ip("10.0.0.0/8")`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use memchr::memchr;

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
    wanted: Wanted,
}

/// Addresses as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    V4(RangeInclusive<u32>),
    V6(RangeInclusive<u128>),
}

/// Bytes of the longest texts that are addresses: `255.255.255.255`, and six groups with an IPv4
/// address behind them.
const MAX_V4_BYTES: usize = 15;
const MAX_V6_BYTES: usize = 45;

impl IpMatcher {
    /// Reads a pattern.
    ///
    /// # Errors
    /// `pattern` is none of the three, mixes the two kinds of address, or its range ends before it
    /// begins.
    pub fn new(pattern: &str) -> Result<Self, IpPatternError> {
        match Wanted::read(pattern) {
            Some(wanted) => Ok(IpMatcher { pattern: pattern.to_owned(), wanted }),
            None => Err(IpPatternError(pattern.to_owned())),
        }
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// Whether some address in `text` is one of the pattern's.
    ///
    /// What may be an address is as many characters of one as stand together, around a dot for IPv4
    /// and around a colon for IPv6. Punctuation at its ends is none of it, so `10.0.0.1:80` and an
    /// address at the end of a sentence are found, and an IPv4 address that is written as an IPv6 one,
    /// too; five numbers with dots between them are no address.
    pub fn is_match(&self, text: &[u8]) -> bool {
        match &self.wanted {
            Wanted::V4(range) => {
                let is_part = |byte: u8| byte.is_ascii_digit() || byte == b'.';
                any_word(text, b'.', is_part, |word| {
                    let word = word.trim_matches('.');
                    let is_short = word.len() <= MAX_V4_BYTES;
                    is_short && Ipv4Addr::from_str(word).is_ok_and(|ip| range.contains(&ip.into()))
                })
            }
            Wanted::V6(range) => {
                let is_part = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
                any_word(text, b':', is_part, |word| {
                    let word = word.trim_matches('.');
                    // A colon before or behind an address, unless it is half of its `::`.
                    let behind = word.strip_prefix(':').unwrap_or(word);
                    let before = word.strip_suffix(':').unwrap_or(word);
                    let both = behind.strip_suffix(':').unwrap_or(behind);
                    let address = [word, behind, before, both].into_iter().find_map(|word| {
                        if word.len() > MAX_V6_BYTES { None } else { Ipv6Addr::from_str(word).ok() }
                    });
                    address.is_some_and(|ip| range.contains(&ip.into()))
                })
            }
        }
    }
}

/// Whether `accept` takes one of the words of `text`: the longest pieces of bytes that `is_part`
/// accepts, all of them ASCII, with a `mark` in them.
fn any_word(
    text: &[u8],
    mark: u8,
    is_part: impl Fn(u8) -> bool,
    accept: impl Fn(&str) -> bool,
) -> bool {
    let mut rest = text;
    while let Some(at) = memchr(mark, rest) {
        let (before, from) = rest.split_at(at);
        let head = before.iter().rev().take_while(|byte| is_part(**byte)).count();
        let tail = from.iter().take_while(|byte| is_part(**byte)).count();
        let word = &rest[at - head..at + tail];
        if std::str::from_utf8(word).is_ok_and(&accept) {
            return true;
        }
        rest = &from[tail..];
    }
    false
}

impl Wanted {
    fn read(pattern: &str) -> Option<Self> {
        let (first, last) = if let Some((address, bits)) = pattern.split_once('/') {
            return Self::network(address.parse().ok()?, bits);
        } else if let Some((first, last)) = pattern.split_once('-') {
            (first.parse().ok()?, last.parse().ok()?)
        } else {
            let address = pattern.parse().ok()?;
            (address, address)
        };
        let wanted = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => Wanted::V4(first.into()..=last.into()),
            (IpAddr::V6(first), IpAddr::V6(last)) => Wanted::V6(first.into()..=last.into()),
            _ => return None,
        };
        let is_empty = match &wanted {
            Wanted::V4(range) => range.is_empty(),
            Wanted::V6(range) => range.is_empty(),
        };
        (!is_empty).then_some(wanted)
    }

    /// The addresses that agree with `address` in its first bits.
    fn network(address: IpAddr, bits: &str) -> Option<Self> {
        // As Go has it, `/08` and `/+8` are no numbers of bits.
        if !bits.bytes().all(|byte| byte.is_ascii_digit()) || bits.starts_with('0') && bits != "0" {
            return None;
        }
        let bits: u32 = bits.parse().ok()?;
        match address {
            IpAddr::V4(address) if bits <= 32 => {
                let (address, host) = (u32::from(address), u32::MAX.checked_shr(bits).unwrap_or(0));
                Some(Wanted::V4(address & !host..=address | host))
            }
            IpAddr::V6(address) if bits <= 128 => {
                let (address, host) =
                    (u128::from(address), u128::MAX.checked_shr(bits).unwrap_or(0));
                Some(Wanted::V6(address & !host..=address | host))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn punctuation_around_an_address_is_none_of_it() {
        for text in ["1.2.3.4.", "...1.2.3.4", "a1.2.3.4:80", "::ffff:1.2.3.4", "x:1.2.3.4,5.6.7.8"]
        {
            assert!(found("1.2.3.4", text), "{text}");
        }
        for text in ["1.2.3.4.5", "11.2.3.4", "1.2.3.45", "01.2.3.4", "1..2.3.4", "1.2.3"] {
            assert!(!found("1.2.3.4", text), "{text}");
        }
        for text in
            ["fe80::1:", "fe80::1.", "addr:fe80::1:", "[fe80::1]:80", "fe80::1%eth0", "FE80::1"]
        {
            assert!(found("fe80::1", text), "{text}");
        }
        assert!(found("fe80::", "net fe80::") && !found("fe80::1", "fe80::12 12:30:01"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in [
            "",
            "1.2.3",
            "192.168.0.2-1.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::/129",
            "10.0.0.1-::1",
            "1.2.3.4/08",
            "1.2.3.4-1.2.3.5-1.2.3.6",
        ] {
            assert!(IpMatcher::new(pattern).is_err(), "{pattern:?}");
        }
    }

    proptest! {
        #[test]
        fn an_address_among_other_words_is_found(
            v4 in any::<u32>(),
            v6 in any::<u128>(),
            before in "([g-z]{1,5} |[,;(] ?){0,3}",
            after in "( [g-z]{1,5}|[,;)] ?){0,3}",
        ) {
            for address in [IpAddr::from(Ipv4Addr::from(v4)), IpAddr::from(Ipv6Addr::from(v6))] {
                let shown = address.to_string();
                let line = format!("{before}{shown}{after}");
                prop_assert!(found(&shown, &line), "{line}");
            }
        }
    }
}
