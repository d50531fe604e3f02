//! Free memory by block size. Source: `proc_buddyinfo(5)`.

use std::path::PathBuf;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const BLOCKS: Family =
    Family::gauge("node_buddyinfo_blocks", "Count of free blocks according to size.");

/// `node_buddyinfo_blocks`.
pub(crate) struct Buddyinfo {
    path: PathBuf,
}

impl Buddyinfo {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Buddyinfo { path: config.proc_root.join("buddyinfo") }
    }
}

impl Survey for Buddyinfo {
    fn name(&self) -> &'static str {
        "buddyinfo"
    }

    /// Lines such as `Node 0, zone   Normal   4381   1093 …`, one number per order.
    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let text = sysfs::read_text(&self.path)?;
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let (Some("Node"), Some(node), Some("zone"), Some(zone)) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let node = node.trim_end_matches(',');
            for (order, count) in fields.enumerate() {
                let Ok(count) = count.parse::<f64>() else { continue };
                let labels = [("node", node), ("zone", zone), ("size", &*order.to_string())];
                out.put(&BLOCKS, &labels, count);
            }
        }
        Ok(())
    }
}
