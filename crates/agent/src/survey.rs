//! Collectors that may be slow or hang, on a thread that is not the pass's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::collector::{Collector, Host, Outcome};
use crate::error::AgentError;
use crate::reading::{Reading, SeriesTable};
use crate::series::Samples;

const THREAD_NAME: &str = "host-survey";

/// A survey that has not answered after this time is hung.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Passes come some microseconds early or late; without slack a period would often last one pass
/// more.
const SLACK: Duration = Duration::from_millis(50);

/// In how many parts a period is divided to spread the surveys over it.
const PHASES: u32 = 8;

/// A collector that may take its time: it reads many files, or files behind which stand a
/// firmware, a bus, a disk or another host. It runs rarely and may allocate.
pub(crate) trait Survey: Send {
    /// The value of the label `collector`.
    fn name(&self) -> &'static str;

    /// Time from one run to the next.
    fn period(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Reads what the host says now. May block.
    ///
    /// # Errors
    /// The source is absent or unreadable. What was read before counts.
    fn read(&mut self, out: &mut Reading) -> Result<(), AgentError>;
}

/// A survey on its way to a thread, and back with what it read.
struct Job {
    place: usize,
    survey: Box<dyn Survey>,
    reading: Reading,
}

struct Reply {
    job: Job,
    answer: Answer,
}

/// How a run of a survey went.
struct Answer {
    result: Result<(), AgentError>,
    spent: Duration,
}

/// Where a survey is now.
enum State {
    Idle(Box<dyn Survey>, Reading),
    /// Handed to a thread, or waiting for one. A survey that panics stays there, then is hung.
    Out,
    /// Handed to a thread that was left behind; `true` until the registry was told.
    Hung(bool),
    Answered(Box<dyn Survey>, Reading, Answer),
}

struct Place {
    name: &'static str,
    period: Duration,
    due: Option<Instant>,
    state: State,
}

/// Runs surveys one after the other on one thread. When one keeps the thread for longer than the
/// timeout, that thread is left to its fate and another goes on with the rest. A hung survey does
/// not run again until its thread comes back, so dead devices do not gather threads.
pub(crate) struct Surveyor {
    timeout: Duration,
    places: Vec<Place>,
    jobs_in: Sender<Job>,
    jobs: Arc<Mutex<Receiver<Job>>>,
    replies_in: Sender<Reply>,
    replies: Receiver<Reply>,
    /// Tells the present thread to take no further survey, once it can hear again.
    worker: Option<Arc<AtomicBool>>,
    /// Handed out and not answered, in order; the first is running.
    waiting: VecDeque<usize>,
    /// When the first in `waiting` came to its turn.
    turn_since: Instant,
}

impl Surveyor {
    /// Without any survey.
    pub(crate) fn new(timeout: Duration) -> Self {
        let (jobs_in, jobs) = channel();
        let (replies_in, replies) = channel();
        Surveyor {
            timeout,
            places: Vec::new(),
            jobs_in,
            jobs: Arc::new(Mutex::new(jobs)),
            replies_in,
            replies,
            worker: None,
            waiting: VecDeque::new(),
            turn_since: Instant::now(),
        }
    }

    /// Takes a survey over; yields the collector that emits what it reads.
    pub(crate) fn add(&mut self, survey: Box<dyn Survey>) -> Background {
        let (name, period) = (survey.name(), survey.period());
        let state = State::Idle(survey, Reading::default());
        self.places.push(Place { name, period, due: None, state });
        Background { place: self.places.len() - 1, name, table: SeriesTable::default() }
    }

    /// Hands out the surveys whose time has come. Never blocks.
    ///
    /// # Errors
    /// `Thread` if the system gives no thread.
    pub(crate) fn start_due(&mut self, now: Instant) -> Result<(), AgentError> {
        for index in 0..self.places.len() {
            let place = &mut self.places[index];
            let idle = matches!(place.state, State::Idle(..));
            if !idle || place.due.is_some_and(|due| now + SLACK < due) {
                continue;
            }
            // All run at the start; from then on they are spread over the period.
            place.due = Some(match place.due {
                Some(_) => now + place.period,
                None => now + place.period * (1 + index as u32 % PHASES) / PHASES,
            });
            if let State::Idle(survey, reading) = std::mem::replace(&mut place.state, State::Out) {
                if self.waiting.is_empty() {
                    self.turn_since = now;
                }
                self.waiting.push_back(index);
                let job = Job { place: index, survey, reading };
                self.jobs_in.send(job).expect("the surveyor holds the other end");
            }
        }
        if self.worker.is_none() && !self.waiting.is_empty() {
            self.worker = Some(self.start_worker()?);
        }
        Ok(())
    }

    /// Takes the answers that have come, waiting for all at most `patience`, and leaves a thread
    /// behind that takes too long.
    ///
    /// # Errors
    /// `Thread` if the system gives no new thread.
    pub(crate) fn settle(&mut self, patience: Duration) -> Result<(), AgentError> {
        while let Ok(reply) = self.replies.try_recv() {
            self.take(reply);
        }
        let deadline = Instant::now() + patience;
        while !self.waiting.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let Ok(reply) = self.replies.recv_timeout(left) else { break };
            self.take(reply);
        }
        if self.waiting.is_empty() || self.turn_since.elapsed() < self.timeout {
            return Ok(());
        }
        let hung = self.waiting.pop_front().expect("checked above");
        self.places[hung].state = State::Hung(true);
        self.turn_since = Instant::now();
        if let Some(abandoned) = self.worker.take() {
            abandoned.store(true, Ordering::Release);
        }
        self.worker = Some(self.start_worker()?);
        Ok(())
    }

    fn take(&mut self, reply: Reply) {
        let Reply { job: Job { place, survey, reading }, answer } = reply;
        if matches!(self.places[place].state, State::Hung(_)) {
            tracing::info!(collector = self.places[place].name, "collector answers again");
        }
        self.waiting.retain(|&waiting| waiting != place);
        self.turn_since = Instant::now();
        self.places[place].state = State::Answered(survey, reading, answer);
    }

    fn start_worker(&self) -> Result<Arc<AtomicBool>, AgentError> {
        let abandoned = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            jobs: Arc::clone(&self.jobs),
            replies: self.replies_in.clone(),
            abandoned: Arc::clone(&abandoned),
        };
        thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || worker.run())
            .map_err(|source| AgentError::Thread { name: THREAD_NAME, source })?;
        Ok(abandoned)
    }

    #[cfg(test)]
    pub(crate) fn is_busy(&self) -> bool {
        !self.waiting.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }
}

struct Worker {
    jobs: Arc<Mutex<Receiver<Job>>>,
    replies: Sender<Reply>,
    abandoned: Arc<AtomicBool>,
}

impl Worker {
    fn run(self) {
        while !self.abandoned.load(Ordering::Acquire) {
            let job = match self.jobs.lock() {
                Ok(jobs) => jobs.recv(),
                Err(_) => return,
            };
            let Ok(mut job) = job else { return };
            let began = Instant::now();
            job.reading.clear();
            let result = job.survey.read(&mut job.reading);
            let answer = Answer { result, spent: began.elapsed() };
            if self.replies.send(Reply { job, answer }).is_err() {
                return;
            }
        }
    }
}

/// Emits what one survey read, in the pass after it did.
///
/// A survey's series get a sample when it ran and none in between; they end with stale markers
/// when it fails, hangs or does not find them any more.
pub(crate) struct Background {
    place: usize,
    name: &'static str,
    table: SeriesTable,
}

impl Collector for Background {
    fn name(&self) -> &'static str {
        self.name
    }

    fn collect(&mut self, host: &mut Host, out: &mut Samples) -> Result<Outcome, AgentError> {
        let surveyor = &mut host.surveyor;
        let timeout = surveyor.timeout;
        let state = &mut surveyor.places[self.place].state;
        match std::mem::replace(state, State::Out) {
            State::Answered(survey, reading, Answer { result, spent }) => {
                self.table.emit(&reading, out);
                *state = State::Idle(survey, reading);
                Ok(Outcome::Surveyed(spent, result))
            }
            State::Hung(true) => {
                *state = State::Hung(false);
                self.table.clear(out);
                Err(AgentError::Hung { collector: self.name, timeout })
            }
            other => {
                *state = other;
                Ok(Outcome::NotDue)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use model::{Labels, MetricBatch};

    use super::*;
    use crate::collectors::Made;
    use crate::config::AgentConfig;
    use crate::counters::AgentCounters;
    use crate::registry::Registry;
    use crate::series::Family;

    const READING: Family = Family::gauge("reading", "What was read.");

    /// Reads what it is told: a number, or nothing until it is told something.
    struct Told {
        name: &'static str,
        inbox: Receiver<Result<f64, ()>>,
    }

    impl Survey for Told {
        fn name(&self) -> &'static str {
            self.name
        }

        fn period(&self) -> Duration {
            Duration::ZERO
        }

        fn read(&mut self, out: &mut Reading) -> Result<(), AgentError> {
            match self.inbox.recv() {
                Ok(Ok(value)) => {
                    out.put(&READING, &[("from", self.name)], value);
                    Ok(())
                }
                _ => Err(AgentError::NoData { path: "told".into() }),
            }
        }
    }

    struct Bench {
        registry: Registry,
        counters: AgentCounters,
        senders: Vec<Sender<Result<f64, ()>>>,
    }

    impl Bench {
        fn new(names: &[&'static str], timeout: Duration) -> Self {
            let (mut made, mut senders) = (Vec::new(), Vec::new());
            for name in names {
                let (sender, inbox) = channel();
                made.push(Made::Survey(Box::new(Told { name, inbox })));
                senders.push(sender);
            }
            let mut registry = Registry::with(made, &AgentConfig::default());
            registry.set_survey_timeout(timeout);
            Bench { registry, counters: AgentCounters::new(names), senders }
        }

        /// A pass; `from=value` of each reading, `nan` for a stale marker, `!name` for a failure.
        fn pass(&mut self) -> Vec<String> {
            let batch = self.registry.pass(1, 1, MetricBatch::default(), &self.counters);
            self.registry.delivered();
            let mut lines = Vec::new();
            for series in &batch.series {
                let labels = Labels::from_packed(batch.label_bytes_of(series)).expect("packed");
                let value = batch.values[series.first_row as usize];
                let shown =
                    if model::is_stale_nan(value) { "stale".to_owned() } else { value.to_string() };
                match (labels.metric_name(), labels.get("from"), labels.get("collector")) {
                    (Some("reading"), Some(from), _) => lines.push(format!("{from}={shown}")),
                    (Some("node_scrape_collector_success"), _, Some(name)) if value == 0.0 => {
                        lines.push(format!("!{name}"));
                    }
                    _ => {}
                }
            }
            lines.sort();
            lines
        }

        /// Passes until one says something.
        fn next(&mut self) -> Vec<String> {
            for _ in 0..2_000 {
                let lines = self.pass();
                if !lines.is_empty() {
                    return lines;
                }
                thread::sleep(Duration::from_millis(1));
            }
            panic!("no survey answers");
        }
    }

    #[test]
    fn a_survey_that_fails_ends_its_series() {
        let mut bench = Bench::new(&["a"], TIMEOUT);
        bench.senders[0].send(Ok(1.0)).expect("it runs");
        assert_eq!(bench.next(), ["a=1"]);
        assert!(bench.pass().is_empty(), "nothing is said twice");
        bench.senders[0].send(Err(())).expect("it runs");
        assert_eq!(bench.next(), ["!a", "a=stale"]);
        bench.senders[0].send(Ok(2.0)).expect("it runs");
        assert_eq!(bench.next(), ["a=2"]);
    }

    #[test]
    fn a_hung_survey_delays_no_other_and_comes_back() {
        let mut bench = Bench::new(&["a", "b"], Duration::from_millis(60));
        for sender in &bench.senders {
            sender.send(Ok(1.0)).expect("it runs");
        }
        let mut lines = bench.next();
        while lines.len() < 2 {
            lines.extend(bench.next());
        }
        lines.sort();
        assert_eq!(lines, ["a=1", "b=1"]);
        // Now `a` says nothing, and `b` waits behind it.
        for value in 2..5 {
            bench.senders[1].send(Ok(f64::from(value))).expect("it runs");
        }
        let mut lines = Vec::new();
        while !lines.contains(&"b=4".to_owned()) {
            lines.extend(bench.next());
        }
        let hung: Vec<_> = lines.iter().filter(|line| !line.starts_with("b=")).collect();
        assert_eq!(hung[..2], ["!a", "a=stale"], "{lines:?}");
        // It is left alone until its thread comes back.
        bench.senders[0].send(Ok(9.0)).expect("it waits");
        let mut lines = Vec::new();
        while !lines.contains(&"a=9".to_owned()) {
            bench.senders[1].send(Ok(5.0)).expect("it runs");
            lines.extend(bench.next());
        }
    }
}
