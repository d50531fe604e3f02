//! Asks filesystems how full they are, on threads that may hang.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::AgentError;

const THREAD_NAME: &str = "statvfs";

/// How full a filesystem is; sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    pub(crate) size: f64,
    pub(crate) free: f64,
    /// What users other than root may still take.
    pub(crate) available: f64,
    pub(crate) files: f64,
    pub(crate) files_free: f64,
}

/// The last that was heard of a filesystem.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Answer {
    Usage(Usage),
    /// It answered with an error, or not in time.
    Failed,
}

/// A way to ask; may block without end.
pub(crate) type Statvfs = Arc<dyn Fn(&Path) -> io::Result<Usage> + Send + Sync>;

/// The system call.
pub(crate) fn system_statvfs() -> Statvfs {
    Arc::new(|path| {
        let stat = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks as f64 * stat.f_frsize as f64;
        Ok(Usage {
            size: bytes(stat.f_blocks),
            free: bytes(stat.f_bfree),
            available: bytes(stat.f_bavail),
            files: stat.f_files as f64,
            files_free: stat.f_ffree as f64,
        })
    })
}

/// The thread that is asking at present.
struct Worker {
    questions: Sender<PathBuf>,
    /// Tells the thread to ask nothing more, once it can hear again.
    abandoned: Arc<AtomicBool>,
}

struct Reply {
    /// Which thread it is from: they are numbered in the order in which they were started.
    thread_number: u64,
    path: PathBuf,
    result: io::Result<Usage>,
}

/// One thread asks one filesystem after the other. When a filesystem keeps it for longer than the
/// timeout, that thread is left to its fate and another takes over the rest. A filesystem that
/// holds a thread is not asked again, so dead filesystems do not gather threads.
pub(crate) struct Prober {
    statvfs: Statvfs,
    timeout: Duration,
    worker: Option<Worker>,
    /// Number of the present thread.
    thread_number: u64,
    replies: Receiver<Reply>,
    replies_in: Sender<Reply>,
    /// Asked of the present thread and not answered, in order; the first is being asked.
    waiting: VecDeque<PathBuf>,
    /// When the first in `waiting` came to its turn.
    turn_since: Instant,
    /// Those that hold a thread that was left behind.
    hung: HashSet<PathBuf>,
    /// All in `waiting` and `hung`.
    unanswered: HashSet<PathBuf>,
    answers: HashMap<PathBuf, Answer>,
}

impl Prober {
    pub(crate) fn new(statvfs: Statvfs, timeout: Duration) -> Self {
        let (replies_in, replies) = channel();
        Prober {
            statvfs,
            timeout,
            worker: None,
            thread_number: 0,
            replies,
            replies_in,
            waiting: VecDeque::new(),
            turn_since: Instant::now(),
            hung: HashSet::new(),
            unanswered: HashSet::new(),
            answers: HashMap::new(),
        }
    }

    /// Asks the filesystem at `path`, unless an answer is still awaited. Never blocks.
    ///
    /// # Errors
    /// `Thread` if the system gives no thread.
    pub(crate) fn ask(&mut self, path: &Path, now: Instant) -> Result<(), AgentError> {
        if self.unanswered.contains(path) {
            return Ok(());
        }
        if self.waiting.is_empty() {
            self.turn_since = now;
        }
        self.send(path.to_owned())?;
        self.waiting.push_back(path.to_owned());
        self.unanswered.insert(path.to_owned());
        Ok(())
    }

    /// Takes the answers that have come, and leaves a thread behind that takes too long.
    ///
    /// # Errors
    /// `Thread` if the system gives no new thread.
    pub(crate) fn poll(&mut self, now: Instant) -> Result<(), AgentError> {
        while let Ok(reply) = self.replies.try_recv() {
            self.take(reply, now);
        }
        if self.waiting.is_empty() || now.duration_since(self.turn_since) < self.timeout {
            return Ok(());
        }
        let hung = self.waiting.pop_front().expect("checked above");
        tracing::warn!(mountpoint = %hung.display(), "filesystem does not answer");
        self.answers.insert(hung.clone(), Answer::Failed);
        self.hung.insert(hung);
        self.turn_since = now;
        if let Some(worker) = self.worker.take() {
            worker.abandoned.store(true, Ordering::Release);
        }
        for path in self.waiting.clone() {
            self.send(path)?;
        }
        Ok(())
    }

    /// Waits until everything asked is answered, at most `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while !self.waiting.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(reply) = self.replies.recv_timeout(left) else { return };
            self.take(reply, Instant::now());
        }
    }

    /// The last answer of the filesystem at `path`; nothing if it was never asked.
    pub(crate) fn answer(&self, path: &Path) -> Option<Answer> {
        self.answers.get(path).copied()
    }

    /// Forgets the answers of filesystems that `keep` does not know.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Path) -> bool) {
        self.answers.retain(|path, _| keep(path));
    }

    fn take(&mut self, reply: Reply, now: Instant) {
        let Reply { thread_number, path, result } = reply;
        if self.hung.remove(&path) {
            tracing::info!(mountpoint = %path.display(), "filesystem answers again");
        } else if thread_number == self.thread_number {
            // The present thread answers in the order in which it was asked.
            let answered = self.waiting.pop_front();
            assert_eq!(answered.as_ref(), Some(&path), "a channel keeps the order");
            self.turn_since = now;
        } else {
            // A thread was left behind just as it went on to this one, which the present thread
            // asks as well.
            return;
        }
        self.unanswered.remove(&path);
        self.answers.insert(path, result.map_or(Answer::Failed, Answer::Usage));
    }

    /// Hands a question to the present thread, or to a new one if there is none.
    fn send(&mut self, path: PathBuf) -> Result<(), AgentError> {
        let worker = match &self.worker {
            Some(worker) => worker,
            None => {
                let (questions, inbox) = channel::<PathBuf>();
                let abandoned = Arc::new(AtomicBool::new(false));
                self.thread_number += 1;
                let thread = ProbeThread {
                    number: self.thread_number,
                    inbox,
                    statvfs: Arc::clone(&self.statvfs),
                    replies: self.replies_in.clone(),
                    abandoned: Arc::clone(&abandoned),
                };
                thread::Builder::new()
                    .name(THREAD_NAME.to_owned())
                    .spawn(move || thread.run())
                    .map_err(|source| AgentError::Thread { name: THREAD_NAME, source })?;
                self.worker.insert(Worker { questions, abandoned })
            }
        };
        // It can only fail if the thread panicked; then the timeout makes a new one.
        let _ = worker.questions.send(path);
        Ok(())
    }
}

struct ProbeThread {
    number: u64,
    inbox: Receiver<PathBuf>,
    statvfs: Statvfs,
    replies: Sender<Reply>,
    abandoned: Arc<AtomicBool>,
}

impl ProbeThread {
    fn run(self) {
        while let Ok(path) = self.inbox.recv() {
            // What is left in the inbox was handed to the next thread as well.
            if self.abandoned.load(Ordering::Acquire) {
                return;
            }
            let result = (self.statvfs)(&path);
            let reply = Reply { thread_number: self.number, path, result };
            if self.replies.send(reply).is_err() {
                return;
            }
        }
    }
}
