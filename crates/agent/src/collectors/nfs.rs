//! The NFS client. Source: `nfsstat(8)`, Linux `net/sunrpc/stats.c`.

use std::path::PathBuf;

use crate::collectors::nfs_procedures::{VERSION_2, VERSION_3, VERSION_4_CLIENT, numbers};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const PACKETS: Family = Family::counter(
    "node_nfs_packets_total",
    "Total NFSd network packets (sent+received) by protocol type.",
);
const CONNECTIONS: Family =
    Family::counter("node_nfs_connections_total", "Total number of NFSd TCP connections.");
const RPCS: [Family; 3] = [
    Family::counter("node_nfs_rpcs_total", "Total number of RPCs performed."),
    Family::counter("node_nfs_rpc_retransmissions_total", "Number of RPC transmissions performed."),
    Family::counter(
        "node_nfs_rpc_authentication_refreshes_total",
        "Number of RPC authentication refreshes performed.",
    ),
];
const REQUESTS: Family =
    Family::counter("node_nfs_requests_total", "Number of NFS procedures invoked.");

/// `node_nfs_*`.
pub(crate) struct Nfs {
    path: PathBuf,
}

impl Nfs {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Nfs { path: config.proc_root.join("net/rpc/nfs") }
    }
}

impl Survey for Nfs {
    fn name(&self) -> &'static str {
        "nfs"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let text = sysfs::read_text(&self.path)?;
        for line in text.lines() {
            let (key, counts) = numbers(line);
            match (key, &counts[..]) {
                ("net", [_, udp, tcp, connections, ..]) => {
                    out.put(&PACKETS, &[("protocol", "udp")], *udp);
                    out.put(&PACKETS, &[("protocol", "tcp")], *tcp);
                    out.put(&CONNECTIONS, &[], *connections);
                }
                ("rpc", counts) => {
                    for (family, count) in RPCS.iter().zip(counts) {
                        out.put(family, &[], *count);
                    }
                }
                // The first number is how many follow.
                ("proc2", [_, counts @ ..]) => put_requests(out, "2", &VERSION_2, counts),
                ("proc3", [_, counts @ ..]) => put_requests(out, "3", &VERSION_3, counts),
                ("proc4", [_, counts @ ..]) => put_requests(out, "4", &VERSION_4_CLIENT, counts),
                _ => {}
            }
        }
        Ok(())
    }
}

/// An older kernel has fewer procedures; those it lacks were never called.
fn put_requests(out: &mut Reading, version: &str, methods: &[&str], counts: &[f64]) {
    for (at, method) in methods.iter().enumerate() {
        let count = counts.get(at).copied().unwrap_or(0.0);
        out.put(&REQUESTS, &[("proto", version), ("method", method)], count);
    }
}
