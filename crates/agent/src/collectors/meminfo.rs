//! Memory, every field of `/proc/meminfo`.

use model::MetricType;

use crate::collector::{Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{ProcFile, fields, lines, parse_u64};
use crate::series::{Keyed, Samples};

/// `node_memory_*`.
pub(crate) struct Meminfo {
    file: ProcFile,
    rows: Keyed<1>,
}

impl Meminfo {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Meminfo { file: ProcFile::new(config.proc_root.join("meminfo")), rows: Keyed::new() }
    }
}

impl Collector for Meminfo {
    fn name(&self) -> &'static str {
        "meminfo"
    }

    fn collect(&mut self, _: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        self.file.read()?;
        self.rows.begin();
        let mut found = false;
        for line in lines(self.file.last()) {
            let mut columns = fields(line);
            let Some(field) = columns.next().and_then(|name| name.strip_suffix(b":")) else {
                continue;
            };
            let Some(number) = columns.next().and_then(parse_u64) else { continue };
            let in_bytes = columns.next() == Some(b"kB");
            let value = if in_bytes { number as f64 * 1_024.0 } else { number as f64 };
            out.put(&mut self.rows.row(field).series[0], value, |out| {
                let field = metric_suffix(field, in_bytes);
                let kind =
                    if field.ends_with("_total") { MetricType::Counter } else { MetricType::Gauge };
                let help = format!("Memory information field {field}.");
                out.register_named(&format!("node_memory_{field}"), kind, &help, &[])
            });
            found = true;
        }
        self.rows.finish(out);
        if found { Ok(Outcome::Collected) } else { Err(self.file.malformed("memory field")) }
    }
}

/// `Active(anon)` in kB becomes `Active_anon_bytes`.
fn metric_suffix(field: &[u8], in_bytes: bool) -> String {
    let mut name = String::from_utf8_lossy(field).replace('(', "_").replace(')', "");
    if in_bytes {
        name.push_str("_bytes");
    }
    name
}
