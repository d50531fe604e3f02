//! Agents with a spool in memory: a batch stays until it is acknowledged, and goes to the next broker under its number.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use model::{Labels, MetricBatch};
use net::rpc::Batch;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Clock, NAME, Sender};
use crate::fleet::member::{Member, Session, numbered};
use crate::values::Random;

/// Before each attempt, at most; as agents do at first.
const BACKOFF: Duration = Duration::from_secs(1);

/// One agent.
pub(super) struct Agent {
    member: Arc<Member>,
    /// Agents in all.
    count: usize,
    batch: MetricBatch,
    /// Sent or not, and not acknowledged.
    kept: VecDeque<(Batch, Duration)>,
    /// The next step, and the number of the last batch.
    step: u64,
    random: Random,
    clock: Arc<Clock>,
}

impl Agent {
    pub(super) fn new(
        member: Arc<Member>,
        count: usize,
        series: usize,
        clock: &Arc<Clock>,
    ) -> Agent {
        let mut batch = MetricBatch::default();
        let who = format!("agent-{:05}", member.index);
        for number in 0..series {
            let number = number.to_string();
            let labels =
                [("__name__", NAME), ("sender", who.as_str()), ("series", number.as_str())];
            batch.push(&Labels::from_pairs(labels).expect("valid labels"), 0, 0.0);
        }
        Agent {
            random: Random::new(member.index as u64),
            member,
            count,
            batch,
            kept: VecDeque::new(),
            step: 0,
            clock: Arc::clone(clock),
        }
    }

    /// Until all steps are acknowledged.
    pub(super) async fn run(mut self) -> Result<()> {
        let mut failed = 0;
        while self.clock.is_sent(self.step) || !self.kept.is_empty() {
            if self.stream(failed).await.is_err() {
                self.clock.failed();
                failed += 1;
                sleep(BACKOFF.mul_f64(self.random.unit())).await;
            }
        }
        Ok(())
    }

    /// One stream, to its end. What falls due meanwhile is kept.
    async fn stream(&mut self, failed: usize) -> Result<()> {
        let member = Arc::clone(&self.member);
        let opening = member.open(failed);
        tokio::pin!(opening);
        let mut session = loop {
            let due = self.due();
            tokio::select! {
                session = &mut opening => break session?,
                () = sleep_until(due), if self.clock.is_sent(self.step) => self.collect(),
            }
        };
        self.forget(session.seq());
        for (batch, _) in &self.kept {
            session.send_numbered(batch.clone()).await?;
        }
        while self.clock.is_sent(self.step) || !self.kept.is_empty() {
            self.go_on(&mut session).await?;
        }
        Ok(())
    }

    async fn go_on(&mut self, session: &mut Session) -> Result<()> {
        tokio::select! {
            biased;
            through = session.acknowledged() => self.forget(through?),
            () = sleep_until(self.due()), if self.clock.is_sent(self.step) => {
                self.collect();
                let (batch, _) = self.kept.back().expect("it was collected");
                session.send_numbered(batch.clone()).await?;
            }
        }
        Ok(())
    }

    fn due(&self) -> Instant {
        let due = self.clock.due(self.step, self.member.index, self.count);
        Instant::from_std(self.clock.begin + due)
    }

    fn collect(&mut self) {
        let due = self.clock.due(self.step, self.member.index, self.count);
        self.batch.timestamps_ms.fill(self.clock.time_ms(due));
        self.batch.values.fill(self.step as f64);
        self.step += 1;
        self.kept.push_back((numbered(self.step, &self.batch), due));
    }

    /// All through this number is stored.
    fn forget(&mut self, through: u64) {
        while let Some((_, due)) = self.kept.pop_front_if(|(batch, _)| batch.seq <= through) {
            self.clock.note(Sender::Agent, due);
        }
    }
}
