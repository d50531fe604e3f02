//! Range queries in pieces: those of this broker's queries that others compute, and those of others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use governor::Held;
use net::rpc::EvaluateRequest;
use net::{ApiError, ErrorType};
use promql::{EvalError, EvalTime, QueryOutput, QueryStats, QueryValue, locality, selectors_of};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{CancelOnDrop, Executor, Job, LOOK_EVERY, Session, why};
use crate::cache::{Piece, join};
use crate::counted::QueryData;
use crate::respond::{eval_error, source_error};
use crate::running;
use crate::spread::{Arrived, Cut, Spread, ask, cut, encode};

/// How long a piece of another broker's query waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(1);
/// Of the time of a query, the share that other brokers may use up: what they do not compute by then is
/// computed here in the rest.
const SHARE_ELSEWHERE: u32 = 2;

/// What a piece yields, and the memory of what came from elsewhere.
type Computed = (QueryOutput, Option<Held>);

impl Session<'_> {
    /// Evaluates, at several brokers where that is worth it.
    pub(super) fn evaluate(&self, time: EvalTime) -> Result<QueryOutput, ApiError> {
        let cuts = self.spread.and_then(|spread| Some((spread, self.cuts(spread, time)?)));
        let Some((spread, cuts)) = cuts else { return self.evaluate_here(time) };
        let EvalTime::Range { step_ms, .. } = time else { return self.evaluate_here(time) };
        let Some(outputs) = self.evaluate_pieces(spread, &cuts, step_ms)? else {
            return self.evaluate_here(time);
        };
        self.joined(&cuts, outputs, step_ms)
    }

    /// Which steps are for whom; `None` if all are for this broker.
    fn cuts(&self, spread: &Spread, time: EvalTime) -> Option<Vec<Cut>> {
        let EvalTime::Range { start_ms, end_ms, step_ms } = time else { return None };
        // What is measured is measured in one place, and what looks at no data is near to everybody.
        if self.job.is_measured || selectors_of(&self.job.expr).is_empty() {
            return None;
        }
        let tenant = spread.workers.tenant_number(self.job.asked.tenant)?;
        let locality = locality(&self.job.expr, step_ms, self.job.lookback_ms)?;
        let nearest = |days: &[i64]| spread.workers.nearest(tenant, days);
        cut((start_ms, end_ms, step_ms), locality, spread.workers.now_ms(), nearest)
    }

    /// The results of all pieces, in their order, with the memory they take; `None` if they cannot be
    /// joined.
    fn evaluate_pieces(
        &self,
        spread: &Arc<Spread>,
        cuts: &[Cut],
        step_ms: i64,
    ) -> Result<Option<Vec<Computed>>, ApiError> {
        let Ok(runtime) = Handle::try_current() else { return Ok(None) };
        spread.counters.queries.fetch_add(1, Ordering::Relaxed);
        let mut elsewhere = JoinSet::new();
        let until = Instant::now() + self.time_limit / SHARE_ELSEWHERE;
        let mut outputs: Vec<Option<Computed>> = Vec::new();
        for (number, cut) in cuts.iter().enumerate() {
            outputs.push(None);
            if cut.nearest.is_empty() {
                continue;
            }
            let request = self.request(spread, cut, step_ms);
            let (spread, work) = (Arc::clone(spread), Arc::clone(self.work));
            let asked = ask(spread, cut.nearest.clone(), request, work, until);
            elsewhere.spawn_on(async move { (number, asked.await) }, &runtime);
        }
        let here = |cut: &Cut| {
            // Alone it might be answered from longer windows of rollups than among others.
            let is_alone = cut.start_ms == cut.end_ms;
            let start_ms = if is_alone { cut.start_ms - step_ms } else { cut.start_ms };
            let time = EvalTime::Range { start_ms, end_ms: cut.end_ms, step_ms };
            self.evaluate_here(time).map(|output| (output, None))
        };
        for (cut, output) in cuts.iter().zip(&mut outputs).filter(|(cut, _)| cut.nearest.is_empty())
        {
            *output = Some(here(cut)?);
        }
        loop {
            if self.work.is_cancelled() {
                return Err(eval_error(EvalError::Cancelled));
            }
            match runtime.block_on(async { timeout(LOOK_EVERY, elsewhere.join_next()).await }) {
                Err(_) => {}
                Ok(None) => break,
                Ok(Some(Ok((number, Some(Arrived { output, held }))))) => {
                    outputs[number] = Some((output, Some(held)));
                }
                Ok(Some(Ok((number, None)))) => {
                    spread.counters.back.fetch_add(1, Ordering::Relaxed);
                    outputs[number] = Some(here(&cuts[number])?);
                }
                Ok(Some(Err(panic))) => {
                    tracing::error!(%panic, "asking another broker failed inside");
                }
            }
        }
        let mut whole = Vec::with_capacity(outputs.len());
        for (cut, output) in cuts.iter().zip(outputs) {
            whole.push(match output {
                Some(output) => output,
                None => here(cut)?,
            });
        }
        // A remark about all steps together cannot be made of those about some of them.
        let is_summary =
            |(output, _): &Computed| output.annotations.iter().any(|note| note.is_summary);
        Ok((!whole.iter().any(is_summary)).then_some(whole))
    }

    fn request(&self, spread: &Spread, cut: &Cut, step_ms: i64) -> EvaluateRequest {
        let asked = &self.job.asked;
        EvaluateRequest {
            to: 0,
            tenant: asked.tenant.to_string(),
            tenant_number: spread.workers.tenant_number(asked.tenant).unwrap_or(u32::MAX),
            query: asked.text.clone(),
            start_ms: cut.start_ms,
            end_ms: cut.end_ms,
            step_ms,
            lookback_ms: self.job.lookback_ms,
            use_start_timestamps: self.terms.use_start_timestamps,
            type_and_unit_labels: self.terms.type_and_unit_labels,
            max_samples: self.terms.max_samples as u64,
            timeout_ms: u64::try_from((self.time_limit / SHARE_ELSEWHERE).as_millis())
                .unwrap_or(u64::MAX),
            client: asked.client.clone(),
        }
    }

    /// One result of those of the pieces.
    ///
    /// # Errors
    /// Together they are more than a query may hold.
    fn joined(
        &self,
        cuts: &[Cut],
        outputs: Vec<Computed>,
        step_ms: i64,
    ) -> Result<QueryOutput, ApiError> {
        let mut stats = QueryStats::default();
        // As an evaluation alone counts: steps without a value as well.
        let (mut pieces, mut held, mut points) = (Vec::new(), Vec::new(), 0_usize);
        for (cut, (output, memory)) in cuts.iter().zip(outputs) {
            let QueryOutput { value, annotations, stats: took, .. } = output;
            let QueryValue::Matrix(series) = value else { unreachable!("a range yields a matrix") };
            stats.samples_read += took.samples_read;
            stats.series_selected += took.series_selected;
            stats.peak_samples = stats.peak_samples.max(took.peak_samples);
            let steps = usize::try_from((cut.end_ms - cut.start_ms) / step_ms + 1);
            points =
                points.saturating_add(series.len().saturating_mul(steps.unwrap_or(usize::MAX)));
            held.push(memory);
            pieces.push(Piece {
                start_ms: cut.start_ms,
                end_ms: cut.end_ms,
                series: Arc::new(series),
                annotations: Arc::new(annotations),
            });
        }
        let limit = self.terms.max_samples;
        if points > limit {
            return Err(eval_error(promql::too_many_samples(limit)));
        }
        // While the pieces are there as well.
        let room = running::hold(self.work, points.saturating_mul(16)).map_err(source_error)?;
        let (series, annotations) = join(&pieces);
        drop((pieces, held, room));
        stats.peak_samples = stats.peak_samples.max(points as u64);
        Ok(QueryOutput { value: QueryValue::Matrix(series), annotations, stats, profile: None })
    }
}

impl Executor {
    /// Computes a piece of another broker's query: the answer as it travels, and its memory. Dropping the
    /// future cancels the work within milliseconds.
    pub(crate) async fn run_piece(self: &Arc<Self>, job: Job) -> Result<(Bytes, Held), ApiError> {
        let busy = |what: String| ApiError::new(ErrorType::Unavailable, what);
        let Some(spread) = self.spread.clone() else {
            return Err(busy("this broker computes nothing for others".to_owned()));
        };
        let tenant = job.asked.tenant;
        let own = self.limit(tenant, |limits| limits.max_concurrent_queries);
        let turn = spread.places.turn(tenant, Some(own).filter(|most| *most > 0));
        let Ok(turn) = timeout(TURN_WAIT, turn).await else {
            return Err(busy(format!(
                "{} parts of queries are computed for other brokers already \
                 (limits.max_concurrent_queries)",
                self.max_concurrent
            )));
        };
        if !self.governor.admits_query() {
            return Err(busy(self.governor.query_refusal()));
        }
        let time_limit = self.time_limit(&job);
        let work = self.governor.account();
        let mut guard = CancelOnDrop::new(&work);
        let executor = Arc::clone(self);
        let evaluation = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let place = executor.queries.begin(job.asked.clone(), work);
            let data = executor.query_data(&place.query);
            let query = Arc::clone(&place.query);
            let answer = executor.evaluate_piece(&job, &data, &query.work);
            answer.map_err(|error| why(&query, error))
        });
        match timeout(time_limit, evaluation).await {
            Ok(Ok(answer)) => {
                guard.disarm();
                let answer = answer?;
                spread.counters.computed.fetch_add(1, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(Err(panic)) => {
                tracing::error!(%panic, "a part of a query failed inside");
                Err(busy("the query failed inside; see the log".to_owned()))
            }
            Err(_) => Err(busy(format!("not done within {} ms", time_limit.as_millis()))),
        }
    }

    fn evaluate_piece(
        &self,
        job: &Job,
        data: &QueryData,
        work: &crate::data::Work,
    ) -> Result<(Bytes, Held), ApiError> {
        let snapshot = data.snapshot(work).map_err(source_error)?;
        let session = self.session(job, snapshot, work);
        let output = session.evaluate_here(job.time)?;
        let missing = session.source.missing();
        // As bytes it is not larger than as columns.
        let room = running::hold(work, super::value_bytes(&output.value));
        let mut held = room.map_err(source_error)?;
        let bytes = encode(&output, missing);
        drop(output);
        held.resize(bytes.len()).map_err(|error| source_error(running::refused(error)))?;
        Ok((bytes, held))
    }
}
