//! Which addresses a client may connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Decides about one resolved address; the error says why not. Asked before every connection, with
/// the very address that is connected to, so that no second lookup can answer differently.
pub type AddressCheck = Arc<dyn Fn(IpAddr) -> Result<(), String> + Send + Sync>;

/// The metadata services of the clouds: they hand out credentials of the machine to whoever asks
/// from it. AWS, GCP, Azure, DigitalOcean, OpenStack; AWS container credentials; Alibaba Cloud.
const METADATA_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
];

/// AWS' two services over IPv6, and GCP's.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// The rule for what the operator's own configuration names: every address except the metadata
/// services of the clouds.
///
/// Loopback, private and link-local addresses are what scraping is for (a node-local DNS cache
/// listens on 169.254.20.10), but targets also come from discovery, that is from other people's
/// answers, and an error message may quote what a target said.
///
/// # Errors
/// Why the address is refused.
pub fn operator_addresses(address: IpAddr) -> Result<(), String> {
    let refused = match address.to_canonical() {
        IpAddr::V4(v4) => METADATA_V4.contains(&v4),
        IpAddr::V6(v6) => METADATA_V6.contains(&v6) || embedded(v6).is_some_and(is_metadata_v4),
    };
    if refused {
        return Err(format!(
            "{address} is a cloud's metadata service, which hands out credentials of this machine"
        ));
    }
    Ok(())
}

fn is_metadata_v4(address: Ipv4Addr) -> bool {
    METADATA_V4.contains(&address)
}

/// The IPv4 address that a translator would connect to: RFC 6052's `64:ff9b::/96`, RFC 3056's
/// `2002::/16`, and the long obsolete `::a.b.c.d`.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] => {
            Some(v4(high, low))
        }
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_services_are_refused_in_every_disguise() {
        for text in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::169.254.169.254",
            "100.100.100.200",
            "fd00:ec2::254",
            "169.254.170.2",
        ] {
            let address: IpAddr = text.parse().expect("an address");
            assert!(operator_addresses(address).is_err(), "{text}");
        }
    }

    #[test]
    fn the_operators_networks_are_allowed() {
        for text in ["127.0.0.1", "::1", "10.0.0.1", "169.254.20.10", "fe80::1", "fd00::1"] {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(operator_addresses(address), Ok(()), "{text}");
        }
    }
}
