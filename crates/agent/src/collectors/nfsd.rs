//! The NFS server. Source: `nfsstat(8)`, Linux `fs/nfsd/stats.c`.

use std::path::PathBuf;

use crate::collectors::nfs_procedures::{VERSION_2, VERSION_3, VERSION_4_SERVER, numbers};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family::counter(name, help)
}

const REPLY_CACHE: [Family; 3] = [
    counter(
        "node_nfsd_reply_cache_hits_total",
        "Total number of NFSd Reply Cache hits (client lost server response).",
    ),
    counter(
        "node_nfsd_reply_cache_misses_total",
        "Total number of NFSd Reply Cache an operation that requires caching (idempotent).",
    ),
    counter(
        "node_nfsd_reply_cache_nocache_total",
        "Total number of NFSd Reply Cache non-idempotent operations (rename/delete/…).",
    ),
];
const STALE_HANDLES: Family =
    counter("node_nfsd_file_handles_stale_total", "Total number of NFSd stale file handles");
const DISK_BYTES: [Family; 2] = [
    counter("node_nfsd_disk_bytes_read_total", "Total NFSd bytes read."),
    counter("node_nfsd_disk_bytes_written_total", "Total NFSd bytes written."),
];
const THREADS: Family = Family::gauge(
    "node_nfsd_server_threads",
    "Total number of NFSd kernel threads that are running.",
);
const READ_AHEAD_SIZE: Family = Family::gauge(
    "node_nfsd_read_ahead_cache_size_blocks",
    "How large the read ahead cache is in blocks.",
);
const READ_AHEAD_NOT_FOUND: Family = counter(
    "node_nfsd_read_ahead_cache_not_found_total",
    "Total number of NFSd read ahead cache not found.",
);
const PACKETS: Family = counter(
    "node_nfsd_packets_total",
    "Total NFSd network packets (sent+received) by protocol type.",
);
const CONNECTIONS: Family =
    counter("node_nfsd_connections_total", "Total number of NFSd TCP connections.");
const RPCS: Family = counter("node_nfsd_server_rpcs_total", "Total number of NFSd RPCs.");
const RPC_ERRORS: Family =
    counter("node_nfsd_rpc_errors_total", "Total number of NFSd RPC errors by error type.");
const REQUESTS: Family =
    counter("node_nfsd_requests_total", "Total number NFSd Requests by method and protocol.");

/// `node_nfsd_*`.
pub(crate) struct Nfsd {
    path: PathBuf,
}

impl Nfsd {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Nfsd { path: config.proc_root.join("net/rpc/nfsd") }
    }
}

impl Survey for Nfsd {
    fn name(&self) -> &'static str {
        "nfsd"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let text = sysfs::read_text(&self.path)?;
        for line in text.lines() {
            let (key, counts) = numbers(line);
            put_line(key, &counts, out);
        }
        Ok(())
    }
}

fn put_line(key: &str, counts: &[f64], out: &mut Reading) {
    let put_all = |out: &mut Reading, families: &[Family]| {
        for (family, count) in families.iter().zip(counts) {
            out.put(family, &[], *count);
        }
    };
    match (key, counts) {
        ("rc", _) => put_all(out, &REPLY_CACHE),
        ("io", _) => put_all(out, &DISK_BYTES),
        ("fh", [stale, ..]) => out.put(&STALE_HANDLES, &[], *stale),
        ("th", [threads, ..]) => out.put(&THREADS, &[], *threads),
        // Between them stands how deep into the cache hits were. Linux 5.4 dropped the line.
        ("ra", [size, .., not_found]) => {
            out.put(&READ_AHEAD_SIZE, &[], *size);
            out.put(&READ_AHEAD_NOT_FOUND, &[], *not_found);
        }
        ("net", [_, udp, tcp, connections, ..]) => {
            out.put(&PACKETS, &[("proto", "udp")], *udp);
            out.put(&PACKETS, &[("proto", "tcp")], *tcp);
            out.put(&CONNECTIONS, &[], *connections);
        }
        ("rpc", [all, _, errors @ ..]) => {
            out.put(&RPCS, &[], *all);
            for (error, count) in ["fmt", "auth", "cInt"].into_iter().zip(errors) {
                out.put(&RPC_ERRORS, &[("error", error)], *count);
            }
        }
        ("proc2", [_, counts @ ..]) => put_requests(out, "2", &VERSION_2, counts),
        ("proc3", [_, counts @ ..]) => put_requests(out, "3", &VERSION_3, counts),
        ("proc4ops", [_, counts @ ..]) => put_requests(out, "4", &VERSION_4_SERVER, counts),
        ("wdeleg_getattr", [count, ..]) => {
            out.put(&REQUESTS, &[("proto", "4"), ("method", "WdelegGetattr")], *count);
        }
        _ => {}
    }
}

/// Null calls only ask whether the server is there; they are left out.
fn put_requests(out: &mut Reading, version: &str, methods: &[&str], counts: &[f64]) {
    let shown = methods.iter().zip(counts);
    for (method, count) in shown.filter(|(method, _)| !matches!(**method, "" | "Null")) {
        out.put(&REQUESTS, &[("proto", version), ("method", method)], *count);
    }
}
