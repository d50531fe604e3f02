//! Stages of pipelines: what is done to a line between its source and the broker.
//!
//! [`LogStages`] is made once for a job: expressions, templates and limits are compiled and shared.
//! Each source of the job then starts a pipeline of its own, whose memory is used again for all its
//! lines. `line` is what stages work on, `chain` is how one follows the other; all other files are
//! stages, whose meaning is Promtail's and Alloy's.

mod branches;
mod chain;
mod containers;
mod dropping;
mod input;
mod jmespath;
mod journal_labels;
mod json;
mod labels;
mod line;
mod matching;
mod metrics;
mod multiline;
mod parsers;
mod pod_labels;
mod rewrite;
mod timestamp;
mod zones;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use model::regex::Finder;
use parking_lot::Mutex;
use settings::logs::stage::Stage;
use settings::logs::{LineLimits, LogRoute, RouteStep, StageFault};

use super::{Entries, Entry, Pipeline, Stages};
use chain::{Clock, Link, Outlet};
use dropping::{SharedLimit, SharedLimits};
pub use journal_labels::JournalLabels;
use json::JsonPlan;
use line::{KeptLabels, Line};
pub use metrics::StageCounters;
pub use pod_labels::PodLabels;

/// A stage, compiled, of which each source gets its own.
#[derive(Clone)]
struct Plan(Arc<dyn Fn() -> Link + Send + Sync>);

impl Plan {
    fn new(start: impl Fn() -> Link + Send + Sync + 'static) -> Self {
        Plan(Arc::new(start))
    }

    fn start(&self) -> Link {
        (self.0)()
    }
}

fn fault(key: &'static str, message: String) -> StageFault {
    StageFault { key, message, help: None }
}

fn finder(key: &'static str, text: &str) -> Result<Finder, StageFault> {
    Finder::new(text)
        .map_err(|error| fault(key, format!("could not compile regular expression: {error}")))
}

/// What the jobs of a process share: counters, and limits that hold for all of them.
#[derive(Debug)]
pub struct StageContext {
    counters: Arc<StageCounters>,
    limits: Arc<SharedLimits>,
    shared: Mutex<HashMap<u32, Arc<SharedLimit>>>,
    wall_ns: fn() -> i64,
}

impl StageContext {
    /// For the jobs of one configuration. Counters live on when it is read again.
    pub fn new(limits: &LineLimits, counters: Arc<StageCounters>) -> Self {
        StageContext {
            counters,
            limits: Arc::new(SharedLimits::new(limits)),
            shared: Mutex::default(),
            wall_ns: now_ns,
        }
    }

    /// What stages count.
    pub fn counters(&self) -> &Arc<StageCounters> {
        &self.counters
    }

    /// The same with another clock.
    #[cfg(test)]
    fn with_wall(mut self, wall_ns: fn() -> i64) -> Self {
        self.wall_ns = wall_ns;
        self
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The stages of one job.
pub struct LogStages {
    routes: Vec<Vec<Plan>>,
    wall_ns: fn() -> i64,
}

impl fmt::Debug for LogStages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages: usize = self.routes.iter().map(Vec::len).sum();
        write!(f, "LogStages({} routes, {stages} stages)", self.routes.len())
    }
}

impl LogStages {
    /// Compiles what a job does to its lines. A configuration that was read with [`check_stage`] does
    /// not fail.
    ///
    /// # Errors
    /// A stage cannot run.
    pub fn new(routes: &[LogRoute], context: &StageContext) -> Result<Self, StageFault> {
        let mut plans = Vec::with_capacity(routes.len());
        for route in routes {
            let mut plan: Vec<Plan> =
                dropping::line_limits(&context.limits, &context.counters).into_iter().collect();
            steps(&route.steps, context, &mut plan)?;
            plan.extend(dropping::stream_limit(&context.limits, &context.counters));
            plans.push(plan);
        }
        Ok(LogStages { routes: plans, wall_ns: context.wall_ns })
    }
}

/// Compiles the steps of a route.
fn steps(
    steps: &[RouteStep],
    context: &StageContext,
    plan: &mut Vec<Plan>,
) -> Result<(), StageFault> {
    for step in steps {
        match step {
            RouteStep::Stages(stages) => {
                for stage in stages {
                    plan.push(compile(stage, context)?);
                }
            }
            RouteStep::Relabel(rules) => plan.push(labels::relabeled(rules)),
            RouteStep::ExternalLabels(labels) => plan.push(labels::external_labels(labels)),
            RouteStep::Branches(routes) => {
                let mut ways = Vec::with_capacity(routes.len());
                for route in routes {
                    let mut way = Vec::new();
                    self::steps(&route.steps, context, &mut way)?;
                    ways.push(way);
                }
                plan.push(branches::branches(ways));
            }
        }
    }
    Ok(())
}

/// Tries to compile a stage, for who reads configurations.
///
/// # Errors
/// What is wrong with it.
pub fn check_stage(stage: &Stage) -> Result<(), StageFault> {
    // What is inside was checked before.
    let outer = match stage {
        Stage::Match(inner) => {
            let mut outer = inner.clone();
            outer.stages.clear();
            Stage::Match(outer)
        }
        other => other.clone(),
    };
    let context = StageContext::new(&LineLimits::default(), Arc::default());
    compile(&outer, &context).map(|_| ())
}

fn compile(stage: &Stage, context: &StageContext) -> Result<Plan, StageFault> {
    let counters = &context.counters;
    Ok(match stage {
        Stage::Cri(stage) => containers::cri(stage, counters),
        Stage::Decolorize => rewrite::decolorize(),
        Stage::Docker => containers::docker(),
        Stage::Drop(stage) => dropping::drop_stage(stage, counters)?,
        Stage::EventLogMessage(stage) => parsers::event_log_message(stage),
        Stage::Json(stage) => {
            let plan = Arc::new(JsonPlan::new(stage)?);
            Plan::new(move || Link::simple(plan.start()))
        }
        Stage::LabelDrop(names) => labels::label_drop(names),
        Stage::LabelKeep(names) => labels::label_keep(names),
        Stage::Labels(stage) => labels::labels(stage),
        Stage::Limit(stage) => {
            let mut shared = context.shared.lock();
            let limit = shared.entry(stage.id).or_insert_with(|| Arc::new(SharedLimit::new(stage)));
            dropping::limit(Arc::clone(limit), counters)
        }
        Stage::Logfmt(stage) => parsers::logfmt(stage)?,
        Stage::Luhn(stage) => rewrite::luhn(stage),
        Stage::Match(stage) => {
            let inside: Result<Vec<Plan>, StageFault> =
                stage.stages.iter().map(|stage| compile(stage, context)).collect();
            matching::match_stage(stage, inside?, counters)?
        }
        Stage::Metrics(stages) => metrics::metrics(stages, counters)?,
        Stage::Multiline(stage) => multiline::multiline(stage)?,
        Stage::Output { source } => rewrite::output(source),
        Stage::Pack(stage) => labels::pack(stage),
        Stage::Pattern(stage) => parsers::pattern(stage)?,
        Stage::Regex(stage) => parsers::regex(stage)?,
        Stage::Replace(stage) => rewrite::replace(stage)?,
        Stage::Sampling(stage) => dropping::sampling(stage, counters),
        Stage::SplitJson { source } => matching::split_json(source.as_deref()),
        Stage::StaticLabels(labels) => labels::static_labels(labels),
        Stage::StructuredMetadata(stage) => labels::structured_metadata(stage)?,
        Stage::StructuredMetadataDrop(names) => labels::metadata_drop(names),
        Stage::Template(stage) => rewrite::template(stage)?,
        Stage::Tenant(stage) => labels::tenant(stage),
        Stage::Timestamp(stage) => timestamp::timestamp(stage)?,
        Stage::Truncate(rules) => rewrite::truncate(rules, counters),
    })
}

impl Stages for LogStages {
    fn start(&self) -> Box<dyn Pipeline> {
        let start = |plan: &Vec<Plan>| plan.iter().map(Plan::start).collect::<Vec<Link>>();
        Box::new(StagePipeline {
            routes: self.routes.iter().map(start).collect(),
            wall_ns: self.wall_ns,
            line: Line::default(),
            finish: Finish::default(),
        })
    }
}

/// The stages of one source.
struct StagePipeline {
    routes: Vec<Vec<Link>>,
    wall_ns: fn() -> i64,
    line: Line,
    finish: Finish,
}

/// What becomes of a line behind the last stage.
#[derive(Default)]
struct Finish {
    entry: Entry,
    kept: KeptLabels,
}

struct Finishing<'f> {
    finish: &'f mut Finish,
    out: &'f mut dyn Entries,
}

impl Outlet for Finishing<'_> {
    fn send(&mut self, line: &mut Line, _: &Clock) {
        let entry = &mut self.finish.entry;
        entry.timestamp_ns = line.timestamp_ns;
        entry.labels = line.finished_labels(&mut self.finish.kept);
        entry.offset = line.offset;
        entry.tenant = line.tenant.take();
        std::mem::swap(&mut entry.line, &mut line.text);
        std::mem::swap(&mut entry.metadata, &mut line.metadata);
        self.out.take(entry);
        std::mem::swap(&mut entry.line, &mut line.text);
        std::mem::swap(&mut entry.metadata, &mut line.metadata);
    }
}

impl Pipeline for StagePipeline {
    fn process(&mut self, entry: &mut Entry, now: Instant, out: &mut dyn Entries) {
        let clock = Clock { now, wall_ns: self.wall_ns };
        let last = self.routes.len().saturating_sub(1);
        for (index, links) in self.routes.iter_mut().enumerate() {
            if index < last {
                self.line.begin(&mut entry.clone());
            } else {
                self.line.begin(entry);
            }
            let mut finishing = Finishing { finish: &mut self.finish, out: &mut *out };
            chain::run(links, &mut self.line, &clock, &mut finishing);
        }
        // The memory goes back, for the source to fill it again.
        std::mem::swap(&mut self.line.text, &mut entry.line);
        std::mem::swap(&mut self.line.metadata, &mut entry.metadata);
    }

    fn deadline(&self) -> Option<Instant> {
        self.routes.iter().filter_map(|links| chain::deadline(links)).min()
    }

    fn flush(&mut self, now: Option<Instant>, out: &mut dyn Entries) {
        let clock = Clock { now: now.unwrap_or_else(Instant::now), wall_ns: self.wall_ns };
        for links in &mut self.routes {
            let mut finishing = Finishing { finish: &mut self.finish, out: &mut *out };
            chain::flush(links, now, &clock, &mut finishing);
        }
    }

    fn held(&self, offsets: &mut Vec<u64>) {
        for links in &self.routes {
            chain::held(links, offsets);
        }
        // A line that several routes hold is one.
        if self.routes.len() > 1 {
            offsets.sort_unstable();
            offsets.dedup();
        }
    }

    fn ready_at(&self) -> Option<Instant> {
        self.routes.iter().filter_map(|links| chain::ready_at(links)).max()
    }
}

#[cfg(test)]
mod tests;
