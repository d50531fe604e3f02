//! All agents lose their broker at the same moment, and come back as agents do.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, sleep, timeout};

use super::member::{Collected, Member};
use crate::values::Random;

/// The first attempt comes within a second, the next within two, then four, up to five, each at a
/// random moment of it: as agents do, see `docs/operating/agent.md`.
const BASE: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(5);
/// How often agents send that do not only send when they are welcomed.
const PERIOD: Duration = Duration::from_secs(1);
/// For all to be back.
const PATIENCE: Duration = Duration::from_secs(300);

/// One batch.
struct Acknowledged {
    agent: usize,
    sent: Instant,
    at: Instant,
}

/// Agents that stay connected and come back.
pub(super) struct Fleet {
    cut: watch::Sender<u64>,
    acknowledged: mpsc::UnboundedReceiver<Acknowledged>,
    failures: Arc<AtomicU64>,
    count: usize,
}

/// How one return went.
#[derive(Debug)]
pub(super) struct Return {
    /// From the cut until a batch collected after it is acknowledged, for each agent, in seconds,
    /// in order.
    pub(super) seconds: Vec<f64>,
    /// Attempts that failed, for whatever reason; each was repeated.
    pub(super) failures: u64,
    /// From sending a batch to its acknowledgement, for all batches meanwhile, in milliseconds, in order.
    pub(super) acknowledged_ms: Vec<f64>,
}

impl Fleet {
    /// Lets all connect, and send a batch of so many series each time they are welcomed, or besides
    /// each second.
    pub(super) fn start(
        members: &[Arc<Member>],
        series: usize,
        each_second: bool,
    ) -> Result<Fleet> {
        let cut = watch::Sender::new(0);
        let (report, acknowledged) = mpsc::unbounded_channel();
        let failures = Arc::new(AtomicU64::new(0));
        for member in members {
            let agent = Agent {
                collected: Collected::new(member.index, series)?,
                random: Random::new(member.index as u64),
                member: Arc::clone(member),
                cut: cut.subscribe(),
                report: report.clone(),
                failures: Arc::clone(&failures),
                each_second,
            };
            tokio::spawn(agent.run());
        }
        Ok(Fleet { cut, acknowledged, failures, count: members.len() })
    }

    /// Waits until every agent had a batch acknowledged since `begin`.
    pub(super) async fn wait_all(&mut self, begin: Instant) -> Result<Return> {
        let (mut back, mut seconds) = (HashSet::new(), Vec::with_capacity(self.count));
        let mut acknowledged_ms = Vec::new();
        let all = async {
            while seconds.len() < self.count {
                let Acknowledged { agent, sent, at } =
                    self.acknowledged.recv().await.context("the agents ended")?;
                if at < begin {
                    continue;
                }
                acknowledged_ms.push((at - sent).as_secs_f64() * 1e3);
                // What was sent before tells nothing of what comes after.
                if sent >= begin && back.insert(agent) {
                    seconds.push((at - begin).as_secs_f64());
                }
            }
            anyhow::Ok(())
        };
        let outcome = timeout(PATIENCE, all).await;
        let failures = self.failures.swap(0, Ordering::Relaxed);
        match outcome {
            Ok(outcome) => outcome?,
            Err(_) => bail!(
                "only {} of {} agents are back after {PATIENCE:?}; {failures} attempts failed",
                seconds.len(),
                self.count
            ),
        }
        seconds.sort_by(f64::total_cmp);
        acknowledged_ms.sort_by(f64::total_cmp);
        Ok(Return { seconds, failures, acknowledged_ms })
    }

    /// Every agent closes its connection now.
    pub(super) fn cut(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.cut.send_modify(|round| *round += 1);
    }
}

struct Agent {
    member: Arc<Member>,
    collected: Collected,
    random: Random,
    cut: watch::Receiver<u64>,
    report: mpsc::UnboundedSender<Acknowledged>,
    failures: Arc<AtomicU64>,
    each_second: bool,
}

impl Agent {
    /// Until the process ends.
    async fn run(mut self) {
        let (mut attempts, mut failed) = (0, 0);
        loop {
            let most = CAP.min(BASE * (1 << attempts.min(5)));
            sleep(most.mul_f64(self.random.unit())).await;
            attempts += 1;
            let mut welcomed = false;
            let outcome = self.stream(failed, &mut welcomed).await;
            if outcome.is_err() && !welcomed {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
            if welcomed {
                attempts = 0;
            }
            // Whoever lost its broker tries the next one.
            failed += usize::from(outcome.is_err());
        }
    }

    /// One stream, to its end.
    async fn stream(&mut self, failed: usize, welcomed: &mut bool) -> Result<()> {
        let mut session = self.member.open(failed).await?;
        *welcomed = true;
        self.cut.mark_unchanged();
        let mut under_way = VecDeque::new();
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_first = true;
        loop {
            tokio::select! {
                through = session.acknowledged() => {
                    let through = through?;
                    while let Some((_, sent)) = under_way.pop_front_if(|(seq, _)| *seq <= through) {
                        let (agent, at) = (self.member.index, Instant::now());
                        // The bench has what it wanted and ends.
                        let _ = self.report.send(Acknowledged { agent, sent, at });
                    }
                }
                _ = ticks.tick(), if is_first || self.each_second => {
                    is_first = false;
                    let sent = Instant::now();
                    under_way.push_back((session.send(self.collected.pass()).await?, sent));
                }
                _ = self.cut.changed() => return Ok(()),
            }
        }
    }
}
