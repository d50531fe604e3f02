//! The kernel's entropy pool.

use crate::collector::{Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{ProcFile, parse_f64, trim};
use crate::series::{Family, Samples, Single};

/// `node_entropy_available_bits`, `node_entropy_pool_size_bits`.
pub(crate) struct Entropy {
    files: [(ProcFile, Single); 2],
}

impl Entropy {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let file = |name, family| {
            let path = config.proc_root.join("sys/kernel/random").join(name);
            (ProcFile::new(path), Single::new(family))
        };
        Entropy {
            files: [
                file(
                    "entropy_avail",
                    Family::gauge("node_entropy_available_bits", "Bits of available entropy."),
                ),
                file(
                    "poolsize",
                    Family::gauge("node_entropy_pool_size_bits", "Bits of entropy pool."),
                ),
            ],
        }
    }
}

impl Collector for Entropy {
    fn name(&self) -> &'static str {
        "entropy"
    }

    fn collect(&mut self, _: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        for (file, single) in &mut self.files {
            let value = parse_f64(trim(file.read()?)).ok_or_else(|| file.malformed("number"))?;
            single.emit(out, value);
        }
        Ok(Outcome::Collected)
    }
}
