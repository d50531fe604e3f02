//! Live samples for a console.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::stream;
use net::rpc::{LiveEvents, LiveSeries};
use tokio::sync::watch;
use tonic::Status;

use super::{Answers, MESSAGE_BYTES};
use crate::{Feed, LiveBatch};

/// What comes in from now on, until the broker ends. A console that does not read is not written
/// to: then the feed drops and counts.
pub(crate) fn events(feed: Feed, stopping: watch::Receiver<bool>) -> Answers<LiveEvents> {
    let state = (feed, stopping, VecDeque::new());
    Box::pin(stream::unfold(Some(state), |state| async move {
        let (mut feed, mut stopping, mut ready) = state?;
        loop {
            if let Some(message) = ready.pop_front() {
                return Some((Ok(message), Some((feed, stopping, ready))));
            }
            tokio::select! {
                batch = feed.next() => ready.extend(messages(batch)),
                _ = stopping.wait_for(|stopping| *stopping) => {
                    return Some((Err(Status::unavailable("the broker is stopping")), None));
                }
            }
        }
    }))
}

/// New series first, in messages of bounded size, then the samples.
fn messages(batch: LiveBatch) -> Vec<LiveEvents> {
    let mut messages = Vec::new();
    let (mut events, mut bytes) = (LiveEvents::default(), 0);
    for (number, labels) in batch.series {
        let labels = Bytes::copy_from_slice(labels.as_packed());
        bytes += labels.len() + 8;
        events.series.push(LiveSeries { number, labels });
        if bytes >= MESSAGE_BYTES {
            messages.push(std::mem::take(&mut events));
            bytes = 0;
        }
    }
    events.missed = batch.missed;
    for (number, t_ms, value) in batch.samples {
        events.series_numbers.push(number);
        events.timestamps_ms.push(t_ms);
        events.values.push(value);
    }
    messages.push(events);
    messages
}
