//! Connection tracking of netfilter.

use crate::collector::{Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{ProcFile, fields, lines, parse_f64, parse_hex, trim};
use crate::series::{Family, Samples, Single};

/// The statistics that are emitted, with their names in `/proc/net/stat/nf_conntrack`.
const STATS: [(&[u8], Family); 8] = [
    (
        b"found",
        Family::gauge(
            "node_nf_conntrack_stat_found",
            "Number of searched entries which were successful.",
        ),
    ),
    (
        b"invalid",
        Family::gauge(
            "node_nf_conntrack_stat_invalid",
            "Number of packets seen which can not be tracked.",
        ),
    ),
    (
        b"ignore",
        Family::gauge(
            "node_nf_conntrack_stat_ignore",
            "Number of packets seen which are already connected to a conntrack entry.",
        ),
    ),
    (
        b"insert",
        Family::gauge("node_nf_conntrack_stat_insert", "Number of entries inserted into the list."),
    ),
    (
        b"insert_failed",
        Family::gauge(
            "node_nf_conntrack_stat_insert_failed",
            "Number of entries for which list insertion was attempted but failed.",
        ),
    ),
    (
        b"drop",
        Family::gauge(
            "node_nf_conntrack_stat_drop",
            "Number of packets dropped due to conntrack failure.",
        ),
    ),
    (
        b"early_drop",
        Family::gauge(
            "node_nf_conntrack_stat_early_drop",
            "Number of dropped conntrack entries to make room for new ones, if maximum table size \
             was reached.",
        ),
    ),
    (
        b"search_restart",
        Family::gauge(
            "node_nf_conntrack_stat_search_restart",
            "Number of conntrack table lookups which had to be restarted due to hashtable resizes.",
        ),
    ),
];

/// `node_nf_conntrack_*`; absent where the kernel module is not loaded.
pub(crate) struct Conntrack {
    count: (ProcFile, Single),
    limit: (ProcFile, Single),
    stat: ProcFile,
    stats: [Single; 8],
}

impl Conntrack {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let single = |path, name, help| {
            (ProcFile::new(config.proc_root.join(path)), Single::new(Family::gauge(name, help)))
        };
        Conntrack {
            count: single(
                "sys/net/netfilter/nf_conntrack_count",
                "node_nf_conntrack_entries",
                "Number of currently allocated flow entries for connection tracking.",
            ),
            limit: single(
                "sys/net/netfilter/nf_conntrack_max",
                "node_nf_conntrack_entries_limit",
                "Maximum size of connection tracking table.",
            ),
            stat: ProcFile::new(config.proc_root.join("net/stat/nf_conntrack")),
            stats: STATS.map(|(_, family)| Single::new(family)),
        }
    }
}

impl Collector for Conntrack {
    fn name(&self) -> &'static str {
        "conntrack"
    }

    fn collect(&mut self, _: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        for (file, single) in [&mut self.count, &mut self.limit] {
            let value = parse_f64(trim(file.read()?)).ok_or_else(|| file.malformed("number"))?;
            single.emit(out, value);
        }
        self.stat.read()?;
        let mut lines = lines(self.stat.last());
        // The header names the columns, which differ between kernels; then one line per CPU.
        let Some(header) = lines.next() else { return Err(self.stat.malformed("header")) };
        let mut sums = [0_u64; 8];
        for line in lines {
            for (name, column) in fields(header).zip(fields(line)) {
                if let Some(at) = STATS.iter().position(|(stat, _)| *stat == name) {
                    sums[at] = sums[at].wrapping_add(parse_hex(column).unwrap_or(0));
                }
            }
        }
        for (single, sum) in self.stats.iter_mut().zip(sums) {
            single.emit(out, sum as f64);
        }
        Ok(Outcome::Collected)
    }
}
