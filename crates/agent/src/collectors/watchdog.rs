//! Timers that restart a machine that hangs. Source: Linux
//! `Documentation/ABI/testing/sysfs-class-watchdog`.

use std::path::PathBuf;

use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::reading::Reading;
use crate::series::Family;
use crate::survey::Survey;
use crate::sysfs;

macro_rules! gauges {
    ($($file:literal $name:literal,)+) => {
        [$((
            $file,
            Family::gauge(
                concat!("node_watchdog_", $name),
                concat!("Value of /sys/class/watchdog/<watchdog>/", $file),
            ),
        ),)+]
    };
}

const NUMBERS: [(&str, Family); 7] = gauges![
    "access_cs0" "access_cs0",
    "bootstatus" "bootstatus",
    "fw_version" "fw_version",
    "nowayout" "nowayout",
    "pretimeout" "pretimeout_seconds",
    "timeleft" "timeleft_seconds",
    "timeout" "timeout_seconds",
];

const INFO: Family = Family::gauge("node_watchdog_info", "Info of /sys/class/watchdog/<watchdog>");

/// The files with words, which are labels of `node_watchdog_info`.
const WORDS: [&str; 5] = ["identity", "options", "pretimeout_governor", "state", "status"];

/// `node_watchdog_*`.
pub(crate) struct Watchdog {
    root: PathBuf,
}

impl Watchdog {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Watchdog { root: config.sys_root.join("class/watchdog") }
    }
}

impl Survey for Watchdog {
    fn name(&self) -> &'static str {
        "watchdog"
    }

    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
        for name in sysfs::names(&self.root)? {
            let directory = self.root.join(&name);
            for (file, family) in &NUMBERS {
                if let Some(value) = sysfs::number(&directory.join(file)) {
                    out.put(family, &[("name", &*name)], value);
                }
            }
            let words = WORDS.map(|file| sysfs::text(&directory.join(file)).unwrap_or_default());
            let labels = WORDS.into_iter().zip(words.iter().map(String::as_str));
            let labels: Vec<(&str, &str)> = labels.chain([("name", &*name)]).collect();
            out.put(&INFO, &labels, 1.0);
        }
        Ok(())
    }
}
