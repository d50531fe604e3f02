//! What all parts of one evaluation share: limits, cancellation, counters, annotations and the
//! splitting of work.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use model::Matcher;

use super::annotations::Notes;
use super::grid::Grid;
use super::profiler::{NodeId, Profiler};
use super::scratch::Scratch;
use crate::ast::Span;
use crate::engine::{EvalError, EvalOptions};
use crate::plan::Plan;
use crate::profile::{QueryProfile, Strategy};
use crate::source::{Hints, Memory, SelectRequest, SeriesSet, Source, SourceError};
use crate::value::{Annotation, QueryStats};

/// Series handled by one piece of work. Fixed, so that the way floats are summed up does not
/// depend on the number of threads; large enough that splitting costs nothing measurable.
pub(crate) const PIECE: usize = 128;

/// What a sample of a result takes: its value, and as much again while rows become an answer.
const SAMPLE_BYTES: usize = 16;

/// Shared by all nodes of one evaluation and by all threads that work on it.
pub(crate) struct Context<'e> {
    pub(crate) source: &'e dyn Source,
    pub(crate) options: EvalOptions<'e>,
    /// Measures what each node takes, if a clock was given.
    pub(crate) profiler: Option<Profiler>,
    budget: Arc<Budget>,
    notes: Mutex<Notes>,
    samples_read: AtomicU64,
    series_selected: AtomicU64,
}

impl<'e> Context<'e> {
    /// For an evaluation of `plan` at all steps of `grid`.
    pub(crate) fn new(
        source: &'e dyn Source,
        options: EvalOptions<'e>,
        plan: &Plan<'_>,
        grid: &Grid,
    ) -> Self {
        let steps = grid.steps().min(options.max_samples);
        Context {
            source,
            options,
            profiler: options.clock.map(|clock| Profiler::new(clock, plan, steps)),
            budget: Arc::new(Budget {
                limit: options.max_samples,
                memory: options.memory.cloned(),
                used: AtomicUsize::new(0),
                peak: AtomicUsize::new(0),
            }),
            notes: Mutex::new(Notes::default()),
            samples_read: AtomicU64::new(0),
            series_selected: AtomicU64::new(0),
        }
    }

    /// Fails once the owner asked to stop.
    pub(crate) fn check_cancelled(&self) -> Result<(), EvalError> {
        if self.options.cancelled.load(Ordering::Relaxed) {
            return Err(EvalError::Cancelled);
        }
        Ok(())
    }

    /// Claims room for `samples` until the reservation is dropped.
    pub(crate) fn reserve(&self, samples: usize) -> Result<Reservation, EvalError> {
        self.budget.claim(samples)?;
        Ok(Reservation { budget: Arc::clone(&self.budget), samples })
    }

    /// Claims room for one value per step and series.
    pub(crate) fn reserve_rows(&self, rows: usize, steps: usize) -> Result<Reservation, EvalError> {
        self.reserve(rows.saturating_mul(steps))
    }

    /// Asks the source for series.
    pub(crate) fn select(
        &self,
        matchers: &[Matcher],
        start_ms: i64,
        end_ms: i64,
        hints: Hints<'_>,
    ) -> Result<Arc<dyn SeriesSet>, EvalError> {
        self.check_cancelled()?;
        let find = || self.source.select(&SelectRequest { matchers, start_ms, end_ms, hints });
        let set = match &self.profiler {
            None => find()?,
            Some(profiler) => {
                let set = profiler.select(find)?;
                profiler.count_selected(set.len());
                set
            }
        };
        self.series_selected.fetch_add(set.len() as u64, Ordering::Relaxed);
        Ok(set)
    }

    /// The evaluation comes to the node at `span`, at `steps` steps. What it yields is for
    /// [`Context::leave`].
    pub(crate) fn enter(&self, span: Span, steps: usize) -> NodeId {
        self.profiler.as_ref().map_or(NodeId::NONE, |profiler| profiler.enter(span, steps))
    }

    /// The evaluation goes back to the node above. After an error nobody has to.
    pub(crate) fn leave(&self) {
        if let Some(profiler) = &self.profiler {
            profiler.leave();
        }
    }

    /// Counts samples that were read outside of pieces of work.
    pub(crate) fn count_read(&self, samples: usize) {
        self.samples_read.fetch_add(samples as u64, Ordering::Relaxed);
        if let Some(profiler) = &self.profiler {
            profiler.count_read(samples);
        }
    }

    /// Notes how a node is evaluated.
    pub(crate) fn note_strategy(&self, node: NodeId, strategy: Strategy) {
        if let Some(profiler) = &self.profiler {
            profiler.note_strategy(node, strategy);
        }
    }

    /// Adds a warning.
    pub(crate) fn warn(&self, text: impl std::fmt::Display, span: Span) {
        self.lock_notes().add(Annotation::warning(text, span));
    }

    /// Adds an info.
    pub(crate) fn inform(&self, text: impl std::fmt::Display, span: Span) {
        self.lock_notes().add(Annotation::info(text, span));
    }

    /// Lets `tell` add annotations.
    pub(crate) fn note(&self, tell: impl FnOnce(&mut Notes)) {
        tell(&mut self.lock_notes());
    }

    fn lock_notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        // Notes stay consistent whatever panicked elsewhere.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the evaluation leaves behind beside its value.
    pub(crate) fn finish(self) -> (Vec<Annotation>, QueryStats, Option<Box<QueryProfile>>) {
        let profile = self.profiler.as_ref().map(|profiler| Box::new(profiler.finish()));
        let stats = QueryStats {
            samples_read: self.samples_read.into_inner(),
            series_selected: self.series_selected.into_inner(),
            peak_samples: self.budget.peak.load(Ordering::Relaxed) as u64,
        };
        let notes = self.notes.into_inner().unwrap_or_else(PoisonError::into_inner);
        (notes.into_annotations(), stats, profile)
    }

    /// How many series to work on between two merges of partial results: enough to keep all
    /// threads busy, few enough to bound what is held in the meantime. Results are merged piece
    /// by piece in order, so they do not depend on it.
    pub(crate) fn wave(&self) -> usize {
        PIECE * (2 * self.options.parallel.width()).max(8)
    }

    /// Splits `0..items` into pieces of [`PIECE`] and runs `task` on each, on as many threads as
    /// are granted. Results come in the order of the pieces. The error of the first failing piece
    /// wins, whatever thread was faster.
    pub(crate) fn pieces<T: Send + Sync>(
        &self,
        items: Range<usize>,
        task: impl Fn(Range<usize>, &mut Scratch) -> Result<T, EvalError> + Sync,
    ) -> Result<Vec<T>, EvalError> {
        let piece_of = |index: usize| {
            let start = items.start + index * PIECE;
            start..(start + PIECE).min(items.end)
        };
        self.tasks(items.len().div_ceil(PIECE), |index, scratch| task(piece_of(index), scratch))
    }

    /// Runs `task(0)` to `task(count - 1)` as [`Self::pieces`] does.
    pub(crate) fn tasks<T: Send + Sync>(
        &self,
        count: usize,
        task: impl Fn(usize, &mut Scratch) -> Result<T, EvalError> + Sync,
    ) -> Result<Vec<T>, EvalError> {
        let slots: Vec<OnceLock<(Result<T, EvalError>, Notes)>> =
            (0..count).map(|_| OnceLock::new()).collect();
        let first_failed = AtomicUsize::new(usize::MAX);
        let measured = self.profiler.as_ref().map(|profiler| (profiler, profiler.pause()));
        self.options.parallel.run(count, &|index| {
            // A piece before the first failure must still run: its own error would win.
            if index > first_failed.load(Ordering::Relaxed) {
                return;
            }
            let profile = measured.as_ref().map(|(profiler, place)| profiler.local(*place));
            let mut scratch = Scratch { profile, ..Scratch::default() };
            let outcome = self.check_cancelled().and_then(|()| task(index, &mut scratch));
            if outcome.is_err() {
                first_failed.fetch_min(index, Ordering::Relaxed);
            }
            self.samples_read.fetch_add(scratch.samples_read, Ordering::Relaxed);
            self.budget.note_peak(scratch.peak_columns);
            if let (Some((profiler, _)), Some(local)) = (&measured, scratch.profile.take()) {
                profiler.merge(local);
            }
            let stored = slots[index].set((outcome, scratch.notes));
            debug_assert!(stored.is_ok(), "every piece runs once");
        });
        if let Some((profiler, _)) = &measured {
            profiler.resume();
        }
        let mut results = Vec::with_capacity(count);
        for slot in slots {
            let Some((outcome, notes)) = slot.into_inner() else {
                // Only pieces behind a failed one are skipped, and that one returns below.
                return Err(EvalError::Execution(
                    "a piece of the query was not run by the executor".to_owned(),
                ));
            };
            results.push(outcome?);
            self.lock_notes().merge(notes);
        }
        Ok(results)
    }

    /// Fails if one row of `grid` alone passes the limit.
    pub(crate) fn check_steps(&self, grid: &Grid) -> Result<(), EvalError> {
        if grid.steps() > self.options.max_samples {
            return Err(too_many_samples(self.options.max_samples));
        }
        Ok(())
    }

    /// Fails if `samples` of one series alone pass the limit.
    pub(crate) fn check_columns(&self, samples: usize) -> Result<(), EvalError> {
        // Windows number samples with 32 bits.
        if samples > self.options.max_samples.min(u32::MAX as usize) {
            return Err(too_many_samples(self.options.max_samples));
        }
        Ok(())
    }
}

impl From<SourceError> for EvalError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Limit(text) => EvalError::Limit(text),
            SourceError::Storage(text) => EvalError::Storage(text),
            SourceError::Unavailable(text) => EvalError::Unavailable(text),
            SourceError::Cancelled => EvalError::Cancelled,
        }
    }
}

struct Budget {
    limit: usize,
    memory: Option<Arc<dyn Memory>>,
    used: AtomicUsize,
    peak: AtomicUsize,
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Budget {
    fn claim(&self, samples: usize) -> Result<(), EvalError> {
        self.claim_samples(samples)?;
        let Some(memory) = &self.memory else { return Ok(()) };
        memory.take(samples.saturating_mul(SAMPLE_BYTES)).map_err(|error| {
            self.used.fetch_sub(samples, Ordering::Relaxed);
            error.into()
        })
    }

    fn give_back(&self, samples: usize) {
        self.used.fetch_sub(samples, Ordering::Relaxed);
        if let Some(memory) = &self.memory {
            memory.give_back(samples * SAMPLE_BYTES);
        }
    }

    fn claim_samples(&self, samples: usize) -> Result<(), EvalError> {
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            let wanted = used.saturating_add(samples);
            if wanted > self.limit {
                return Err(too_many_samples(self.limit));
            }
            match self.used.compare_exchange_weak(
                used,
                wanted,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    self.peak.fetch_max(wanted, Ordering::Relaxed);
                    return Ok(());
                }
                Err(now) => used = now,
            }
        }
    }

    fn note_peak(&self, transient: usize) {
        let used = self.used.load(Ordering::Relaxed);
        self.peak.fetch_max(used.saturating_add(transient), Ordering::Relaxed);
    }
}

/// The error of a query that holds more than `limit` samples.
pub fn too_many_samples(limit: usize) -> EvalError {
    EvalError::Limit(format!(
        "query processing would load too many samples into memory in query execution: \
         the limit (max samples per query) is {limit}; select fewer series, use a shorter range \
         or a longer step, or raise the limit"
    ))
}

/// Room claimed in the query's budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    samples: usize,
}

impl Reservation {
    /// Makes it a reservation of `samples`.
    pub(crate) fn resize(&mut self, samples: usize) -> Result<(), EvalError> {
        if samples > self.samples {
            self.budget.claim(samples - self.samples)?;
            self.samples = samples;
        }
        self.shrink(samples);
        Ok(())
    }

    /// Makes it larger by `samples`.
    pub(crate) fn grow(&mut self, samples: usize) -> Result<(), EvalError> {
        self.budget.claim(samples)?;
        self.samples += samples;
        Ok(())
    }

    /// Gives back what is above `samples`.
    pub(crate) fn shrink(&mut self, samples: usize) {
        let surplus = self.samples.saturating_sub(samples);
        self.budget.give_back(surplus);
        self.samples -= surplus;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.samples);
    }
}
