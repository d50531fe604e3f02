//! All agents lose their broker at the same moment, and come back as agents do.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::member::{Collected, Member};
use crate::values::Random;

/// The first attempt comes within a second, the next within two, then four, up to five, each at a
/// random moment of it: as agents do, see `docs/operating/agent.md`.
const BASE: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(5);
/// For all to be back.
const PATIENCE: Duration = Duration::from_secs(300);

/// Agents that stay connected and come back.
pub(super) struct Fleet {
    cut: watch::Sender<u64>,
    acknowledged: mpsc::UnboundedReceiver<(usize, Instant)>,
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
}

impl Fleet {
    /// Lets all connect, and send a batch of so many series each time they are welcomed.
    pub(super) fn start(members: &[Arc<Member>], series: usize) -> Result<Fleet> {
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
            };
            tokio::spawn(agent.run());
        }
        Ok(Fleet { cut, acknowledged, failures, count: members.len() })
    }

    /// Waits until every agent had a batch acknowledged since `begin`.
    pub(super) async fn wait_all(&mut self, begin: Instant) -> Result<Return> {
        let (mut back, mut seconds) = (HashSet::new(), Vec::with_capacity(self.count));
        let all = async {
            while seconds.len() < self.count {
                let (index, at) = self.acknowledged.recv().await.context("the agents ended")?;
                if at >= begin && back.insert(index) {
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
        Ok(Return { seconds, failures })
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
    report: mpsc::UnboundedSender<(usize, Instant)>,
    failures: Arc<AtomicU64>,
}

impl Agent {
    /// Until the process ends.
    async fn run(mut self) {
        let mut attempts = 0;
        loop {
            let most = CAP.min(BASE * (1 << attempts.min(5)));
            sleep(most.mul_f64(self.random.unit())).await;
            attempts += 1;
            let mut welcomed = false;
            if self.stream(&mut welcomed).await.is_err() && !welcomed {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
            if welcomed {
                attempts = 0;
            }
        }
    }

    /// One stream, to its end.
    async fn stream(&mut self, welcomed: &mut bool) -> Result<()> {
        let mut session = self.member.open().await?;
        *welcomed = true;
        self.cut.mark_unchanged();
        let seq = session.send(self.collected.pass()).await?;
        loop {
            tokio::select! {
                through = session.acknowledged() => if through? == seq {
                    // The bench has what it wanted and ends.
                    let _ = self.report.send((self.member.index, Instant::now()));
                },
                _ = self.cut.changed() => return Ok(()),
            }
        }
    }
}
