//! Caches of kernel objects. Source: `slabinfo(5)`; for root only.

use std::path::PathBuf;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::pattern::NameFilter;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

/// The columns after the name.
const COLUMNS: [Family; 5] = [
    Family::gauge(
        "node_slabinfo_active_objects",
        "The number of objects that are currently active (i.e., in use).",
    ),
    Family::gauge(
        "node_slabinfo_objects",
        "The total number of allocated objects (i.e., objects that are both in use and not in use).",
    ),
    Family::gauge("node_slabinfo_object_size_bytes", "The size of objects in this slab, in bytes."),
    Family::gauge("node_slabinfo_objects_per_slab", "The number of objects stored in each slab."),
    Family::gauge("node_slabinfo_pages_per_slab", "The number of pages allocated for each slab."),
];

/// `node_slabinfo_*`.
pub(crate) struct Slabinfo {
    path: PathBuf,
    filter: NameFilter,
}

impl Slabinfo {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let settings = &config.collectors.slabinfo;
        Slabinfo {
            path: config.proc_root.join("slabinfo"),
            filter: NameFilter::new(&settings.slabs_include, &settings.slabs_exclude),
        }
    }
}

impl Survey for Slabinfo {
    fn name(&self) -> &'static str {
        "slabinfo"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let text = sysfs::read_text(&self.path)?;
        // Before the slabs stand the version and a line of headings.
        for line in text.lines().skip(1).filter(|line| !line.starts_with('#')) {
            let mut fields = line.split_ascii_whitespace();
            let Some(slab) = fields.next().filter(|slab| self.filter.takes(slab)) else { continue };
            for (family, count) in COLUMNS.iter().zip(fields) {
                let Ok(count) = count.parse::<u64>() else { break };
                out.put(family, &[("slab", slab)], count as f64);
            }
        }
        Ok(())
    }
}
