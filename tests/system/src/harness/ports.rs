//! Ports to listen on that nobody else gets.
//!
//! A port that the kernel chose may be chosen by it again, for any outgoing connection, while a program is
//! stopped that is to listen there once more. Those below its range are taken only by whoever asks for them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};

use super::random::mix;

/// Below are ports of services that may be installed on the machine.
const LOWEST: u64 = 12_000;
/// Where Linux begins with ports of outgoing connections, unless it was told otherwise.
const DEFAULT_END: u64 = 32_768;

/// A loopback address that nobody uses, to be used again after each restart.
pub(crate) fn free_address() -> Result<SocketAddr> {
    static NEXT: OnceLock<AtomicU64> = OnceLock::new();
    // Two processes of tests at once begin at different places.
    let begin = || {
        AtomicU64::new(mix(u64::from(std::process::id()) ^ super::now_ms().cast_unsigned()) >> 1)
    };
    let (next, end) = (NEXT.get_or_init(begin), end());
    for _ in LOWEST..end {
        let port = LOWEST + next.fetch_add(1, Ordering::Relaxed) % (end - LOWEST);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port)?));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port from {LOWEST} to {end} is free")
}

/// Ports of such addresses, each another one.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>> {
    (0..count).map(|_| Ok(free_address()?.port())).collect()
}

/// Where the kernel's own range begins.
fn end() -> u64 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let begin = range.and_then(|range| range.split_whitespace().next()?.parse().ok());
    begin.filter(|begin| *begin > LOWEST + 1_000).unwrap_or(DEFAULT_END)
}
