//! Time per CPU and mode, isolation and thermal throttling.

use std::path::PathBuf;
use std::time::Duration;

use crate::collector::{Cadence, Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{fields, lines, parse_u64, read_once, trim};
use crate::series::{Family, Keyed, Row, Samples};

const SECONDS: Family =
    Family::counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.");
const GUEST: Family = Family::counter(
    "node_cpu_guest_seconds_total",
    "Seconds the CPUs spent in guests (VMs) for each mode.",
);
const ISOLATED: Family = Family::gauge(
    "node_cpu_isolated",
    "Whether each core is isolated, information from /sys/devices/system/cpu/isolated.",
);
const CORE_THROTTLES: Family = Family::counter(
    "node_cpu_core_throttles_total",
    "Number of times this CPU core has been throttled.",
);
const PACKAGE_THROTTLES: Family = Family::counter(
    "node_cpu_package_throttles_total",
    "Number of times this CPU package has been throttled.",
);

/// The columns of a `cpu` line in `/proc/stat`, source: `proc(5)`. The last two are guests.
const MODES: [&str; 10] =
    ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "user", "nice"];
const FIRST_GUEST_MODE: usize = 8;
const IDLE: usize = 3;

/// USER_HZ, which is 100 on every architecture Linux supports today.
const TICKS_PER_SECOND: f64 = 100.0;

/// Idle time that falls by this much means that the CPU was taken off and put back, and all its
/// counters began again. Smaller falls are the kernel's idle accounting correcting itself.
/// Source: node_exporter `collector/cpu_linux.go`, `jumpBackSeconds`.
const RESTART_TICKS: u64 = 300;

/// How often sysfs is asked for isolation and throttling, which change rarely.
const SYSFS_PERIOD: Duration = Duration::from_secs(15);

/// `node_cpu_*`.
pub(crate) struct Cpu {
    cpus: Keyed<10, [u64; 10]>,
    topology: Topology,
}

impl Cpu {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        Cpu { cpus: Keyed::new(), topology: Topology::new(config) }
    }
}

impl Collector for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn collect(&mut self, host: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        let stat = host.stat()?;
        self.cpus.begin();
        let mut found = false;
        // The lines of the CPUs come first; the long line of interrupts is never looked at.
        for line in lines(stat.bytes()).take_while(|line| line.starts_with(b"cpu")) {
            let mut columns = fields(line);
            let Some(number) = columns.next().and_then(|name| name.strip_prefix(b"cpu")) else {
                continue;
            };
            if parse_u64(number).is_none() {
                continue;
            }
            let row = self.cpus.row(number);
            let mut ticks = [0; 10];
            for (tick, column) in ticks.iter_mut().zip(columns) {
                *tick = parse_u64(column).unwrap_or(0);
            }
            advance(&mut row.extra, &ticks);
            emit_cpu(row, number, out);
            found = true;
        }
        if !found {
            return Err(stat.malformed("line of a CPU"));
        }
        self.cpus.finish(out);
        self.topology.collect(host, out);
        Ok(Outcome::Collected)
    }
}

/// Moves counters forward, never back, unless the CPU began again.
fn advance(known: &mut [u64; 10], read: &[u64; 10]) {
    if read[IDLE].saturating_add(RESTART_TICKS) <= known[IDLE] {
        *known = *read;
        return;
    }
    for (known, &read) in known.iter_mut().zip(read) {
        *known = (*known).max(read);
    }
}

fn emit_cpu(row: &mut Row<10, [u64; 10]>, number: &[u8], out: &mut Samples) {
    for (mode, place) in row.series.iter_mut().enumerate() {
        let family = if mode < FIRST_GUEST_MODE { SECONDS } else { GUEST };
        out.put(place, row.extra[mode] as f64 / TICKS_PER_SECOND, |out| {
            let cpu = String::from_utf8_lossy(number);
            out.register(&family, &[("cpu", &cpu), ("mode", MODES[mode])])
        });
    }
}

/// What sysfs says about CPUs; read rarely, emitted on each pass.
struct Topology {
    cpu_root: PathBuf,
    cadence: Cadence,
    buffer: Vec<u8>,
    isolated: Vec<u64>,
    /// `(core, package)` and its throttles.
    cores: Vec<((u64, u64), u64)>,
    /// Package and its throttles.
    packages: Vec<(u64, u64)>,
    isolated_series: Keyed<1>,
    core_series: Keyed<1>,
    package_series: Keyed<1>,
}

impl Topology {
    fn new(config: &AgentConfig) -> Self {
        Topology {
            cpu_root: config.sys_root.join("devices/system/cpu"),
            cadence: Cadence::new(SYSFS_PERIOD),
            buffer: Vec::new(),
            isolated: Vec::new(),
            cores: Vec::new(),
            packages: Vec::new(),
            isolated_series: Keyed::new(),
            core_series: Keyed::new(),
            package_series: Keyed::new(),
        }
    }

    fn collect(&mut self, host: &Host, out: &mut Samples) {
        if self.cadence.due(host.now) {
            self.read();
        }
        self.isolated_series.begin();
        for &cpu in &self.isolated {
            let row = self.isolated_series.row(&cpu.to_le_bytes());
            out.put(&mut row.series[0], 1.0, |out| {
                out.register(&ISOLATED, &[("cpu", &cpu.to_string())])
            });
        }
        self.isolated_series.finish(out);
        self.core_series.begin();
        for &((core, package), count) in &self.cores {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&core.to_le_bytes());
            key[8..].copy_from_slice(&package.to_le_bytes());
            out.put(&mut self.core_series.row(&key).series[0], count as f64, |out| {
                let labels = [("core", core.to_string()), ("package", package.to_string())];
                let [core, package] = &labels;
                out.register(&CORE_THROTTLES, &[(core.0, &core.1), (package.0, &package.1)])
            });
        }
        self.core_series.finish(out);
        self.package_series.begin();
        for &(package, count) in &self.packages {
            let row = self.package_series.row(&package.to_le_bytes());
            out.put(&mut row.series[0], count as f64, |out| {
                out.register(&PACKAGE_THROTTLES, &[("package", &package.to_string())])
            });
        }
        self.package_series.finish(out);
    }

    fn read(&mut self) {
        self.isolated.clear();
        if let Ok(list) = read_once(&self.cpu_root.join("isolated"), &mut self.buffer) {
            parse_cpu_list(list, &mut self.isolated);
        }
        self.cores.clear();
        self.packages.clear();
        for cpu in 0_u32.. {
            let directory = self.cpu_root.join(format!("cpu{cpu}"));
            if !directory.is_dir() {
                break;
            }
            let mut number = |file: &str| {
                let text = read_once(&directory.join(file), &mut self.buffer).ok()?;
                parse_u64(trim(text))
            };
            let core = number("topology/core_id");
            let package = number("topology/physical_package_id");
            let (Some(core), Some(package)) = (core, package) else { continue };
            if let Some(count) = number("thermal_throttle/core_throttle_count")
                && !self.cores.iter().any(|(known, _)| *known == (core, package))
            {
                self.cores.push(((core, package), count));
            }
            if let Some(count) = number("thermal_throttle/package_throttle_count")
                && !self.packages.iter().any(|(known, _)| *known == package)
            {
                self.packages.push((package, count));
            }
        }
    }
}

/// Numbers from a list such as `1,3-5`, as in sysfs. Ranges beyond any real machine are cut.
fn parse_cpu_list(list: &[u8], out: &mut Vec<u64>) {
    const MAX_CPUS: u64 = 65_536;
    for range in trim(list).split(|&b| b == b',') {
        let mut ends = range.splitn(2, |&b| b == b'-').map(parse_u64);
        let Some(Some(first)) = ends.next() else { continue };
        let last = ends.next().flatten().unwrap_or(first);
        out.extend(first..=last.min(first.saturating_add(MAX_CPUS)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_never_fall_unless_the_cpu_began_again() {
        let mut known = [10, 0, 5, 1_000, 7, 0, 0, 0, 0, 0];
        // The kernel corrects idle by 20 ms and iowait by one tick.
        advance(&mut known, &[11, 0, 6, 998, 6, 0, 0, 0, 0, 0]);
        assert_eq!(known, [11, 0, 6, 1_000, 7, 0, 0, 0, 0, 0]);
        advance(&mut known, &[1, 0, 1, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(known, [1, 0, 1, 2, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn lists_of_cpus() {
        let check = |text: &str, want: &[u64]| {
            let mut got = Vec::new();
            parse_cpu_list(text.as_bytes(), &mut got);
            assert_eq!(got, want, "{text:?}");
        };
        check("1,3-5,9\n", &[1, 3, 4, 5, 9]);
        check("\n", &[]);
        check("5-3", &[]);
        check("x,2,-,7-", &[2, 7]);
    }
}
