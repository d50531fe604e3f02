//! One host in detail.

use std::collections::BTreeMap;

use super::expressions::OF;
use super::fleet::Grid;
use crate::http_client::prometheus::{Element, Series};

/// Everything known of one host at one moment. Shares are of 1, rates are bytes per second.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostDetail {
    figures: BTreeMap<String, f64>,
    /// Kernel and version, if known.
    pub(crate) system: String,
    /// Share of time not idle per CPU, in order of their numbers.
    pub(crate) cpus: Vec<(String, f64)>,
    /// Share of time per mode, all CPUs together.
    pub(crate) modes: BTreeMap<String, f64>,
    /// Network interfaces by name.
    pub(crate) interfaces: Vec<Interface>,
    /// Disks by name.
    pub(crate) disks: Vec<Disk>,
    /// Filesystems, the fullest first.
    pub(crate) filesystems: Vec<Filesystem>,
    /// Processes the agent names, in no order.
    pub(crate) processes: Vec<Process>,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Interface {
    /// Its name.
    pub(crate) device: String,
    /// Received.
    pub(crate) received: Option<f64>,
    /// Sent.
    pub(crate) sent: Option<f64>,
}

/// A disk.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Disk {
    /// Its name.
    pub(crate) device: String,
    /// Read.
    pub(crate) read: Option<f64>,
    /// Written.
    pub(crate) written: Option<f64>,
    /// Share of time with a request under way.
    pub(crate) busy: Option<f64>,
}

/// A filesystem with a disk behind it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Filesystem {
    /// Where it is mounted.
    pub(crate) mountpoint: String,
    /// Its size in bytes.
    pub(crate) size: f64,
    /// Bytes users can still write.
    pub(crate) available: f64,
    /// Share used of what users may fill.
    pub(crate) used: f64,
}

/// A process among the largest.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: String,
    /// Its command.
    pub(crate) name: String,
    /// Cores in use; absent when it is only listed for its memory.
    pub(crate) cpu: Option<f64>,
    /// Resident bytes; absent when it is only listed for its CPU.
    pub(crate) memory: Option<f64>,
}

/// The order of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessOrder {
    /// Most CPU first.
    Cpu,
    /// Most memory first.
    Memory,
}

impl HostDetail {
    /// Reads the answer to [`super::expressions::host`].
    pub(crate) fn new(elements: &[Element]) -> HostDetail {
        let mut detail = HostDetail::default();
        let mut interfaces = BTreeMap::<String, Interface>::new();
        let mut disks = BTreeMap::<String, Disk>::new();
        let mut filesystems = BTreeMap::<String, [Option<f64>; 3]>::new();
        let mut processes = BTreeMap::<(String, String), Process>::new();
        for element in elements {
            let label = |name: &str| element.metric.get(name).cloned().unwrap_or_default();
            let Some(value) = element.value.1.parse().ok().filter(|v: &f64| v.is_finite()) else {
                continue;
            };
            let interface = |all: &mut BTreeMap<String, Interface>,
                             set: fn(&mut Interface, f64)| {
                let device = label("device");
                let one = all.entry(device.clone()).or_default();
                one.device = device;
                set(one, value);
            };
            let disk = |all: &mut BTreeMap<String, Disk>, set: fn(&mut Disk, f64)| {
                let device = label("device");
                let one = all.entry(device.clone()).or_default();
                one.device = device;
                set(one, value);
            };
            let process = |all: &mut BTreeMap<_, Process>, set: fn(&mut Process, f64)| {
                let (pid, name) = (label("pid"), label("name"));
                let one = all.entry((pid.clone(), name.clone())).or_default();
                (one.pid, one.name) = (pid, name);
                set(one, value);
            };
            let filesystem = |all: &mut BTreeMap<String, [Option<f64>; 3]>, index: usize| {
                all.entry(label("mountpoint")).or_default()[index] = Some(value);
            };
            match label(OF).as_str() {
                "cpu" => detail.cpus.push((label("cpu"), value.clamp(0.0, 1.0))),
                "mode" => drop(detail.modes.insert(label("mode"), value)),
                "uname" => detail.system = format!("{} {}", label("sysname"), label("release")),
                "network_in" => interface(&mut interfaces, |one, v| one.received = Some(v)),
                "network_out" => interface(&mut interfaces, |one, v| one.sent = Some(v)),
                "disk_read" => disk(&mut disks, |one, v| one.read = Some(v)),
                "disk_write" => disk(&mut disks, |one, v| one.written = Some(v)),
                "disk_busy" => disk(&mut disks, |one, v| one.busy = Some(v)),
                "filesystem_size" => filesystem(&mut filesystems, 0),
                "filesystem_free" => filesystem(&mut filesystems, 1),
                "filesystem_available" => filesystem(&mut filesystems, 2),
                "process_cpu" => process(&mut processes, |one, v| one.cpu = Some(v)),
                "process_memory" => process(&mut processes, |one, v| one.memory = Some(v)),
                figure => drop(detail.figures.insert(figure.to_owned(), value)),
            }
        }
        detail.cpus.sort_by_key(|(cpu, _)| cpu.parse().unwrap_or(u32::MAX));
        detail.interfaces = interfaces.into_values().collect();
        detail.disks = disks.into_values().collect();
        detail.filesystems = filesystems.into_iter().filter_map(filesystem_of).collect();
        detail.filesystems.sort_by(|a, b| b.used.total_cmp(&a.used));
        detail.processes = processes.into_values().collect();
        detail
    }

    /// A single figure by the name it is asked under, such as `memory_total`.
    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }

    /// Share of all CPUs' time that was not idle.
    pub(crate) fn busy(&self) -> Option<f64> {
        Some((1.0 - self.modes.get("idle")?).clamp(0.0, 1.0))
    }

    /// The processes, largest first.
    pub(crate) fn processes(&self, order: ProcessOrder) -> Vec<&Process> {
        let mut sorted: Vec<&Process> = self.processes.iter().collect();
        let key = |process: &Process| {
            let (cpu, memory) = (process.cpu.unwrap_or(-1.0), process.memory.unwrap_or(-1.0));
            match order {
                ProcessOrder::Cpu => (cpu, memory),
                ProcessOrder::Memory => (memory, cpu),
            }
        };
        sorted.sort_by(|a, b| {
            let (a_key, b_key) = (key(a), key(b));
            b_key.0.total_cmp(&a_key.0).then(b_key.1.total_cmp(&a_key.1)).then(a.pid.cmp(&b.pid))
        });
        sorted
    }
}

fn filesystem_of(
    (mountpoint, [size, free, available]): (String, [Option<f64>; 3]),
) -> Option<Filesystem> {
    let (size, available) = (size?, available?);
    let used = size - free.unwrap_or(available);
    let usable = used + available;
    (usable > 0.0).then(|| Filesystem { mountpoint, size, available, used: used / usable })
}

/// One host over the last minutes: per question its values, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostHistory {
    lines: BTreeMap<String, Vec<Option<f64>>>,
}

impl HostHistory {
    /// Reads the answer to [`super::expressions::host_history`].
    pub(crate) fn new(series: &[Series], grid: &Grid) -> HostHistory {
        let lines = series
            .iter()
            .filter_map(|one| Some((one.metric.get(OF)?.clone(), grid.place(one))))
            .collect();
        HostHistory { lines }
    }

    /// The values of a question such as `cpu`; empty if there are none.
    pub(crate) fn line(&self, name: &str) -> &[Option<f64>] {
        self.lines.get(name).map_or(&[], Vec::as_slice)
    }

    /// The sums of two questions, where at least one has a value.
    pub(crate) fn sum(&self, a: &str, b: &str) -> Vec<Option<f64>> {
        let (a, b) = (self.line(a), self.line(b));
        (0..a.len().max(b.len()))
            .map(|index| {
                let at = |line: &[Option<f64>]| line.get(index).copied().flatten();
                match (at(a), at(b)) {
                    (None, None) => None,
                    (a, b) => Some(a.unwrap_or(0.0) + b.unwrap_or(0.0)),
                }
            })
            .collect()
    }
}
