//! Names and versions of the kernel.

use crate::collector::{Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::series::{Family, Keyed, Samples};

const INFO: Family = Family::gauge(
    "node_uname_info",
    "Labeled system information as provided by the uname system call.",
);

/// `node_uname_info`.
pub(crate) struct Uname {
    /// Keyed by the host's name, the only part that changes while the kernel runs.
    info: Keyed<1>,
}

impl Uname {
    pub(crate) fn new(_: &AgentConfig) -> Self {
        Uname { info: Keyed::new() }
    }
}

impl Collector for Uname {
    fn name(&self) -> &'static str {
        "uname"
    }

    fn collect(&mut self, _: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        let uname = rustix::system::uname();
        self.info.begin();
        let row = self.info.row(uname.nodename().to_bytes());
        out.put(&mut row.series[0], 1.0, |out| {
            out.register(
                &INFO,
                &[
                    ("sysname", &uname.sysname().to_string_lossy()),
                    ("release", &uname.release().to_string_lossy()),
                    ("version", &uname.version().to_string_lossy()),
                    ("machine", &uname.machine().to_string_lossy()),
                    ("nodename", &uname.nodename().to_string_lossy()),
                    ("domainname", &uname.domainname().to_string_lossy()),
                ],
            )
        });
        self.info.finish(out);
        Ok(Outcome::Collected)
    }
}
