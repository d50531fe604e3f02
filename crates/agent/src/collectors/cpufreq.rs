//! CPU frequencies and governors.

use std::path::PathBuf;
use std::time::Duration;

use crate::collector::{Cadence, Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{fields, parse_u64, read_once, trim};
use crate::series::{Family, Keyed, Samples};

/// The files of `cpu<N>/cpufreq` in kHz, and their metrics in Hz.
const FILES: [(&str, Family); 6] = [
    (
        "cpuinfo_cur_freq",
        Family::gauge("node_cpu_frequency_hertz", "Current CPU thread frequency in hertz."),
    ),
    (
        "cpuinfo_min_freq",
        Family::gauge("node_cpu_frequency_min_hertz", "Minimum CPU thread frequency in hertz."),
    ),
    (
        "cpuinfo_max_freq",
        Family::gauge("node_cpu_frequency_max_hertz", "Maximum CPU thread frequency in hertz."),
    ),
    (
        "scaling_cur_freq",
        Family::gauge(
            "node_cpu_scaling_frequency_hertz",
            "Current scaled CPU thread frequency in hertz.",
        ),
    ),
    (
        "scaling_min_freq",
        Family::gauge(
            "node_cpu_scaling_frequency_min_hertz",
            "Minimum scaled CPU thread frequency in hertz.",
        ),
    ),
    (
        "scaling_max_freq",
        Family::gauge(
            "node_cpu_scaling_frequency_max_hertz",
            "Maximum scaled CPU thread frequency in hertz.",
        ),
    ),
];

const GOVERNOR: Family =
    Family::gauge("node_cpu_scaling_governor", "Current enabled CPU frequency governor.");

/// Asking a CPU for its frequency may wake it, so this is no work for every second.
const PERIOD: Duration = Duration::from_secs(10);

/// `node_cpu_scaling_*`, `node_cpu_frequency_*`; absent on most virtual machines.
pub(crate) struct Cpufreq {
    cpu_root: PathBuf,
    cadence: Cadence,
    buffer: Vec<u8>,
    names: Vec<u8>,
    cpus: Keyed<6>,
    governors: Keyed<1>,
}

impl Cpufreq {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Cpufreq {
            cpu_root: config.sys_root.join("devices/system/cpu"),
            cadence: Cadence::new(PERIOD),
            buffer: Vec::new(),
            names: Vec::new(),
            cpus: Keyed::new(),
            governors: Keyed::new(),
        }
    }

    fn collect_cpu(&mut self, cpu: &str, directory: PathBuf, out: &mut Samples) {
        let row = self.cpus.row(cpu.as_bytes());
        for ((file, family), place) in FILES.iter().zip(&mut row.series) {
            // Root alone may read some of them, and some drivers answer `<unknown>`.
            let text = read_once(&directory.join(file), &mut self.buffer);
            if let Some(khz) = text.ok().and_then(|text| parse_u64(trim(text))) {
                out.put(place, khz as f64 * 1_000.0, |out| out.register(family, &[("cpu", cpu)]));
            }
        }
        self.names.clear();
        let available = directory.join("scaling_available_governors");
        let Ok(available) = read_once(&available, &mut self.buffer) else { return };
        self.names.extend_from_slice(available);
        let Ok(current) = read_once(&directory.join("scaling_governor"), &mut self.buffer) else {
            return;
        };
        for name in fields(trim(&self.names)) {
            let governor = String::from_utf8_lossy(name);
            let row = self.governors.row(format!("{cpu} {governor}").as_bytes());
            let enabled = f64::from(u8::from(name == trim(current)));
            out.put(&mut row.series[0], enabled, |out| {
                out.register(&GOVERNOR, &[("cpu", cpu), ("governor", &governor)])
            });
        }
    }
}

impl Collector for Cpufreq {
    fn name(&self) -> &'static str {
        "cpufreq"
    }

    fn collect(&mut self, host: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        if !self.cadence.due(host.now) {
            return Ok(Outcome::NotDue);
        }
        self.cpus.begin();
        self.governors.begin();
        let mut found = false;
        for cpu in 0_u32.. {
            let cpu_root = self.cpu_root.join(format!("cpu{cpu}"));
            if !cpu_root.is_dir() {
                break;
            }
            let directory = cpu_root.join("cpufreq");
            if directory.is_dir() {
                self.collect_cpu(&cpu.to_string(), directory, out);
                found = true;
            }
        }
        self.cpus.finish(out);
        self.governors.finish(out);
        if found {
            Ok(Outcome::Collected)
        } else {
            Err(AgentError::NoData { path: self.cpu_root.join("cpu0/cpufreq") })
        }
    }
}
