//! One piece of a query, computed elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use governor::Held;
use net::rpc::EvaluateRequest;
use promql::QueryOutput;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Code, Status};

use super::{Spread, Worker, message};
use crate::data::Work;

/// A broker that has not begun to answer after so long does not answer.
const BEGIN_WAIT: Duration = Duration::from_secs(1);
/// One that answers says at least so often that it is still at work.
const PART_WAIT: Duration = Duration::from_secs(5);

/// What another broker computed, all of it.
pub(crate) struct Arrived {
    pub(crate) output: QueryOutput,
    /// Its memory.
    pub(crate) held: Held,
}

/// Why there is no answer.
enum Unanswered {
    /// The broker does not answer, or cannot now.
    Away(String),
    /// Another one would answer no better.
    Final(String),
}

/// Asks those that are nearest, one after the other, until `until`. `None`: the piece is to be computed
/// here. What one could not read it may be that this one can; so an answer in part is none.
pub(crate) async fn ask(
    spread: Arc<Spread>,
    nearest: Vec<Worker>,
    request: EvaluateRequest,
    work: Work,
    until: Instant,
) -> Option<Arrived> {
    for worker in &nearest {
        let outcome = if spread.is_silent(worker) {
            Err(Unanswered::Away("it did not answer lately".to_owned()))
        } else {
            let request = EvaluateRequest { to: worker.number, ..request.clone() };
            let attempt = attempt(&spread, worker, request, &work);
            match timeout_at(until, attempt).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Unanswered::Final("it takes too long".to_owned())),
            }
        };
        let why = match outcome {
            Ok(arrived) => {
                count(&spread.counters.elsewhere, 1);
                return Some(arrived);
            }
            Err(why) => why,
        };
        count(&spread.counters.unanswered, 1);
        match why {
            Unanswered::Away(why) => {
                tracing::debug!(broker = worker.name, why, "another is asked for its part");
            }
            Unanswered::Final(why) => {
                tracing::debug!(broker = worker.name, why, "its part is computed here");
                return None;
            }
        }
    }
    None
}

async fn attempt(
    spread: &Spread,
    worker: &Worker,
    request: EvaluateRequest,
    work: &Work,
) -> Result<Arrived, Unanswered> {
    let silent = |why: String| {
        spread.note_silent(worker);
        Unanswered::Away(why)
    };
    let too_large = |error: governor::Refused| Unanswered::Final(error.to_string());
    let query = request.query.clone();
    let mut parts = spread.workers.evaluate(worker, request);
    let mut held = work.hold(0).map_err(too_large)?;
    let mut bytes = Vec::new();
    let mut wait = BEGIN_WAIT;
    loop {
        let part = match timeout(wait, parts.next()).await {
            Ok(Some(Ok(part))) => part,
            Ok(Some(Err(status))) => return Err(refused(&status, silent)),
            Ok(None) => return Err(silent("its answer ended in the middle".to_owned())),
            Err(_) => {
                return Err(silent(format!("nothing came for {} s", wait.as_secs_f64())));
            }
        };
        wait = PART_WAIT;
        held.resize(bytes.len() + part.piece.len()).map_err(too_large)?;
        bytes.extend_from_slice(&part.piece);
        count(&spread.counters.received_bytes, part.piece.len() as u64);
        if part.is_last {
            break;
        }
    }
    let decoded = message::decode(bytes.into(), &query, &mut held).map_err(Unanswered::Final)?;
    match decoded.missing.first() {
        None => Ok(Arrived { output: decoded.output, held }),
        Some(what) => Err(Unanswered::Final(format!("its answer is not whole: {what}"))),
    }
}

/// One that is busy is not silent; one that finds fault with the question leaves it to this broker, whose
/// words the user reads.
fn refused(status: &Status, silent: impl Fn(String) -> Unanswered) -> Unanswered {
    let words = net::status_words(status);
    match status.code() {
        Code::ResourceExhausted => Unanswered::Away(words),
        Code::InvalidArgument => Unanswered::Final(words),
        _ => silent(words),
    }
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
