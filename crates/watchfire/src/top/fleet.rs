//! All hosts, as the list shows them.

use std::collections::{BTreeMap, HashMap};

use super::expressions::OF;
use crate::http_client::prometheus::{Element, Metric, Series};

/// What makes a host: two exporters of one machine under different jobs are two hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HostKey {
    /// Label `instance`.
    pub(crate) instance: String,
    /// Label `job`.
    pub(crate) job: String,
}

impl HostKey {
    fn of(metric: &Metric) -> HostKey {
        let label = |name: &str| metric.get(name).cloned().unwrap_or_default();
        HostKey { instance: label("instance"), job: label("job") }
    }
}

/// A figure every host has. Shares are of 1, rates are bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Vital {
    /// Time of the newest sample, in seconds since the epoch.
    Heard,
    /// Samples per minute.
    PerMinute,
    /// Share of CPU time that was not idle.
    Cpu,
    /// Share of memory that is not available.
    Memory,
    /// Load over one minute.
    Load,
    /// Received.
    NetworkIn,
    /// Sent.
    NetworkOut,
    /// Read from disks.
    DiskRead,
    /// Written to disks.
    DiskWrite,
    /// Share used of the fullest filesystem.
    Filesystem,
    /// Share of time in which something waited for a CPU.
    PressureCpu,
    /// Share of time in which something waited for memory.
    PressureMemory,
    /// Share of time in which something waited for a disk.
    PressureIo,
}

impl Vital {
    /// Every one.
    pub(crate) const ALL: [Vital; 13] = [
        Vital::Heard,
        Vital::PerMinute,
        Vital::Cpu,
        Vital::Memory,
        Vital::Load,
        Vital::NetworkIn,
        Vital::NetworkOut,
        Vital::DiskRead,
        Vital::DiskWrite,
        Vital::Filesystem,
        Vital::PressureCpu,
        Vital::PressureMemory,
        Vital::PressureIo,
    ];

    /// Its value of the label that tells questions apart.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Vital::Heard => "heard",
            Vital::PerMinute => "per_minute",
            Vital::Cpu => "cpu",
            Vital::Memory => "memory",
            Vital::Load => "load",
            Vital::NetworkIn => "network_in",
            Vital::NetworkOut => "network_out",
            Vital::DiskRead => "disk_read",
            Vital::DiskWrite => "disk_write",
            Vital::Filesystem => "filesystem",
            Vital::PressureCpu => "pressure_cpu",
            Vital::PressureMemory => "pressure_memory",
            Vital::PressureIo => "pressure_io",
        }
    }

    fn from_name(name: &str) -> Option<Vital> {
        Vital::ALL.into_iter().find(|vital| vital.name() == name)
    }
}

/// A resource that can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// CPUs.
    Cpu,
    /// Memory.
    Memory,
    /// Disks.
    Io,
}

/// One host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    vitals: HashMap<Vital, f64>,
    /// Seconds since the epoch of its newest sample.
    heard_s: f64,
    /// The shortest distance of samples seen, in seconds.
    interval_s: f64,
    /// Share of CPU over the last minutes, oldest first, equally spaced.
    pub(crate) cpu_history: Vec<Option<f64>>,
}

impl Host {
    /// A figure, if the host sends what it is made of.
    pub(crate) fn get(&self, vital: Vital) -> Option<f64> {
        self.vitals.get(&vital).copied().filter(|value| value.is_finite())
    }

    /// Received and sent together.
    pub(crate) fn network(&self) -> Option<f64> {
        self.sum(Vital::NetworkIn, Vital::NetworkOut)
    }

    /// Read and written together.
    pub(crate) fn disk(&self) -> Option<f64> {
        self.sum(Vital::DiskRead, Vital::DiskWrite)
    }

    fn sum(&self, a: Vital, b: Vital) -> Option<f64> {
        match (self.get(a), self.get(b)) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0.0) + b.unwrap_or(0.0)),
        }
    }

    /// What was waited for most, and the share of time.
    pub(crate) fn pressure(&self) -> Option<(Pressure, f64)> {
        [
            (Pressure::Cpu, Vital::PressureCpu),
            (Pressure::Memory, Vital::PressureMemory),
            (Pressure::Io, Vital::PressureIo),
        ]
        .into_iter()
        .filter_map(|(what, vital)| Some((what, self.get(vital)?)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Seconds since its newest sample, at `now_s` of the server's clock.
    pub(crate) fn age_s(&self, now_s: f64) -> f64 {
        (now_s - self.heard_s).max(0.0)
    }

    /// Whether three samples in a row are missing.
    pub(crate) fn is_silent(&self, now_s: f64) -> bool {
        self.age_s(now_s) > (3.0 * self.interval_s).max(5.0)
    }
}

/// All hosts heard of within the hour.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fleet {
    hosts: BTreeMap<HostKey, Host>,
    /// The server's clock at the newest answer, in seconds since the epoch.
    pub(crate) now_s: f64,
}

/// How long a silent host stays in the list.
const KEEP_S: f64 = 3_600.0;
/// Scraped each minute is the slowest that is common; a host of unknown interval may be that.
const UNKNOWN_INTERVAL_S: f64 = 60.0;

impl Fleet {
    /// Takes in the answer to [`super::expressions::fleet`]. A host that is not in it keeps its
    /// last figures.
    pub(crate) fn absorb(&mut self, elements: &[Element]) {
        let mut seen: HashMap<HostKey, HashMap<Vital, f64>> = HashMap::new();
        for element in elements {
            let of = element.metric.get(OF).map_or("", String::as_str);
            let (Some(vital), Ok(value)) = (Vital::from_name(of), element.value.1.parse()) else {
                continue;
            };
            self.now_s = self.now_s.max(element.value.0);
            seen.entry(HostKey::of(&element.metric)).or_default().insert(vital, value);
        }
        for (key, vitals) in seen {
            // Without it the samples are not a host's.
            let Some(heard_s) = vitals.get(&Vital::Heard).copied() else { continue };
            let host = self
                .hosts
                .entry(key)
                .or_insert_with(|| Host { interval_s: UNKNOWN_INTERVAL_S, ..Host::default() });
            host.heard_s = host.heard_s.max(heard_s);
            if let Some(per_minute) = vitals.get(&Vital::PerMinute) {
                host.interval_s = host.interval_s.min(60.0 / per_minute.max(1.0));
            }
            host.vitals = vitals;
        }
        let now_s = self.now_s;
        self.hosts.retain(|_, host| host.age_s(now_s) < KEEP_S);
    }

    /// Takes in the answer to [`super::expressions::heard_within_the_hour`].
    pub(crate) fn absorb_heard(&mut self, elements: &[Element]) {
        for element in elements {
            let Ok(heard_s) = element.value.1.parse::<f64>() else { continue };
            self.now_s = self.now_s.max(element.value.0);
            let host = self
                .hosts
                .entry(HostKey::of(&element.metric))
                .or_insert_with(|| Host { interval_s: UNKNOWN_INTERVAL_S, ..Host::default() });
            host.heard_s = host.heard_s.max(heard_s);
        }
    }

    /// Takes in the answer to [`super::expressions::fleet_history`].
    pub(crate) fn absorb_history(&mut self, series: &[Series], grid: &Grid) {
        for one in series {
            if let Some(host) = self.hosts.get_mut(&HostKey::of(&one.metric)) {
                host.cpu_history = grid.place(one);
            }
        }
    }

    /// A host.
    pub(crate) fn get(&self, key: &HostKey) -> Option<&Host> {
        self.hosts.get(key)
    }

    /// The host of this name, whatever its job; of several the first.
    pub(crate) fn find(&self, instance: &str) -> Option<&HostKey> {
        self.hosts.keys().find(|key| key.instance == instance)
    }

    /// All hosts by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HostKey, &Host)> {
        self.hosts.iter()
    }

    /// Number of hosts.
    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Number of hosts that are silent.
    pub(crate) fn silent(&self) -> usize {
        self.hosts.values().filter(|host| host.is_silent(self.now_s)).count()
    }
}

/// The equally spaced times of a history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    /// The first time, in seconds since the epoch.
    pub(crate) start_s: f64,
    /// Distance of times, in seconds.
    pub(crate) step_s: f64,
    /// Number of times.
    pub(crate) points: usize,
}

impl Grid {
    /// Minutes before `end_s`, on multiples of the step, so that old points keep their place in
    /// the picture.
    pub(crate) fn before(end_s: f64) -> Grid {
        const STEP_S: f64 = 5.0;
        const POINTS: usize = 60;
        let last = (end_s / STEP_S).floor() * STEP_S;
        Grid { start_s: last - STEP_S * (POINTS - 1) as f64, step_s: STEP_S, points: POINTS }
    }

    /// The last time, in seconds since the epoch.
    pub(crate) fn end_s(&self) -> f64 {
        self.start_s + self.step_s * (self.points.max(1) - 1) as f64
    }

    /// The series' values at the grid's times, `None` where it has none.
    pub(crate) fn place(&self, series: &Series) -> Vec<Option<f64>> {
        let mut values = vec![None; self.points];
        for (time_s, value) in &series.values {
            let index = ((time_s - self.start_s) / self.step_s).round();
            let value = value.parse::<f64>().ok().filter(|value| value.is_finite());
            // A negative index saturates to 0 in the cast, so it is kept out first.
            if index >= 0.0
                && let Some(place) = values.get_mut(index as usize)
            {
                *place = value;
            }
        }
        values
    }
}
