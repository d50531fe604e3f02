//! Sockets in use.

use model::MetricType;

use crate::collector::{Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{ProcFile, fields, lines, parse_u64};
use crate::series::{Family, Keyed, Row, Samples, Single};

/// `node_sockstat_*`.
pub(crate) struct Sockstat {
    files: [ProcFile; 2],
    protocols: Keyed<MAX_PAIRS>,
    used: Single,
    page_bytes: f64,
}

/// Two places for each pair of name and number on a line; `TCP` has five pairs. The second place
/// of a pair is for the same in bytes.
const MAX_PAIRS: usize = 16;

impl Sockstat {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let file = |name| ProcFile::new(config.proc_root.join(name));
        Sockstat {
            files: [file("net/sockstat"), file("net/sockstat6")],
            protocols: Keyed::new(),
            used: Single::new(Family::gauge(
                "node_sockstat_sockets_used",
                "Number of IPv4 sockets in use.",
            )),
            page_bytes: rustix::param::page_size() as f64,
        }
    }
}

impl Collector for Sockstat {
    fn name(&self) -> &'static str {
        "sockstat"
    }

    fn collect(&mut self, _: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        self.protocols.begin();
        for file in &mut self.files {
            match file.read() {
                Ok(_) => {}
                // The kernel runs without IPv6, or without IPv4.
                Err(error) if error.is_no_data() => continue,
                Err(error) => return Err(error),
            }
            for line in lines(file.last()) {
                let mut columns = fields(line);
                let Some(protocol) = columns.next().and_then(|name| name.strip_suffix(b":")) else {
                    return Err(file.malformed("protocol before a colon"));
                };
                if protocol == b"sockets" {
                    if let Some(used) = columns.nth(1).and_then(parse_u64) {
                        self.used.emit(out, used as f64);
                    }
                    continue;
                }
                let row = self.protocols.row(protocol);
                emit_pairs(row, protocol, columns, self.page_bytes, out);
            }
        }
        self.protocols.finish(out);
        Ok(Outcome::Collected)
    }
}

fn emit_pairs<'a>(
    row: &mut Row<MAX_PAIRS>,
    protocol: &[u8],
    mut columns: impl Iterator<Item = &'a [u8]>,
    page_bytes: f64,
    out: &mut Samples,
) {
    let mut places = row.series.iter_mut();
    while let (Some(name), Some(number)) = (columns.next(), columns.next().and_then(parse_u64)) {
        let (Some(plain), Some(in_bytes)) = (places.next(), places.next()) else { return };
        let register = |out: &mut Samples, suffix: &str| {
            let protocol = String::from_utf8_lossy(protocol);
            let name = String::from_utf8_lossy(name);
            out.register_named(
                &format!("node_sockstat_{protocol}_{name}{suffix}"),
                MetricType::Gauge,
                &format!("Number of {protocol} sockets in state {name}{suffix}."),
                &[],
            )
        };
        out.put(plain, number as f64, |out| register(out, ""));
        if name == b"mem" {
            out.put(in_bytes, number as f64 * page_bytes, |out| register(out, "_bytes"));
        }
    }
}
