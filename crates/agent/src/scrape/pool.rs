//! One job: its targets and their loops.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use discovery::{Prepared, Providers, Task};
use model::Labels;
use parking_lot::Mutex;
use settings::prometheus::Discovery;
use settings::relabel::LabelBuffer;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::cache::SeriesCache;
use super::error::ScrapeError;
use super::job::Job;
use super::status::{DroppedTarget, TargetStatus};
use super::target::{Built, Target, build};
use super::target_loop::{Order, Phase, Shared, TargetLoop, TargetState};

/// Reasons for which targets are left out that are told apart and told.
const MAX_REASONS: usize = 100;
/// Targets are brought up to date at most this often, so that discovery that changes all the time
/// does not cost all the time.
const SYNC_PAUSE: Duration = Duration::from_millis(500);

/// What a job is told.
pub(super) struct Plan {
    pub(super) job: Arc<Job>,
    /// Discovery blocks to run, by their place in the configuration; `None` for one that runs
    /// already.
    pub(super) discovery: Vec<(Discovery, Option<Prepared>)>,
}

/// What others see of a job.
#[derive(Default)]
pub(super) struct PoolView {
    pub(super) name: String,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    active: Vec<Arc<TargetState>>,
    dropped: Vec<Labels>,
    dropped_count: usize,
}

impl PoolView {
    pub(super) fn new(name: &str) -> Self {
        PoolView { name: name.to_owned(), seen: Mutex::default() }
    }

    /// All targets that are scraped, by URL.
    pub(super) fn targets(&self) -> Vec<TargetStatus> {
        let mut all: Vec<TargetStatus> =
            self.states().iter().map(|state| state.status(&self.name)).collect();
        all.sort_by(|a, b| (&a.url, &a.labels).cmp(&(&b.url, &b.labels)));
        all
    }

    pub(super) fn states(&self) -> Vec<Arc<TargetState>> {
        self.seen.lock().active.clone()
    }

    pub(super) fn target_count(&self) -> usize {
        self.seen.lock().active.len()
    }

    /// Dropped targets, as many as are kept.
    pub(super) fn dropped(&self) -> Vec<DroppedTarget> {
        let seen = self.seen.lock();
        let dropped = seen.dropped.iter().cloned();
        dropped.map(|discovered| DroppedTarget { pool: self.name.clone(), discovered }).collect()
    }

    /// How many there are.
    pub(super) fn dropped_count(&self) -> usize {
        self.seen.lock().dropped_count
    }
}

/// A running job.
pub(super) struct Pool {
    view: Arc<PoolView>,
    shared: Arc<Shared>,
    job: Arc<Job>,
    providers: Providers,
    loops: HashMap<Target, Running>,
    /// Why targets are left out, as the log says it: each reason once while it is there.
    left_out: BTreeSet<String>,
    work: LabelBuffer,
}

/// The loop of one target.
struct Running {
    state: Arc<TargetState>,
    orders: watch::Sender<Order>,
    task: Task<Option<SeriesCache>>,
}

impl Pool {
    /// Runs the job by its first plan and those that follow. When no more can follow, the job is
    /// gone: its targets end, each at its time, and so does the pool.
    pub(super) async fn run(
        view: Arc<PoolView>,
        shared: Arc<Shared>,
        first: Plan,
        mut plans: mpsc::UnboundedReceiver<Plan>,
    ) {
        let (providers, mut news) = Providers::new(Arc::clone(&shared.counters.discovery));
        let mut pool = Pool {
            view,
            shared,
            job: Arc::clone(&first.job),
            providers,
            loops: HashMap::new(),
            left_out: BTreeSet::new(),
            work: LabelBuffer::new(),
        };
        pool.adopt(first);
        let mut sync_at = Instant::now();
        let mut is_due = true;
        loop {
            tokio::select! {
                plan = plans.recv() => {
                    let Some(plan) = plan else { break };
                    pool.adopt(plan);
                    is_due = true;
                }
                Some(found) = news.recv() => {
                    pool.providers.note(found);
                    is_due = true;
                }
                () = tokio::time::sleep_until(sync_at), if is_due => {
                    pool.sync();
                    is_due = false;
                    sync_at = Instant::now() + SYNC_PAUSE;
                }
            }
        }
        pool.end().await;
    }

    /// Puts a plan in effect.
    fn adopt(&mut self, plan: Plan) {
        self.job = plan.job;
        self.providers.adopt(plan.discovery);
    }

    /// Brings the loops in line with the targets.
    fn sync(&mut self) {
        let mut wanted: BTreeMap<String, Vec<(Target, Labels)>> = BTreeMap::new();
        let mut dropped = Vec::new();
        let mut dropped_count = 0;
        let mut reasons = BTreeSet::new();
        let keep = match self.job.config.keep_dropped_targets {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        for group in self.providers.groups() {
            for built in build(group, &self.job.config, &mut self.work) {
                match built {
                    Ok(Built::Active { target, discovered }) => {
                        wanted.entry(target.url.clone()).or_default().push((target, discovered));
                    }
                    Ok(Built::Dropped { discovered }) => {
                        dropped_count += 1;
                        if dropped.len() < keep {
                            dropped.push(discovered);
                        }
                    }
                    Err(error) => {
                        self.shared.counters.syncs_failed.add(1);
                        if !self.left_out.contains(&error) && reasons.len() < MAX_REASONS {
                            let job = &self.job.config.job_name;
                            tracing::warn!(job, error, "target left out");
                        }
                        if reasons.len() < MAX_REASONS {
                            reasons.insert(error);
                        }
                    }
                }
            }
        }
        self.left_out = reasons;
        let wanted: HashMap<Target, Labels> = wanted.into_values().flatten().collect();
        self.start_and_end_loops(wanted);
        let mut seen = self.view.seen.lock();
        seen.active = self
            .loops
            .values()
            .filter(|running| running.orders.borrow().phase == Phase::Run)
            .map(|running| Arc::clone(&running.state))
            .collect();
        seen.dropped = dropped;
        seen.dropped_count = dropped_count;
        self.shared.counters.syncs.add(1);
    }

    fn start_and_end_loops(&mut self, mut wanted: HashMap<Target, Labels>) {
        let target_limit = self.target_limit(wanted.len());
        let order = |job: &Arc<Job>, phase| Order {
            job: Arc::clone(job),
            phase,
            target_limit: target_limit.clone(),
        };
        self.loops.retain(|_, running| !running.task.is_finished());
        let mut leaving: HashMap<Labels, Target> = HashMap::new();
        for (target, running) in &self.loops {
            match wanted.remove(target) {
                Some(discovered) => {
                    running.state.set_discovered(discovered);
                    let order = order(&self.job, Phase::Run);
                    running.orders.send_if_modified(|known| known.replace(order));
                }
                None => {
                    leaving.insert(running.state.public_labels.clone(), target.clone());
                    let order = order(&self.job, Phase::End);
                    running.orders.send_if_modified(|known| known.replace(order));
                }
            }
        }
        for (target, discovered) in wanted {
            let state = Arc::new(TargetState::new(target.clone(), discovered));
            // The same series from another place: they go on without a gap or a marker.
            let predecessor = leaving.remove(&state.public_labels).and_then(|gone| {
                let running = self.loops.remove(&gone)?;
                running.orders.send_replace(order(&self.job, Phase::HandOver));
                Some(running.task)
            });
            let (orders, to_loop) = watch::channel(order(&self.job, Phase::Run));
            let target_loop =
                TargetLoop::new(Arc::clone(&state), Arc::clone(&self.shared), to_loop);
            let task = Task::spawn(target_loop.run(predecessor));
            self.loops.insert(target, Running { state, orders, task });
        }
    }

    fn target_limit(&self, found: usize) -> Option<ScrapeError> {
        let limit = self.job.config.target_limit;
        if limit == 0 || found as u64 <= limit {
            return None;
        }
        self.shared.counters.target_limit.add(1);
        Some(ScrapeError::TargetLimit { found, limit })
    }

    /// The job is gone.
    async fn end(mut self) {
        self.providers.clear();
        self.start_and_end_loops(HashMap::new());
        *self.view.seen.lock() = Seen::default();
        for running in std::mem::take(&mut self.loops).into_values() {
            running.task.join().await;
        }
    }
}

impl Order {
    /// Takes `order` and tells whether anything is new.
    fn replace(&mut self, order: Order) -> bool {
        let is_new = !Arc::ptr_eq(&self.job, &order.job)
            || self.phase != order.phase
            || self.target_limit != order.target_limit;
        *self = order;
        is_new
    }
}
