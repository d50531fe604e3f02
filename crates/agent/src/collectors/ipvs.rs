//! Virtual servers of the kernel. Source: Linux `net/netfilter/ipvs/ip_vs_ctl.c`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::collector_settings::BackendLabel;
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::parse_hex;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

/// The columns of `net/ip_vs_stats`.
const TOTALS: [Family; 5] = [
    Family::counter("node_ipvs_connections_total", "The total number of connections made."),
    Family::counter("node_ipvs_incoming_packets_total", "The total number of incoming packets."),
    Family::counter("node_ipvs_outgoing_packets_total", "The total number of outgoing packets."),
    Family::counter("node_ipvs_incoming_bytes_total", "The total amount of incoming data."),
    Family::counter("node_ipvs_outgoing_bytes_total", "The total amount of outgoing data."),
];

/// Of a backend: weight, active connections, inactive ones.
const BACKEND: [Family; 3] = [
    Family::gauge(
        "node_ipvs_backend_weight",
        "The current backend weight by local and remote address.",
    ),
    Family::gauge(
        "node_ipvs_backend_connections_active",
        "The current active connections by local and remote address.",
    ),
    Family::gauge(
        "node_ipvs_backend_connections_inactive",
        "The current inactive connections by local and remote address.",
    ),
];

const ALL_LABELS: [BackendLabel; 6] = [
    BackendLabel::LocalAddress,
    BackendLabel::LocalPort,
    BackendLabel::RemoteAddress,
    BackendLabel::RemotePort,
    BackendLabel::Proto,
    BackendLabel::LocalMark,
];

/// `node_ipvs_*`.
pub(crate) struct Ipvs {
    stats: PathBuf,
    backends: PathBuf,
    labels: Vec<BackendLabel>,
}

impl Ipvs {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let labels = config.collectors.ipvs.backend_labels.clone();
        Ipvs {
            stats: config.proc_root.join("net/ip_vs_stats"),
            backends: config.proc_root.join("net/ip_vs"),
            labels: labels.unwrap_or_else(|| ALL_LABELS.to_vec()),
        }
    }
}

impl Survey for Ipvs {
    fn name(&self) -> &'static str {
        "ipvs"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let text = sysfs::read_text(&self.stats)?;
        // Two lines of headings, then the totals in hexadecimal.
        let totals = text.lines().nth(2).unwrap_or_default().split_ascii_whitespace();
        for (family, count) in TOTALS.iter().zip(totals) {
            if let Some(count) = parse_hex(count.as_bytes()) {
                out.put(family, &[], count as f64);
            }
        }
        let text = sysfs::read_text(&self.backends)?;
        // Backends that agree in all labels that are shown are one series.
        let mut sums: BTreeMap<Vec<(&'static str, String)>, [f64; 3]> = BTreeMap::new();
        for backend in parse_backends(&text) {
            let labels = self.labels.iter().map(|&label| backend.label(label)).collect();
            let sum = sums.entry(labels).or_default();
            for (sum, count) in sum.iter_mut().zip(backend.counts) {
                *sum += count as f64;
            }
        }
        for (labels, sums) in &sums {
            let labels: Vec<(&str, &str)> =
                labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
            for (family, sum) in BACKEND.iter().zip(sums) {
                out.put(family, &labels, *sum);
            }
        }
        Ok(())
    }
}

/// A virtual server: by protocol, address and port, or by firewall mark.
#[derive(Debug, Default, Clone)]
struct Server {
    proto: String,
    address: String,
    port: String,
    mark: String,
}

#[derive(Debug)]
struct Backend {
    server: Server,
    address: String,
    port: String,
    /// Weight, active connections, inactive ones.
    counts: [u64; 3],
}

impl Backend {
    fn label(&self, label: BackendLabel) -> (&'static str, String) {
        let (name, value) = match label {
            BackendLabel::LocalAddress => ("local_address", &self.server.address),
            BackendLabel::LocalPort => ("local_port", &self.server.port),
            BackendLabel::RemoteAddress => ("remote_address", &self.address),
            BackendLabel::RemotePort => ("remote_port", &self.port),
            BackendLabel::Proto => ("proto", &self.server.proto),
            BackendLabel::LocalMark => ("local_mark", &self.server.mark),
        };
        (name, value.clone())
    }
}

/// Lines such as `TCP C0A80016:0CEA wlc` name a server, lines such as
/// `-> C0A85216:0CEA Tunnel 100 248 2` its backends.
fn parse_backends(text: &str) -> Vec<Backend> {
    let mut server = Server::default();
    let mut backends = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        match fields[..] {
            [proto @ ("TCP" | "UDP" | "SCTP"), local, ..] => {
                let Some((address, port)) = parse_address(local) else { continue };
                server = Server { proto: proto.to_owned(), address, port, mark: String::new() };
            }
            ["FWM", mark, ..] => {
                server = Server {
                    proto: "FWM".to_owned(),
                    address: String::new(),
                    port: "0".to_owned(),
                    mark: mark.to_owned(),
                };
            }
            ["->", remote, _, weight, active, inactive, ..] => {
                let Some((address, port)) = parse_address(remote) else { continue };
                let [Ok(weight), Ok(active), Ok(inactive)] =
                    [weight, active, inactive].map(str::parse)
                else {
                    continue;
                };
                let counts = [weight, active, inactive];
                backends.push(Backend { server: server.clone(), address, port, counts });
            }
            _ => {}
        }
    }
    backends
}

/// `C0A80016:0CEA`, or an address of IPv6 in brackets and a port in hexadecimal.
fn parse_address(text: &str) -> Option<(String, String)> {
    let (address, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().ok()?.to_string(),
        None if address.len() == 8 => {
            Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?).to_string()
        }
        None => return None,
    };
    Some((address, port.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parse = |text| parse_address(text).map(|(a, p)| format!("{a} {p}"));
        assert_eq!(parse("C0A80016:0CEA").as_deref(), Some("192.168.0.22 3306"));
        let long = "[2620:0000:0000:0000:0000:0000:0000:0001]:0050";
        assert_eq!(parse(long).as_deref(), Some("2620::1 80"));
        assert_eq!(parse("RemoteAddress:Port"), None);
        assert_eq!(parse("C0A8:1"), None);
    }
}
