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
