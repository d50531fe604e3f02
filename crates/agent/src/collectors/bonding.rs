//! Bonded network devices. Source: Linux `Documentation/networking/bonding.rst`.

use std::path::{Path, PathBuf};

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const SLAVES: Family =
    Family::gauge("node_bonding_slaves", "Number of configured slaves per bonding interface.");
const ACTIVE: Family =
    Family::gauge("node_bonding_active", "Number of active slaves per bonding interface.");

/// `node_bonding_*`.
pub(crate) struct Bonding {
    net_root: PathBuf,
}

impl Bonding {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Bonding { net_root: config.sys_root.join("class/net") }
    }
}

impl Survey for Bonding {
    fn name(&self) -> &'static str {
        "bonding"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let masters = sysfs::read_text(&self.net_root.join("bonding_masters"))?;
        for master in masters.split_ascii_whitespace() {
            let directory = self.net_root.join(master);
            let slaves = sysfs::read_text(&directory.join("bonding/slaves"))?;
            let slaves: Vec<&str> = slaves.split_ascii_whitespace().collect();
            let active = slaves.iter().filter(|slave| is_up(&directory, slave)).count();
            out.put(&SLAVES, &[("master", master)], slaves.len() as f64);
            out.put(&ACTIVE, &[("master", master)], active as f64);
        }
        Ok(())
    }
}

/// Whether the link of a slave works. Linux names the directory `lower_*` since 3.18.
fn is_up(master: &Path, slave: &str) -> bool {
    ["lower", "slave"].into_iter().any(|kind| {
        let state = master.join(format!("{kind}_{slave}/bonding_slave/mii_status"));
        sysfs::text(&state).is_some_and(|state| state == "up")
    })
}
