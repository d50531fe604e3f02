//! Zones of memory. Source: Linux `mm/vmstat.c`, `zoneinfo_show_print`.

use std::path::PathBuf;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

macro_rules! gauges {
    ($($field:literal $name:literal $help:literal,)+) => {
        &[$(($field, Family::gauge(concat!("node_zoneinfo_", $name), $help)),)+]
    };
}

macro_rules! counters {
    ($($field:literal $help:literal,)+) => {
        &[$(($field, Family::counter(concat!("node_zoneinfo_", $field, "_total"), $help)),)+]
    };
}

const GAUGES: &[(&str, Family)] = gauges![
    "min" "min_pages" "Zone watermark pages_min",
    "low" "low_pages" "Zone watermark pages_low",
    "high" "high_pages" "Zone watermark pages_high",
    "spanned" "spanned_pages" "Total pages spanned by the zone, including holes",
    "present" "present_pages" "Physical pages existing within the zone",
    "managed" "managed_pages" "Present pages managed by the buddy system",
    "nr_free_pages" "nr_free_pages" "Total number of free pages in the zone",
    "nr_active_anon" "nr_active_anon_pages" "Number of anonymous pages recently more used",
    "nr_active_file" "nr_active_file_pages" "Number of active pages with file-backing",
    "nr_anon_pages" "nr_anon_pages" "Number of anonymous pages currently used by the system",
    "nr_anon_transparent_hugepages" "nr_anon_transparent_hugepages"
        "Number of anonymous transparent huge pages currently used by the system",
    "nr_dirty" "nr_dirty_pages" "Number of dirty pages",
    "nr_file_pages" "nr_file_pages" "Number of file pages",
    "nr_inactive_anon" "nr_inactive_anon_pages" "Number of anonymous pages recently less used",
    "nr_inactive_file" "nr_inactive_file_pages" "Number of inactive pages with file-backing",
    "nr_isolated_anon" "nr_isolated_anon_pages" "Temporary isolated pages from anon lru",
    "nr_isolated_file" "nr_isolated_file_pages" "Temporary isolated pages from file lru",
    "nr_kernel_stack" "nr_kernel_stacks" "Number of kernel stacks",
    "nr_mapped" "nr_mapped_pages" "Number of mapped pages",
    "nr_shmem" "nr_shmem_pages" "Number of shmem pages (included tmpfs/GEM pages)",
    "nr_slab_reclaimable" "nr_slab_reclaimable_pages" "Number of reclaimable slab pages",
    "nr_slab_unreclaimable" "nr_slab_unreclaimable_pages" "Number of unreclaimable slab pages",
    "nr_unevictable" "nr_unevictable_pages" "Number of unevictable pages",
    "nr_writeback" "nr_writeback_pages" "Number of writeback pages",
];

const COUNTERS: &[(&str, Family)] = counters![
    "nr_dirtied" "Page dirtyings since bootup",
    "nr_written" "Page writings since bootup",
    "numa_foreign" "Was intended here, hit elsewhere",
    "numa_hit" "Allocated in intended node",
    "numa_interleave" "Interleaver preferred this zone",
    "numa_local" "Allocation from local node",
    "numa_miss" "Allocated in non intended node",
    "numa_other" "Allocation from other node",
];

/// `node_zoneinfo_*`.
pub(crate) struct Zoneinfo {
    path: PathBuf,
}

impl Zoneinfo {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Zoneinfo { path: config.proc_root.join("zoneinfo") }
    }
}

impl Survey for Zoneinfo {
    fn name(&self) -> &'static str {
        "zoneinfo"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let text = sysfs::read_text(&self.path)?;
        let mut zone = None;
        for line in text.lines() {
            if let Some(header) = line.strip_prefix("Node ") {
                let parts = header.split_once(", zone");
                zone = parts.map(|(node, zone)| (node.trim(), zone.trim()));
                continue;
            }
            let Some((node, name)) = zone else { continue };
            let labels = [("node", node), ("zone", name)];
            let mut fields = line.split_ascii_whitespace();
            let (Some(key), Some(value)) = (fields.next(), fields.next()) else { continue };
            if key == "protection:" {
                put_protection(line, &labels, out);
                continue;
            }
            let family = GAUGES.iter().chain(COUNTERS).find(|(field, _)| *field == key);
            if let (Some((_, family)), Ok(value)) = (family, value.parse::<f64>()) {
                out.put(family, &labels, value);
            }
        }
        Ok(())
    }
}

/// `protection: (0, 2039, 31932, 31932, 31932)`, one number per zone of the node.
fn put_protection(line: &str, labels: &[(&str, &str); 2], out: &mut Reading) {
    let inside = line.split_once('(').map_or("", |(_, rest)| rest.trim_end_matches(')'));
    for (index, number) in inside.split(',').enumerate() {
        let Ok(number) = number.trim().parse::<f64>() else { continue };
        let name = format!("node_zoneinfo_protection_{index}");
        let help = format!("Protection array {index}. field");
        out.put_named(&name, model::MetricType::Gauge, &help, *labels, number);
    }
}
