//! What CPUs say about themselves. Source: `proc_cpuinfo(5)`.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::pattern::Pattern;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

const INFO: Family = Family::gauge("node_cpu_info", "CPU information from /proc/cpuinfo.");
const FREQUENCY: Family =
    Family::gauge("node_cpu_frequency_hertz", "CPU frequency in hertz from /proc/cpuinfo.");
const FLAG: Family = Family::gauge(
    "node_cpu_flag_info",
    "The `flags` field of CPU information from /proc/cpuinfo taken from the first core.",
);
const BUG: Family = Family::gauge(
    "node_cpu_bug_info",
    "The `bugs` field of CPU information from /proc/cpuinfo taken from the first core.",
);

/// The keys that are labels of `node_cpu_info`.
const LABELS: [(&str, &str); 10] = [
    ("physical id", "package"),
    ("core id", "core"),
    ("processor", "cpu"),
    ("vendor_id", "vendor"),
    ("cpu family", "family"),
    ("model", "model"),
    ("model name", "model_name"),
    ("microcode", "microcode"),
    ("stepping", "stepping"),
    ("cache size", "cachesize"),
];

/// `node_cpu_info` and, as the configuration says, `node_cpu_flag_info` and `node_cpu_bug_info`;
/// in Node Exporter a part of the collector `cpu`.
pub(crate) struct CpuInfo {
    path: PathBuf,
    flags: Option<Pattern>,
    bugs: Option<Pattern>,
}

impl CpuInfo {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let settings = &config.collectors.cpu_info;
        CpuInfo {
            path: config.proc_root.join("cpuinfo"),
            flags: settings.flags_include.clone(),
            bugs: settings.bugs_include.clone(),
        }
    }
}

impl Survey for CpuInfo {
    fn name(&self) -> &'static str {
        "cpu_info"
    }

    /// The kernel asks every CPU for its frequency, which interrupts them.
    fn period(&self) -> Duration {
        Duration::from_secs(15)
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        let text = sysfs::read_text(&self.path)?;
        for (index, cpu) in text.split("\n\n").enumerate() {
            let pairs: Vec<(&str, &str)> = cpu
                .lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(key, value)| (key.trim(), value.trim()))
                .collect();
            let value = |key: &str| {
                pairs.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| *value)
            };
            // Some architectures end with a paragraph about the machine.
            if value("processor").is_empty() {
                continue;
            }
            let labels = LABELS.map(|(key, label)| (label, value(key)));
            out.put(&INFO, &labels, 1.0);
            if let Ok(megahertz) = value("cpu MHz").parse::<f64>() {
                out.put(&FREQUENCY, &labels[..3], megahertz * 1e6);
            }
            if index == 0 {
                put_words(&FLAG, "flag", value("flags"), &self.flags, out);
                put_words(&BUG, "bug", value("bugs"), &self.bugs, out);
            }
        }
        Ok(())
    }
}

fn put_words(
    family: &Family,
    label: &str,
    words: &str,
    chosen: &Option<Pattern>,
    out: &mut Reading,
) {
    let Some(pattern) = chosen else { return };
    for word in words.split_ascii_whitespace().filter(|word| pattern.is_match(word.as_bytes())) {
        out.put(family, &[(label, word)], 1.0);
    }
}
