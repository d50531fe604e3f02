//! Routes of packets. Source: `rtnetlink(7)`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::netlink::{Netlink, attribute, u16_at, u32_at};
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;

const INFO: Family = Family::gauge("node_network_route_info", "network routing table information");
const ROUTES: Family = Family::gauge("node_network_routes", "network routes by interface");

/// A router of the internet has a million routes, which nobody wants as series; all are counted,
/// so many are shown.
const MAX_SHOWN: usize = 10_000;

const RTM_GETROUTE: u16 = 26;
/// Bytes of `struct rtmsg`, which precedes the attributes.
const HEADER_BYTES: usize = 12;
const DESTINATION_BITS_AT: usize = 1;
const PROTOCOL_AT: usize = 5;
const KIND_AT: usize = 7;
/// An ordinary route to a host or a network.
const RTN_UNICAST: u8 = 1;
/// Bytes of `struct rtnexthop`.
const HOP_BYTES: usize = 8;

// Attributes, from `linux/rtnetlink.h`.
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
/// The address a packet gets that has none yet.
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;

/// `node_network_route_info` and `node_network_routes`.
pub(crate) struct NetworkRoute;

impl NetworkRoute {
    pub(crate) fn new(_: &AgentConfig) -> Self {
        NetworkRoute
    }
}

impl Survey for NetworkRoute {
    fn name(&self) -> &'static str {
        "network_route"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let mut netlink = Netlink::route()?;
        let mut routes = Vec::new();
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        netlink.dump(RTM_GETROUTE, &[0; HEADER_BYTES], |message| {
            for route in parse(message).unwrap_or_default() {
                *counts.entry(route.device).or_default() += 1;
                if routes.len() < MAX_SHOWN {
                    routes.push(route);
                }
            }
        })?;
        let names: BTreeMap<u32, String> =
            counts.keys().filter_map(|&index| Some((index, netlink.device_name(index)?))).collect();
        for route in &routes {
            let Some(device) = names.get(&route.device) else { continue };
            let labels = [
                ("device", device.as_str()),
                ("src", &route.source),
                ("dest", &route.destination),
                ("gw", &route.gateway),
                ("priority", &route.priority),
                ("proto", route.protocol),
                ("weight", &route.weight),
            ];
            out.put(&INFO, &labels, 1.0);
        }
        for (index, count) in counts {
            if let Some(device) = names.get(&index) {
                out.put(&ROUTES, &[("device", device)], count as f64);
            }
        }
        Ok(())
    }
}

/// One way to a destination.
#[derive(Debug, Clone, PartialEq)]
struct Route {
    device: u32,
    source: String,
    destination: String,
    gateway: String,
    priority: String,
    protocol: &'static str,
    /// Nothing if there is only one way.
    weight: String,
}

/// The ways to one destination; none for local addresses, broadcasts and the like.
fn parse(message: &[u8]) -> Option<Vec<Route>> {
    if *message.get(KIND_AT)? != RTN_UNICAST {
        return Some(Vec::new());
    }
    let attributes = message.get(HEADER_BYTES..)?;
    let address_of = |kind: u16| attribute(attributes, kind).and_then(address);
    let bits = message.get(DESTINATION_BITS_AT)?;
    let destination = match address_of(RTA_DST) {
        Some(address) => format!("{address}/{bits}"),
        None => "default".to_owned(),
    };
    let number = |kind: u16| attribute(attributes, kind).and_then(|value| u32_at(value, 0));
    let route = Route {
        device: number(RTA_OIF).unwrap_or(0),
        source: address_of(RTA_PREFSRC).unwrap_or_default(),
        destination,
        gateway: address_of(RTA_GATEWAY).unwrap_or_default(),
        priority: number(RTA_PRIORITY).unwrap_or(0).to_string(),
        protocol: protocol(*message.get(PROTOCOL_AT)?),
        weight: String::new(),
    };
    let Some(mut hops) = attribute(attributes, RTA_MULTIPATH) else { return Some(vec![route]) };
    let mut routes = Vec::new();
    while let Some(length) = u16_at(hops, 0).map(usize::from).filter(|&n| n >= HOP_BYTES) {
        let (Some(hop), Some(device)) = (hops.get(..length), u32_at(hops, 4)) else { break };
        let gateway = attribute(&hop[HOP_BYTES..], RTA_GATEWAY).and_then(address);
        routes.push(Route {
            device,
            gateway: gateway.unwrap_or_default(),
            weight: (u16::from(hop[3]) + 1).to_string(),
            ..route.clone()
        });
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(routes)
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).to_string())
}

/// Who made a route, from `linux/rtnetlink.h`.
fn protocol(number: u8) -> &'static str {
    match number {
        0 => "unspec",
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        8 => "gated",
        9 => "ra",
        10 => "mrt",
        11 => "zebra",
        12 => "bird",
        13 => "dnrouted",
        14 => "xorp",
        15 => "ntk",
        16 => "dhcp",
        17 => "mrouted",
        42 => "babel",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        189 => "rip",
        192 => "eigrp",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bits: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = vec![0; HEADER_BYTES];
        (message[DESTINATION_BITS_AT], message[PROTOCOL_AT], message[KIND_AT]) = (bits, 16, 1);
        for (kind, value) in attributes {
            message.extend(((value.len() + 4) as u16).to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(*value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        message
    }

    #[test]
    fn a_route_and_its_ways() {
        let two = 2_u32.to_ne_bytes();
        let routes = parse(&message(0, &[(RTA_OIF, &two), (RTA_GATEWAY, &[10, 0, 0, 1])]));
        let default = Route {
            device: 2,
            source: String::new(),
            destination: "default".to_owned(),
            gateway: "10.0.0.1".to_owned(),
            priority: "0".to_owned(),
            protocol: "dhcp",
            weight: String::new(),
        };
        assert_eq!(routes, Some(vec![default.clone()]));
        let hop = |index: u8, weight: u8| [8, 0, 0, weight, index, 0, 0, 0];
        let hops = [hop(2, 0), hop(3, 9)].concat();
        let routes = parse(&message(8, &[(RTA_DST, &[10, 0, 0, 0]), (RTA_MULTIPATH, &hops)]));
        let ways = routes.expect("complete").into_iter();
        let ways: Vec<_> = ways.map(|way| (way.device, way.weight, way.destination)).collect();
        let to = || "10.0.0.0/8".to_owned();
        assert_eq!(ways, [(2, "1".to_owned(), to()), (3, "10".to_owned(), to())]);
    }

    #[test]
    fn cut_messages_are_no_panic() {
        let whole = message(8, &[(RTA_DST, &[10, 0, 0, 0]), (RTA_MULTIPATH, &[9, 0, 0, 0, 1, 0])]);
        for length in 0..whole.len() {
            parse(&whole[..length]);
        }
    }
}
