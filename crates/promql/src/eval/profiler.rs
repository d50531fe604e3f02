//! Measures what each node of a plan takes.
//!
//! Rows are made on demand, so the time of a series is spread over several nodes: its decoding
//! belongs to the selector, the function over its range to the call, the addition to the
//! aggregation. So each thread has a current node, and whatever time passes until the next switch
//! is that node's. The thread that walks the plan keeps a stack of nodes; pieces of work measure
//! into memory of their own, which is added up when they end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::FloatHistogram;

use crate::ast::{Span, ValueType};
use crate::plan::{Kind, Plan, RangePlan};
use crate::profile::{NodeKind, ProfileNode, QueryProfile, Strategy};
use crate::source::{Reads, SeriesSet};

/// Number of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeId(u32);

impl NodeId {
    /// Nothing is measured, or not known yet for which node.
    pub(crate) const NONE: NodeId = NodeId(u32::MAX);
}

/// Measures one evaluation.
pub(crate) struct Profiler {
    clock: fn() -> u64,
    described: Vec<Described>,
    counters: Vec<Counters>,
    by_span: HashMap<Span, NodeId>,
    walk: Mutex<Walk>,
}

/// What is known of a node before the evaluation.
struct Described {
    span: Span,
    kind: NodeKind,
    name: String,
    value_type: ValueType,
    children: Vec<usize>,
    is_once: bool,
}

/// What a node took so far.
#[derive(Default)]
struct Counters {
    steps: AtomicU64,
    self_ns: AtomicU64,
    select_ns: AtomicU64,
    series_selected: AtomicU64,
    series_out: AtomicU64,
    /// Whether `series_out` was counted; otherwise the node passes on what came in.
    counts_out: AtomicBool,
    samples_read: AtomicU64,
    strategy: AtomicU8,
    reads: Mutex<Reads>,
}

/// The thread that walks the plan.
struct Walk {
    /// The nodes it is in; never empty.
    nodes: Vec<NodeId>,
    since_ns: u64,
    output_ns: u64,
    /// Samples looked at per step: of the query, then of what is evaluated at other times within.
    scopes: Vec<Vec<u64>>,
}

/// What one piece of work measures.
#[derive(Debug)]
pub(crate) struct Local {
    clock: fn() -> u64,
    /// For whom it works.
    consumer: NodeId,
    current: NodeId,
    since_ns: u64,
    nodes: Vec<LocalCounters>,
    steps: Vec<u64>,
}

#[derive(Debug, Clone, Default)]
struct LocalCounters {
    self_ns: u64,
    series_out: u64,
    samples_read: u64,
}

impl Profiler {
    /// For `plan`, evaluated at `steps` steps.
    pub(crate) fn new(clock: fn() -> u64, plan: &Plan<'_>, steps: usize) -> Self {
        let mut described = Vec::new();
        describe(plan, false, &mut described);
        let by_span =
            (0..).zip(&described).map(|(id, node): (u32, _)| (node.span, NodeId(id))).collect();
        Profiler {
            clock,
            counters: described.iter().map(|_| Counters::default()).collect(),
            described,
            by_span,
            walk: Mutex::new(Walk {
                nodes: vec![NodeId(0)],
                since_ns: clock(),
                output_ns: 0,
                scopes: vec![vec![0; steps]],
            }),
        }
    }

    fn walk(&self) -> MutexGuard<'_, Walk> {
        // Sums stay sums whatever panicked elsewhere.
        self.walk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counters(&self, node: NodeId) -> Option<&Counters> {
        self.counters.get(node.0 as usize)
    }

    /// Gives the time since the last switch to the node the walk is in.
    fn settle(&self, walk: &mut Walk) {
        let now_ns = (self.clock)();
        if let Some(counters) = walk.nodes.last().and_then(|node| self.counters(*node)) {
            let passed = now_ns.saturating_sub(walk.since_ns);
            counters.self_ns.fetch_add(passed, Ordering::Relaxed);
        }
        walk.since_ns = now_ns;
    }

    /// The walk comes to the node at `span`.
    pub(crate) fn enter(&self, span: Span, steps: usize) -> NodeId {
        let mut walk = self.walk();
        self.settle(&mut walk);
        let above = walk.nodes.last().copied().unwrap_or(NodeId::NONE);
        let node = self.by_span.get(&span).copied().unwrap_or(above);
        walk.nodes.push(node);
        if let Some(counters) = self.counters(node) {
            counters.steps.store(steps as u64, Ordering::Relaxed);
            // Until something better is known.
            self.note_strategy(node, Strategy::Rows);
        }
        node
    }

    /// The walk goes back to the node above.
    pub(crate) fn leave(&self) {
        let mut walk = self.walk();
        self.settle(&mut walk);
        if walk.nodes.len() > 1 {
            walk.nodes.pop();
        }
    }

    /// The node the walk is in.
    pub(crate) fn current(&self) -> NodeId {
        self.walk().nodes.last().copied().unwrap_or(NodeId::NONE)
    }

    /// Runs `find`, which finds series, for the node the walk is in.
    pub(crate) fn select<T>(&self, find: impl FnOnce() -> T) -> T {
        let begin_ns = (self.clock)();
        let found = find();
        if let Some(counters) = self.counters(self.current()) {
            let passed = (self.clock)().saturating_sub(begin_ns);
            counters.select_ns.fetch_add(passed, Ordering::Relaxed);
        }
        found
    }

    /// Counts series that were found for the node the walk is in.
    pub(crate) fn count_selected(&self, series: usize) {
        if let Some(counters) = self.counters(self.current()) {
            counters.series_selected.fetch_add(series as u64, Ordering::Relaxed);
        }
    }

    /// Counts samples that the node the walk is in read outside of pieces of work.
    pub(crate) fn count_read(&self, samples: usize) {
        if let Some(counters) = self.counters(self.current()) {
            counters.samples_read.fetch_add(samples as u64, Ordering::Relaxed);
        }
    }

    /// The node counts the series it yields one by one.
    pub(crate) fn counts_out(&self, node: NodeId) {
        if let Some(counters) = self.counters(node) {
            counters.counts_out.store(true, Ordering::Relaxed);
        }
    }

    /// The node yields `series`.
    pub(crate) fn set_out(&self, node: NodeId, series: usize) {
        if let Some(counters) = self.counters(node) {
            counters.series_out.store(series as u64, Ordering::Relaxed);
            counters.counts_out.store(true, Ordering::Relaxed);
        }
    }

    /// How a node is evaluated.
    pub(crate) fn note_strategy(&self, node: NodeId, strategy: Strategy) {
        if let Some(counters) = self.counters(node) {
            counters.strategy.store(1 + strategy as u8, Ordering::Relaxed);
        }
    }

    /// What a set took from the store, once it is read.
    pub(crate) fn note_reads(&self, node: NodeId, set: &dyn SeriesSet) {
        if let Some(counters) = self.counters(node) {
            counters.reads.lock().unwrap_or_else(PoisonError::into_inner).add(set.reads());
        }
    }

    /// What follows until [`Profiler::close_scope`] is evaluated at `steps` times of its own.
    pub(crate) fn open_scope(&self, steps: usize) {
        self.walk().scopes.push(vec![0; steps]);
    }

    /// Yields the samples that were looked at in the scope.
    pub(crate) fn close_scope(&self) -> u64 {
        self.walk().scopes.pop().map_or(0, |steps| steps.iter().sum())
    }

    /// Counts samples that every step of the scope looks at.
    pub(crate) fn look_at(&self, samples: u64) {
        let mut walk = self.walk();
        for step in walk.scopes.last_mut().into_iter().flatten() {
            *step += samples;
        }
    }

    /// Pieces of work begin, for the node the walk is in; the walk itself waits.
    pub(crate) fn pause(&self) -> (NodeId, usize) {
        let mut walk = self.walk();
        self.settle(&mut walk);
        let consumer = walk.nodes.last().copied().unwrap_or(NodeId::NONE);
        (consumer, walk.scopes.last().map_or(0, Vec::len))
    }

    /// The walk goes on.
    pub(crate) fn resume(&self) {
        self.walk().since_ns = (self.clock)();
    }

    /// What a piece of work measures into.
    pub(crate) fn local(&self, (consumer, steps): (NodeId, usize)) -> Local {
        Local {
            clock: self.clock,
            consumer,
            current: consumer,
            since_ns: (self.clock)(),
            nodes: vec![LocalCounters::default(); self.counters.len()],
            steps: vec![0; steps],
        }
    }

    /// Adds up what a piece of work measured.
    pub(crate) fn merge(&self, mut local: Local) {
        local.switch(NodeId::NONE);
        for (counters, more) in self.counters.iter().zip(&local.nodes) {
            counters.self_ns.fetch_add(more.self_ns, Ordering::Relaxed);
            counters.series_out.fetch_add(more.series_out, Ordering::Relaxed);
            counters.samples_read.fetch_add(more.samples_read, Ordering::Relaxed);
        }
        let mut walk = self.walk();
        let scope = walk.scopes.last_mut().into_iter().flatten();
        scope.zip(&local.steps).for_each(|(step, more)| *step += more);
    }

    /// Runs `make`, which makes the result of rows.
    pub(crate) fn output<T>(&self, make: impl FnOnce() -> T) -> T {
        self.settle(&mut self.walk());
        let begin_ns = (self.clock)();
        // Pieces of work meanwhile belong to no node.
        self.walk().nodes.push(NodeId::NONE);
        let made = make();
        let mut walk = self.walk();
        walk.nodes.pop();
        walk.since_ns = (self.clock)();
        walk.output_ns += walk.since_ns.saturating_sub(begin_ns);
        made
    }

    /// What the evaluation took.
    pub(crate) fn finish(&self) -> QueryProfile {
        let mut walk = self.walk();
        self.settle(&mut walk);
        let sum = |counter: fn(&Counters) -> &AtomicU64| {
            self.counters.iter().map(|one| counter(one).load(Ordering::Relaxed)).sum()
        };
        QueryProfile {
            root: self.node(0),
            samples_per_step: walk.scopes.first().cloned().unwrap_or_default(),
            output_ns: walk.output_ns,
            select_ns: sum(|one| &one.select_ns),
        }
    }

    fn node(&self, id: usize) -> ProfileNode {
        let (described, counters) = (&self.described[id], &self.counters[id]);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let children: Vec<ProfileNode> =
            described.children.iter().map(|child| self.node(*child)).collect();
        let below: u64 = children.iter().map(|child| child.series_out).sum();
        let is_selector = matches!(described.kind, NodeKind::Selector | NodeKind::RangeSelector);
        let self_ns = read(&counters.self_ns);
        let counts_out = counters.counts_out.load(Ordering::Relaxed);
        ProfileNode {
            span: described.span,
            kind: described.kind,
            name: described.name.clone(),
            value_type: described.value_type,
            strategy: self.strategy(described, counters),
            steps: read(&counters.steps),
            self_ns,
            total_ns: self_ns + children.iter().map(|child| child.total_ns).sum::<u64>(),
            select_ns: read(&counters.select_ns),
            series_in: if is_selector { read(&counters.series_selected) } else { below },
            series_out: if counts_out { read(&counters.series_out) } else { below },
            samples_read: read(&counters.samples_read),
            reads: *counters.reads.lock().unwrap_or_else(PoisonError::into_inner),
            children,
        }
    }

    fn strategy(&self, described: &Described, counters: &Counters) -> Option<Strategy> {
        if matches!(described.kind, NodeKind::Number | NodeKind::String) {
            return Some(Strategy::Constant);
        }
        let noted = counters.strategy.load(Ordering::Relaxed);
        let all = [Strategy::Constant, Strategy::Once, Strategy::Fused, Strategy::Rows];
        let noted = all.into_iter().find(|strategy| 1 + *strategy as u8 == noted)?;
        Some(if described.is_once { Strategy::Once } else { noted })
    }
}

impl Local {
    /// What follows is for `node`.
    #[inline]
    pub(crate) fn switch(&mut self, node: NodeId) {
        let now_ns = (self.clock)();
        if let Some(counters) = self.nodes.get_mut(self.current.0 as usize) {
            counters.self_ns += now_ns.saturating_sub(self.since_ns);
        }
        (self.current, self.since_ns) = (node, now_ns);
    }

    /// What follows is for the node the piece of work is for.
    pub(crate) fn switch_back(&mut self) {
        self.switch(self.consumer);
    }

    /// Counts a series that `node` yields.
    pub(crate) fn count_out(&mut self, node: NodeId) {
        if let Some(counters) = self.nodes.get_mut(node.0 as usize) {
            counters.series_out += 1;
        }
    }

    /// Counts samples that `node` decoded.
    pub(crate) fn count_read(&mut self, node: NodeId, samples: usize) {
        if let Some(counters) = self.nodes.get_mut(node.0 as usize) {
            counters.samples_read += samples as u64;
        }
    }

    /// Counts samples that the steps look at, in turn.
    pub(crate) fn look_at(&mut self, samples: impl Iterator<Item = usize>) {
        self.steps.iter_mut().zip(samples).for_each(|(step, samples)| *step += samples as u64);
    }
}

/// What a histogram counts among the samples a step looks at: its bytes in Prometheus, in pieces
/// of a float with its time.
///
/// Source: `FloatHistogram.Size` and `HPoint.size` of Prometheus 3.
pub(crate) fn samples_of(histogram: &FloatHistogram) -> usize {
    let layout = &histogram.layout;
    let spans = layout.positive.len() + layout.negative.len();
    let numbers = histogram.bucket_count() + layout.custom_bounds.len();
    (160 + 8 * spans + 8 * numbers + 8) / 16
}

/// Appends the nodes of `plan`, each before its children. Yields the number of the first.
fn describe(plan: &Plan<'_>, is_once: bool, out: &mut Vec<Described>) -> usize {
    if let Kind::Invariant(inner) = &plan.kind {
        return describe(inner, true, out);
    }
    let id = out.len();
    let name_of = |name: &str| name.to_owned();
    let (kind, name, below): (_, _, Vec<&Plan<'_>>) = match &plan.kind {
        Kind::Number(_) => (NodeKind::Number, String::new(), Vec::new()),
        Kind::Text(_) => (NodeKind::String, String::new(), Vec::new()),
        Kind::Instant(selector) => {
            (NodeKind::Selector, name_of(&selector.selector.name), Vec::new())
        }
        Kind::Range(RangePlan::Selector { selector, .. }) => {
            (NodeKind::RangeSelector, name_of(&selector.selector.name), Vec::new())
        }
        Kind::Range(RangePlan::Subquery(subquery)) => {
            (NodeKind::Subquery, String::new(), vec![&subquery.inner])
        }
        Kind::Call(call) => {
            (NodeKind::Call, name_of(call.function.name), call.args.iter().collect())
        }
        Kind::Aggregate(aggregate) => {
            let below = aggregate.param.iter().chain([&aggregate.input]).collect();
            (NodeKind::Aggregation, name_of(aggregate.op.as_str()), below)
        }
        Kind::Binary(binary) => {
            (NodeKind::Binary, name_of(binary.op.as_str()), vec![&binary.left, &binary.right])
        }
        Kind::Negate(inner) => (NodeKind::Unary, name_of("-"), vec![inner]),
        Kind::Invariant(_) => unreachable!("handled above"),
    };
    out.push(Described {
        span: plan.span,
        kind,
        name,
        value_type: plan.value_type(),
        children: Vec::new(),
        is_once,
    });
    let children = below.into_iter().map(|child| describe(child, false, out)).collect();
    out[id].children = children;
    id
}
