//! The way from the spool of lines to a broker of the same process.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use model::LogBatch;

use super::collector::Collector;
use super::config::LogsConfig;
use super::line_spool::LineSpool;
use super::status::CollectionStatus;
use crate::clock::Now;
use crate::counters::CounterRow;
use crate::error::AgentError;
use crate::spool::SpoolCounters;

const THREAD_NAME: &str = "log-deliver";
/// Batches under way at once.
const WINDOW: usize = 4;
/// After a refusal that may pass.
const RETRY: Duration = Duration::from_secs(1);
/// The longest sleep.
const TICK: Duration = Duration::from_millis(500);

/// A batch of lines with the number it keeps for ever.
#[derive(Debug)]
pub struct NumberedLines {
    /// Grows from batch to batch.
    pub seq: u64,
    /// The batch that must be stored before; 0 if there is none or it is known to be stored.
    pub after_seq: u64,
    /// Whose they are; `None` for the tenant of this process.
    pub tenant: Option<String>,
    /// The lines.
    pub lines: LogBatch,
}

/// Why a batch is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinesRefused {
    /// It may be later: it comes again.
    Now(String),
    /// It never will be, and the broker has noted that it is passed over.
    Never(String),
}

/// What is told of a batch: how many of its lines are stored.
pub type OnDelivered = Box<dyn FnOnce(Result<u64, LinesRefused>) + Send>;

/// Who stores lines. Each number of an incarnation is stored once, however often it comes.
pub trait LineStore: Send + Sync {
    /// Through which number everything of a spool is stored; `None` if that cannot be told now. Blocks.
    fn stored_through(&self, incarnation: [u8; 16]) -> Option<u64>;

    /// Stores a batch; `done` is called when it is durable, was so before, or is refused. Batches come in
    /// the order of their numbers. May block while there is no room.
    fn store(&self, incarnation: [u8; 16], lines: NumberedLines, done: OnDelivered);
}

/// Collects lines of this host into a broker of the same process.
pub struct LocalCollection {
    collector: Option<Collector>,
    stop: Arc<AtomicBool>,
    bell: Bell,
    thread: Option<JoinHandle<()>>,
    status: Arc<CollectionStatus>,
}

/// Wakes the thread; however often it is rung, one message waits.
#[derive(Clone)]
struct Bell {
    sender: Sender<Heard>,
    rings: Arc<AtomicBool>,
}

impl Bell {
    fn ring(&self) {
        if !self.rings.swap(true, Ordering::AcqRel) {
            let _ = self.sender.send(Heard::Put);
        }
    }
}

enum Heard {
    /// Something was put into the spool.
    Put,
    /// What became of a batch, and in which round it was sent.
    Answer { round: u64, seq: u64, lines: u32, result: Result<u64, LinesRefused> },
}

impl LocalCollection {
    /// Starts to collect.
    ///
    /// # Errors
    /// The spool cannot be opened; no thread.
    pub fn start(
        config: LogsConfig,
        store: Arc<dyn LineStore>,
    ) -> Result<LocalCollection, AgentError> {
        let counters = Arc::new(SpoolCounters::default());
        let (spool, positions) = super::open_spool(&config, Arc::clone(&counters))?;
        let status = Arc::new(CollectionStatus::default());
        let stop = Arc::new(AtomicBool::new(false));
        // Few batches are under way, so few answers wait: whoever answers must not.
        let (sender, heard) = channel();
        let bell = Bell { sender, rings: Arc::default() };
        let delivery = Delivery {
            spool: Arc::clone(&spool),
            store,
            bell: bell.clone(),
            heard,
            stop: Arc::clone(&stop),
            status: Arc::clone(&status),
            round: 0,
            under_way: VecDeque::new(),
            last_sent: 0,
            retry_at: None,
            complained: String::new(),
        };
        let thread = thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || delivery.run())
            .map_err(|source| AgentError::Thread { name: THREAD_NAME, source })?;
        let ring = bell.clone();
        let put = Box::new(move || ring.ring());
        let collector =
            Collector::start(config, spool, positions, Arc::clone(&status), counters, put)?;
        Ok(LocalCollection { collector: Some(collector), stop, bell, thread: Some(thread), status })
    }

    /// How collecting goes.
    pub fn status(&self) -> &Arc<CollectionStatus> {
        &self.status
    }

    /// Where syslog is received, in the order of the configuration.
    pub fn syslog_addresses(&self) -> Vec<SocketAddr> {
        self.collector.as_ref().map_or_else(Vec::new, Collector::addresses)
    }

    /// Everything that is counted, for `/metrics`.
    pub fn rows(&self) -> Vec<CounterRow> {
        self.status.rows()
    }

    /// Ends collecting. What is in the spool is stored after the next start. Blocks.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.collector = None;
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the delivery of lines panicked; it goes on after a restart");
        }
    }
}

impl Drop for LocalCollection {
    fn drop(&mut self) {
        self.end();
    }
}

struct Delivery {
    spool: Arc<LineSpool>,
    store: Arc<dyn LineStore>,
    bell: Bell,
    heard: Receiver<Heard>,
    stop: Arc<AtomicBool>,
    status: Arc<CollectionStatus>,
    /// Answers to what was sent in an earlier one count for nothing.
    round: u64,
    /// In the order in which they were sent: number, and whether it is answered.
    under_way: VecDeque<(u64, bool)>,
    last_sent: u64,
    retry_at: Option<Instant>,
    complained: String,
}

impl Delivery {
    fn run(mut self) {
        let mut knows_mark = false;
        while !self.stop.load(Ordering::Acquire) {
            let now = Now::get();
            if self.retry_at.is_none_or(|at| at <= now.at) {
                self.retry_at = None;
                if !knows_mark {
                    knows_mark = self.ask_mark();
                }
                if knows_mark {
                    self.send();
                } else {
                    self.retry_at = Some(now.at + RETRY);
                }
            }
            self.spool.write_positions(now, false);
            let heard = match self.heard.recv_timeout(TICK) {
                Ok(heard) => heard,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match heard {
                Heard::Put => self.bell.rings.store(false, Ordering::Release),
                Heard::Answer { round, seq, lines, result } => {
                    knows_mark &= self.answered(round, seq, lines, result);
                }
            }
        }
        // Answers that are under way are awaited for a moment, so that the next start sends less again.
        let until = Instant::now() + RETRY;
        while !self.under_way.is_empty() && Instant::now() < until {
            if let Ok(Heard::Answer { round, seq, lines, result }) = self.heard.recv_timeout(TICK) {
                self.answered(round, seq, lines, result);
            }
        }
        self.spool.write_positions(Now::get(), true);
    }

    /// Learns what is stored, and begins behind it.
    fn ask_mark(&mut self) -> bool {
        let Some(through) = self.store.stored_through(*self.spool.incarnation()) else {
            return false;
        };
        if through > 0 {
            self.spool.acknowledge(through);
        }
        self.spool.rewind();
        self.round += 1;
        self.under_way.clear();
        self.last_sent = 0;
        true
    }

    fn send(&mut self) {
        while self.under_way.len() < WINDOW {
            let Some(record) = self.spool.next() else { return };
            let decoded = wire::agent_lines::decode(&record.payload, usize::MAX);
            let (tenant, lines) = match decoded {
                Ok(decoded) => decoded,
                Err(error) => {
                    // Its checksum is right, so another version packed it.
                    tracing::warn!(%error, lines = record.lines, "a batch of lines cannot be unpacked");
                    self.status.refused_lines.add(u64::from(record.lines));
                    (None, LogBatch::default())
                }
            };
            let after_seq = std::mem::replace(&mut self.last_sent, record.seq);
            let lines = NumberedLines { seq: record.seq, after_seq, tenant, lines };
            let (sender, round) = (self.bell.sender.clone(), self.round);
            let (seq, count) = (record.seq, record.lines);
            self.under_way.push_back((seq, false));
            let done = Box::new(move |result| {
                // The channel is gone when nobody wants to know.
                let _ = sender.send(Heard::Answer { round, seq, lines: count, result });
            });
            self.store.store(*self.spool.incarnation(), lines, done);
        }
    }

    /// Takes note of an answer; false if all is to be sent again from what is stored.
    fn answered(
        &mut self,
        round: u64,
        seq: u64,
        lines: u32,
        result: Result<u64, LinesRefused>,
    ) -> bool {
        if round != self.round {
            return true;
        }
        match result {
            Ok(stored) => {
                self.status.delivered_lines.add(stored);
                self.complained.clear();
                self.done(seq);
                true
            }
            Err(LinesRefused::Never(reason)) => {
                self.status.refused_lines.add(u64::from(lines));
                self.complain(&reason, "lines were not stored and never will be");
                self.done(seq);
                true
            }
            Err(LinesRefused::Now(reason)) => {
                self.complain(&reason, "lines cannot be stored now; they wait in the spool");
                self.round += 1;
                self.under_way.clear();
                self.retry_at = Some(Instant::now() + RETRY);
                false
            }
        }
    }

    /// Acknowledges as far as everything before is answered, too.
    fn done(&mut self, seq: u64) {
        if let Some(entry) = self.under_way.iter_mut().find(|entry| entry.0 == seq) {
            entry.1 = true;
        }
        while let Some((seq, _)) = self.under_way.pop_front_if(|entry| entry.1) {
            self.spool.acknowledge(seq);
        }
    }

    fn complain(&mut self, reason: &str, what: &str) {
        if self.complained != reason {
            reason.clone_into(&mut self.complained);
            tracing::warn!(reason, "{what}");
        }
    }
}
