//! The clock of this host.

use std::path::PathBuf;

use model::zone::ZoneOffset;

use crate::collector::{Collector, Host, Outcome};
use crate::collectors::timezone::TimeZone;
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{ProcFile, fields, trim};
use crate::series::{Family, Keyed, Samples, Single};

const ZONE_OFFSET: Family =
    Family::gauge("node_time_zone_offset_seconds", "System time zone offset in seconds.");
const AVAILABLE: Family = Family::gauge(
    "node_time_clocksource_available_info",
    "Available clocksources read from '/sys/devices/system/clocksource'.",
);
const CURRENT: Family = Family::gauge(
    "node_time_clocksource_current_info",
    "Current clocksource read from '/sys/devices/system/clocksource'.",
);

/// `node_time_*`.
pub(crate) struct Time {
    seconds: Single,
    zone: TimeZone,
    offset: Keyed<1>,
    clocks: Vec<Clock>,
}

/// One directory `clocksource<N>` of sysfs; there has only ever been number 0.
struct Clock {
    device: String,
    available: ProcFile,
    current: ProcFile,
    available_series: Keyed<1>,
    current_series: Keyed<1>,
}

impl Time {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let root = config.sys_root.join("devices/system/clocksource");
        Time {
            seconds: Single::new(Family::gauge(
                "node_time_seconds",
                "System time in seconds since epoch (1970).",
            )),
            zone: TimeZone::new(config),
            offset: Keyed::new(),
            clocks: clocks(root),
        }
    }
}

fn clocks(root: PathBuf) -> Vec<Clock> {
    let entries = std::fs::read_dir(&root).into_iter().flatten().flatten();
    let mut clocks: Vec<Clock> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let device = name.strip_prefix("clocksource")?.to_owned();
            Some(Clock {
                device,
                available: ProcFile::new(entry.path().join("available_clocksource")),
                current: ProcFile::new(entry.path().join("current_clocksource")),
                available_series: Keyed::new(),
                current_series: Keyed::new(),
            })
        })
        .collect();
    clocks.sort_by(|a, b| a.device.cmp(&b.device));
    clocks
}

impl Collector for Time {
    fn name(&self) -> &'static str {
        "time"
    }

    fn collect(&mut self, host: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        self.seconds.emit(out, host.now_ns as f64 / 1e9);
        let ZoneOffset { name, seconds } =
            self.zone.at(host.now_ns.div_euclid(1_000_000_000), host.now);
        self.offset.begin();
        out.put(&mut self.offset.row(name.as_bytes()).series[0], f64::from(seconds), |out| {
            out.register(&ZONE_OFFSET, &[("time_zone", name)])
        });
        self.offset.finish(out);
        for clock in &mut self.clocks {
            let Clock { device, available, current, available_series, current_series } = clock;
            emit_names(available_series, &AVAILABLE, device, available.read()?, out);
            emit_names(current_series, &CURRENT, device, current.read()?, out);
        }
        Ok(Outcome::Collected)
    }
}

fn emit_names(
    series: &mut Keyed<1>,
    family: &Family,
    device: &str,
    names: &[u8],
    out: &mut Samples,
) {
    series.begin();
    for name in fields(trim(names)) {
        out.put(&mut series.row(name).series[0], 1.0, |out| {
            let name = String::from_utf8_lossy(name);
            out.register(family, &[("clocksource", &name), ("device", device)])
        });
    }
    series.finish(out);
}
