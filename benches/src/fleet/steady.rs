//! Every agent sends what it collects once a second, for minutes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant as Clock;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, interval_at, timeout};

use super::member::{Collected, Member};

const PERIOD: Duration = Duration::from_secs(1);
/// Streams opened before the sending begins.
const OPENING: usize = 64;
/// Seconds in which the broker gets to know all series.
pub(super) const NEW_STEPS: usize = 10;
/// For the last acknowledgements.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all agents saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// From sending a batch to its acknowledgement, in milliseconds, in order.
    pub(super) latencies_ms: Vec<f64>,
    /// The same of batches sent when the series were no longer new.
    pub(super) settled_ms: Vec<f64>,
    pub(super) samples: u64,
    /// Batches sent more than a second behind the clock: the simulation itself was too slow.
    pub(super) late: u64,
}

/// A fleet with open streams.
pub(super) struct Connected(Vec<(Arc<Member>, super::member::Session)>);

/// Opens all streams.
pub(super) async fn connect(members: &[Arc<Member>]) -> Result<Connected> {
    let mut opening = JoinSet::new();
    let mut open = Vec::with_capacity(members.len());
    for member in members {
        if opening.len() == OPENING {
            open.push(opening.join_next().await.context("some open")???);
        }
        let member = Arc::clone(member);
        opening.spawn(async move {
            let session = member.open(0).await?;
            anyhow::Ok((member, session))
        });
    }
    while let Some(opened) = opening.join_next().await {
        open.push(opened??);
    }
    Ok(Connected(open))
}

impl Connected {
    /// Sends `series` samples of each agent `steps` times, a second apart, and waits for all
    /// acknowledgements.
    ///
    /// # Errors
    /// A stream ends, samples are refused, or something is not acknowledged a minute after the end.
    pub(super) async fn send(self, series: usize, steps: usize) -> Result<Seen> {
        let begin = Instant::now() + PERIOD;
        let count = u32::try_from(self.0.len())?;
        let mut sending = JoinSet::new();
        for (place, (member, session)) in self.0.into_iter().enumerate() {
            // Spread over the second.
            let first = begin + PERIOD * u32::try_from(place)? / count;
            let collected = Collected::new(member.index, series)?;
            sending.spawn(send(session, collected, first, steps));
        }
        let mut all = Seen::default();
        while let Some(seen) = sending.join_next().await {
            let seen = seen??;
            all.latencies_ms.extend(seen.latencies_ms);
            all.settled_ms.extend(seen.settled_ms);
            all.samples += seen.samples;
            all.late += seen.late;
        }
        all.latencies_ms.sort_by(f64::total_cmp);
        all.settled_ms.sort_by(f64::total_cmp);
        Ok(all)
    }
}

async fn send(
    mut session: super::member::Session,
    mut collected: Collected,
    first: Instant,
    steps: usize,
) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut under_way: VecDeque<(u64, Clock)> = VecDeque::new();
    // A tick that was missed is made up for: as many batches are sent as seconds pass.
    let mut ticks = interval_at(first, PERIOD);
    let mut sent = 0;
    while sent < steps || !under_way.is_empty() {
        let through = if sent < steps {
            tokio::select! {
                biased;
                through = session.acknowledged() => through?,
                due = ticks.tick() => {
                    seen.late += u64::from(due.elapsed() > PERIOD);
                    let batch = collected.pass();
                    seen.samples += batch.samples() as u64;
                    let at = Clock::now();
                    under_way.push_back((session.send(batch).await?, at));
                    sent += 1;
                    continue;
                }
            }
        } else {
            let last = timeout(PATIENCE, session.acknowledged()).await;
            last.with_context(|| format!("{} batches are not acknowledged", under_way.len()))??
        };
        while let Some((_, at)) = under_way.pop_front_if(|(seq, _)| *seq <= through) {
            let ms = at.elapsed().as_secs_f64() * 1e3;
            if seen.latencies_ms.len() >= NEW_STEPS {
                seen.settled_ms.push(ms);
            }
            seen.latencies_ms.push(ms);
        }
    }
    ensure!(seen.latencies_ms.len() == steps, "{} acknowledgements", seen.latencies_ms.len());
    Ok(seen)
}
