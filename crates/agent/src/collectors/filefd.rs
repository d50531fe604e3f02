//! File handles of the kernel.

use crate::collector::{Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{ProcFile, fields, parse_f64, trim};
use crate::series::{Family, Samples, Single};

/// `node_filefd_allocated`, `node_filefd_maximum`.
pub(crate) struct Filefd {
    file: ProcFile,
    allocated: Single,
    maximum: Single,
}

impl Filefd {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Filefd {
            file: ProcFile::new(config.proc_root.join("sys/fs/file-nr")),
            allocated: Single::new(Family::gauge(
                "node_filefd_allocated",
                "File descriptor statistics: allocated.",
            )),
            maximum: Single::new(Family::gauge(
                "node_filefd_maximum",
                "File descriptor statistics: maximum.",
            )),
        }
    }
}

impl Collector for Filefd {
    fn name(&self) -> &'static str {
        "filefd"
    }

    fn collect(&mut self, _: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        self.file.read()?;
        // Allocated, free (always 0 since Linux 2.6), maximum.
        let mut columns = fields(trim(self.file.last())).map(parse_f64);
        let (Some(Some(allocated)), Some(_), Some(Some(maximum))) =
            (columns.next(), columns.next(), columns.next())
        else {
            return Err(self.file.malformed("three numbers"));
        };
        self.allocated.emit(out, allocated);
        self.maximum.emit(out, maximum);
        Ok(Outcome::Collected)
    }
}
