//! Processes: how many in which state, and which use the most.

use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, RawDir, SeekFrom, openat, seek};

use crate::collector::{Cadence, Collector, Host, Outcome};
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::proc_reader::{ProcFile, fields, parse_i64, parse_u64, read_error, trim};
use crate::series::{Family, Keyed, Samples, SeriesRef, Single};

const STATE: Family = Family::gauge("node_processes_state", "Number of processes in each state.");
const TOP_CPU: Family = Family::gauge(
    "node_top_process_cpu_ratio",
    "CPU cores in use by the processes that use the most.",
);
const TOP_RESIDENT: Family = Family::gauge(
    "node_top_process_resident_bytes",
    "Resident memory of the processes that hold the most.",
);

/// USER_HZ, as in `/proc/stat`.
const TICKS_PER_SECOND: f64 = 100.0;

/// A scan may cost 2 ms per second, which is 0.2 % of one core: more processes are scanned less
/// often, down to every 5 s. 100 processes cost about 0.6 ms.
const SCAN_BUDGET: Duration = Duration::from_millis(2);
const SLOWEST_PERIOD_S: u32 = 5;

/// `/proc/<pid>/stat` is about 300 bytes; 52 numbers of 20 digits and a name of 64 bytes fit.
const STAT_BYTES: usize = 2_048;

/// Room for about 150 directory entries per system call.
const DIRECTORY_BYTES: usize = 4_096;

/// `node_processes_*` and `node_top_process_*`.
///
/// A process's CPU use is what it used since the scan before, so the first scan shows none.
pub(crate) struct Processes {
    cadence: Cadence,
    scanner: Scanner,
    scanned: Vec<Process>,
    previous: Vec<Process>,
    previous_at: Option<Instant>,
    states: [Option<SeriesRef>; 128],
    threads: Single,
    pids: Single,
    limits: [(ProcFile, Single); 2],
    top: Top,
    page_bytes: f64,
}

/// What is kept of one process from one scan to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Process {
    pid: u32,
    state: u8,
    threads: u64,
    /// In clock ticks since boot; tells two users of one number apart.
    started: u64,
    /// User and system time in clock ticks.
    ticks: u64,
    resident_pages: u64,
    name: [u8; 64],
    name_length: u8,
}

impl Processes {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        let limit = |path, name, help| {
            (ProcFile::new(config.proc_root.join(path)), Single::new(Family::gauge(name, help)))
        };
        Processes {
            cadence: Cadence::new(Duration::from_secs(1)),
            scanner: Scanner::new(config.proc_root.clone()),
            scanned: Vec::new(),
            previous: Vec::new(),
            previous_at: None,
            states: [None; 128],
            threads: Single::new(Family::gauge(
                "node_processes_threads",
                "Allocated threads in system",
            )),
            pids: Single::new(Family::gauge("node_processes_pids", "Number of PIDs")),
            limits: [
                limit(
                    "sys/kernel/pid_max",
                    "node_processes_max_processes",
                    "Number of max PIDs limit",
                ),
                limit(
                    "sys/kernel/threads-max",
                    "node_processes_max_threads",
                    "Limit of threads in the system",
                ),
            ],
            top: Top::new(config.top_processes),
            page_bytes: rustix::param::page_size() as f64,
        }
    }

    fn emit_counts(&mut self, out: &mut Samples) {
        let mut counts = [0_u64; 128];
        let mut threads = 0;
        for process in &self.scanned {
            counts[usize::from(process.state & 0x7f)] += 1;
            threads += process.threads;
        }
        for (state, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            out.put(&mut self.states[state], count as f64, |out| {
                out.register(&STATE, &[("state", &char::from(state as u8).to_string())])
            });
        }
        self.threads.emit(out, threads as f64);
        self.pids.emit(out, self.scanned.len() as f64);
        for (file, single) in &mut self.limits {
            if let Some(limit) = file.read().ok().and_then(|text| parse_u64(trim(text))) {
                single.emit(out, limit as f64);
            }
        }
    }

    fn emit_top(&mut self, now: Instant, out: &mut Samples) {
        let page_bytes = self.page_bytes;
        self.top.resident.emit(&TOP_RESIDENT, &self.scanned, out, |process| {
            process.resident_pages as f64 * page_bytes
        });
        let Some(before) = self.previous_at else { return };
        let seconds = now.duration_since(before).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let previous = &self.previous;
        self.top.cpu.emit(&TOP_CPU, &self.scanned, out, |process| {
            let ticks = ticks_since(previous, process);
            ticks as f64 / TICKS_PER_SECOND / seconds
        });
    }
}

impl Collector for Processes {
    fn name(&self) -> &'static str {
        "processes"
    }

    fn collect(&mut self, host: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        if !self.cadence.due(host.now) {
            return Ok(Outcome::NotDue);
        }
        let began = Instant::now();
        self.scanner.scan(&mut self.scanned)?;
        self.emit_counts(out);
        self.emit_top(began, out);
        std::mem::swap(&mut self.scanned, &mut self.previous);
        self.previous_at = Some(began);
        let budgets = began.elapsed().as_micros().div_ceil(SCAN_BUDGET.as_micros());
        let period_s = u32::try_from(budgets).unwrap_or(u32::MAX).clamp(1, SLOWEST_PERIOD_S);
        self.cadence.set_period(Duration::from_secs(period_s.into()));
        Ok(Outcome::Collected)
    }
}

/// What `process` used since it was scanned before; all it ever used if it is new.
///
/// The kernel's sum of a process's times may fall by a tick when a thread ends; that is no use.
fn ticks_since(previous: &[Process], process: &Process) -> u64 {
    let before = previous
        .binary_search_by_key(&process.pid, |process| process.pid)
        .ok()
        .map(|at| &previous[at])
        .filter(|before| before.started == process.started);
    process.ticks.saturating_sub(before.map_or(0, |before| before.ticks))
}

/// The processes of two rankings.
struct Top {
    cpu: Ranking,
    resident: Ranking,
}

impl Top {
    fn new(length: usize) -> Self {
        let ranking = || Ranking { length, candidates: Vec::new(), rows: Keyed::new() };
        Top { cpu: ranking(), resident: ranking() }
    }
}

/// The processes with the greatest value, each with a series.
struct Ranking {
    length: usize,
    /// Value and place in the scan; kept for its memory.
    candidates: Vec<(f64, usize)>,
    rows: Keyed<1>,
}

impl Ranking {
    fn emit(
        &mut self,
        family: &Family,
        scanned: &[Process],
        out: &mut Samples,
        value: impl Fn(&Process) -> f64,
    ) {
        self.candidates.clear();
        let values = scanned.iter().map(value).enumerate();
        self.candidates.extend(values.filter(|(_, v)| *v > 0.0).map(|(at, v)| (v, at)));
        let greatest_first =
            |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1));
        if self.candidates.len() > self.length {
            if self.length > 0 {
                self.candidates.select_nth_unstable_by(self.length - 1, greatest_first);
            }
            self.candidates.truncate(self.length);
        }
        // By pid, so that the rows of those that stay are found where they are expected.
        self.candidates.sort_unstable_by_key(|(_, at)| *at);
        self.rows.begin();
        for &(value, at) in &self.candidates {
            let process = &scanned[at];
            let name = &process.name[..usize::from(process.name_length)];
            let mut key = [0; 68];
            key[..4].copy_from_slice(&process.pid.to_le_bytes());
            key[4..4 + name.len()].copy_from_slice(name);
            out.put(&mut self.rows.row(&key[..4 + name.len()]).series[0], value, |out| {
                let pid = process.pid.to_string();
                let name = String::from_utf8_lossy(name);
                out.register(family, &[("pid", &pid), ("name", &name)])
            });
        }
        self.rows.finish(out);
    }
}

/// Lists `/proc` and reads `stat` of each process, without an allocation per process.
struct Scanner {
    proc_root: PathBuf,
    directory: Option<File>,
    entries: Vec<MaybeUninit<u8>>,
    stat: [u8; STAT_BYTES],
}

impl Scanner {
    fn new(proc_root: PathBuf) -> Self {
        Scanner {
            proc_root,
            directory: None,
            entries: vec![MaybeUninit::uninit(); DIRECTORY_BYTES],
            stat: [0; STAT_BYTES],
        }
    }

    /// All processes, by ascending number.
    fn scan(&mut self, out: &mut Vec<Process>) -> Result<(), AgentError> {
        out.clear();
        let result = self.read_directory(out);
        if result.is_err() {
            self.directory = None;
        }
        result.map_err(|errno| read_error(&self.proc_root, errno.into()))?;
        // The kernel lists them by number; another source may not.
        out.sort_unstable_by_key(|process| process.pid);
        Ok(())
    }

    fn read_directory(&mut self, out: &mut Vec<Process>) -> rustix::io::Result<()> {
        let directory = match &self.directory {
            Some(directory) => directory,
            None => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let opened = openat(CWD, &self.proc_root, flags, Mode::empty())?;
                self.directory.insert(File::from(opened))
            }
        };
        seek(directory, SeekFrom::Start(0))?;
        let mut entries = RawDir::new(directory.as_fd(), &mut self.entries);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let Some(pid) = parse_u64(name).and_then(|pid| u32::try_from(pid).ok()) else {
                continue;
            };
            let mut path = [0; 16];
            path[..name.len()].copy_from_slice(name);
            path[name.len()..name.len() + 5].copy_from_slice(b"/stat");
            let path = &path[..name.len() + 5];
            // A process that ended since it was listed is no process any more.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let Ok(file) = openat(directory, path, flags, Mode::empty()) else { continue };
            let Ok(length) = File::from(file).read(&mut self.stat) else { continue };
            out.extend(parse_stat(pid, &self.stat[..length]));
        }
        Ok(())
    }
}

/// Source: `proc_pid_stat(5)`. The name stands in parentheses and may hold any byte, also `)`.
fn parse_stat(pid: u32, text: &[u8]) -> Option<Process> {
    let open = text.iter().position(|&b| b == b'(')?;
    let close = text.iter().rposition(|&b| b == b')')?;
    let comm = text.get(open + 1..close)?;
    let mut columns = fields(trim(&text[close + 1..]));
    let state = *columns.next()?.first()?;
    // Column 3 of the manual page was the state; `nth` counts from the one after the last taken.
    let user = columns.nth(10).and_then(parse_u64)?;
    let system = columns.next().and_then(parse_u64)?;
    let threads = columns.nth(4).and_then(parse_u64)?;
    let started = columns.nth(1).and_then(parse_u64)?;
    let resident = columns.nth(1).and_then(parse_i64)?;
    let mut name = [0; 64];
    let kept = comm.len().min(name.len());
    name[..kept].copy_from_slice(&comm[..kept]);
    Some(Process {
        pid,
        state,
        threads,
        started,
        ticks: user.saturating_add(system),
        resident_pages: u64::try_from(resident).unwrap_or(0),
        name,
        name_length: kept as u8,
    })
}
