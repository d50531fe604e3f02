//! Paging and faults from `/proc/vmstat`.

use model::MetricType;

use crate::collector::{Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::pattern::Pattern;
use crate::proc_reader::{ProcFile, fields, lines, parse_f64};
use crate::series::{Keyed, Samples};

/// `node_vmstat_*`, the fields in the configuration or those Node Exporter takes by default.
pub(crate) struct Vmstat {
    file: ProcFile,
    chosen: Option<Pattern>,
    rows: Keyed<1>,
}

impl Vmstat {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Vmstat {
            file: ProcFile::new(config.proc_root.join("vmstat")),
            chosen: config.collectors.vmstat.fields.clone(),
            rows: Keyed::new(),
        }
    }
}

impl Collector for Vmstat {
    fn name(&self) -> &'static str {
        "vmstat"
    }

    fn collect(&mut self, _: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        self.file.read()?;
        self.rows.begin();
        for line in lines(self.file.last()) {
            let mut columns = fields(line);
            let (Some(field), Some(value)) = (columns.next(), columns.next().and_then(parse_f64))
            else {
                continue;
            };
            let taken = match &self.chosen {
                Some(pattern) => pattern.is_match(field),
                None => is_default_field(field),
            };
            if !taken {
                continue;
            }
            out.put(&mut self.rows.row(field).series[0], value, |out| {
                let field = String::from_utf8_lossy(field);
                let help = format!("/proc/vmstat information field {field}.");
                let name = format!("node_vmstat_{field}");
                out.register_named(&name, MetricType::Unknown, &help, &[])
            });
        }
        self.rows.finish(out);
        Ok(Outcome::Collected)
    }
}

/// `^(oom_kill|pgpg|pswp|pg.*fault).*`, the default of Node Exporter's
/// `--collector.vmstat.fields`.
fn is_default_field(field: &[u8]) -> bool {
    field.starts_with(b"pg")
        && (field[2..].starts_with(b"pg") || field[2..].windows(5).any(|part| part == b"fault"))
        || field.starts_with(b"pswp")
        || field.starts_with(b"oom_kill")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_fields() {
        let all = "pgpgin pgpgout pswpin pswpout pgfault pgmajfault oom_kill pgfree nr_dirty fault";
        let taken: Vec<_> = all.split(' ').filter(|f| is_default_field(f.as_bytes())).collect();
        assert_eq!(
            taken,
            ["pgpgin", "pgpgout", "pswpin", "pswpout", "pgfault", "pgmajfault", "oom_kill"]
        );
    }
}
