//! `info()`: adds labels of info series, such as `target_info`, to the series they describe.
//!
//! Source: `promql/info.go` of Prometheus 3.

use std::collections::HashMap;

use model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};

use super::Evaluator;
use super::grid::{Grid, Reference};
use super::rows::{ABSENT, Rows, is_absent};
use super::selected::Leaf;
use super::stream::Stream;
use crate::engine::EvalError;
use crate::plan::{CallPlan, Kind, Plan, RangePlan};

/// Labels that tell which target a series is about.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// The info metric taken when none is named.
const TARGET_INFO: &str = "target_info";

/// The info metrics taken when names are only excluded.
const ANY_INFO: &str = ".+_info";

/// More values of an identifying label than this are not written into a matcher.
const MAX_LISTED: usize = 1_000;

/// Evaluates `info(vector, selector)`.
pub(super) fn evaluate(
    evaluator: &Evaluator<'_>,
    call: &CallPlan<'_>,
    grid: &Grid,
) -> Result<Stream, EvalError> {
    let [base_plan, rest @ ..] = call.args.as_slice() else {
        return Err(super::wrong_type("instant vector"));
    };
    let base = evaluator.vector(base_plan, grid)?.materialise(&evaluator.context)?;
    let wanted = Wanted::new(rest.first())?;
    let enriched: Vec<bool> = base.labels.iter().map(|labels| !wanted.is_info(labels)).collect();
    let infos = match wanted.matchers(&base, &enriched)? {
        Some(matchers) => {
            let reference = reference_of(base_plan).unwrap_or_default();
            let leaf = Leaf::Timestamp { lookback_ms: evaluator.context.options.lookback_ms };
            let selected = evaluator.select_instant(&matchers, grid, reference, leaf)?;
            Stream::from_selected(selected, false).materialise(&evaluator.context)?
        }
        None => Rows::empty(&evaluator.context, grid.steps())?,
    };
    let join = Join { base: &base, infos: &infos, wanted: &wanted, by_target: group(&infos) };
    let mut rows = Rows::empty(&evaluator.context, grid.steps())?;
    for (index, enriched) in enriched.iter().enumerate() {
        evaluator.context.check_cancelled()?;
        if *enriched {
            join.enrich(index, &mut rows)?;
        } else {
            let histograms = base.histograms.row(index);
            let labels = base.labels[index].clone();
            rows.push(labels, base.drop_name[index], base.row(index), histograms)?;
        }
    }
    rows.merge_same_labels()?;
    Ok(Stream::from_rows(rows))
}

/// Which info series and which of their labels are asked for.
struct Wanted<'a> {
    names: Vec<Matcher>,
    data: Vec<&'a Matcher>,
}

impl<'a> Wanted<'a> {
    fn new(selector: Option<&Plan<'a>>) -> Result<Self, EvalError> {
        let matchers: &'a [Matcher] = match selector.map(|plan| &plan.unpinned().kind) {
            Some(Kind::Instant(selector)) => &selector.selector.matchers,
            Some(_) => return Err(super::wrong_type("instant vector")),
            None => &[],
        };
        let mut names: Vec<Matcher> =
            matchers.iter().filter(|matcher| matcher.name == METRIC_NAME).cloned().collect();
        let positive = |matcher: &Matcher| matches!(matcher.op, MatchOp::Equal | MatchOp::Regex);
        if selector.is_none() {
            names.push(matcher(METRIC_NAME, MatchOp::Equal, TARGET_INFO)?);
        } else if !names.is_empty() && !names.iter().any(positive) {
            // Names that are not wanted still leave only info metrics.
            names.push(matcher(METRIC_NAME, MatchOp::Regex, ANY_INFO)?);
        }
        let data = matchers.iter().filter(|matcher| matcher.name != METRIC_NAME).collect();
        Ok(Wanted { names, data })
    }

    /// Whether a series is itself one of the info series, which are passed through.
    fn is_info(&self, labels: &Labels) -> bool {
        let name = labels.metric_name().unwrap_or("");
        !self.names.is_empty() && self.names.iter().all(|matcher| matcher.matches(name))
    }

    /// What info series to select; `None` if no series says what target it is about.
    fn matchers(&self, base: &Rows, enriched: &[bool]) -> Result<Option<Vec<Matcher>>, EvalError> {
        let mut matchers = self.names.clone();
        if matchers.is_empty() {
            matchers.push(matcher(METRIC_NAME, MatchOp::Equal, TARGET_INFO)?);
        }
        matchers.extend(self.data.iter().map(|matcher| (*matcher).clone()));
        let mut identified = false;
        for label in IDENTIFYING {
            let mut values: Vec<&str> = base
                .labels
                .iter()
                .zip(enriched)
                .filter(|(_, enriched)| **enriched)
                .filter_map(|(labels, _)| labels.get(label))
                .collect();
            values.sort_unstable();
            values.dedup();
            identified |= !values.is_empty();
            if (1..=MAX_LISTED).contains(&values.len()) {
                let listed: Vec<String> =
                    values.iter().map(|value| model::regex::escape(value)).collect();
                let pattern = listed.join("|");
                matchers.push(matcher(label, MatchOp::Regex, &pattern)?);
            }
        }
        Ok(identified.then_some(matchers))
    }

    fn takes(&self, label: &str) -> bool {
        self.data.is_empty() || self.data.iter().any(|matcher| matcher.name == label)
    }

    /// Whether a series without any info series stays.
    fn allows_none(&self) -> bool {
        self.data.iter().all(|matcher| matcher.matches_empty())
    }
}

fn matcher(name: &str, op: MatchOp, value: &str) -> Result<Matcher, EvalError> {
    Matcher::new(name, op, value).map_err(|error| EvalError::Execution(error.to_string()))
}

/// When info series are looked up: at the time the first selector within `plan` refers to.
fn reference_of(plan: &Plan<'_>) -> Option<Reference> {
    let within = |outer: Reference, inner: Reference| match inner.at_ms {
        Some(_) => inner,
        None => Reference { offset_ms: outer.offset_ms.saturating_add(inner.offset_ms), ..outer },
    };
    match &plan.kind {
        Kind::Instant(selector) => Some(selector.reference),
        Kind::Range(RangePlan::Selector { selector, .. }) => Some(selector.reference),
        Kind::Range(RangePlan::Subquery(subquery)) => {
            reference_of(&subquery.inner).map(|inner| within(subquery.reference, inner))
        }
        Kind::Call(call) => call.args.iter().find_map(reference_of),
        Kind::Aggregate(aggregate) => reference_of(&aggregate.input)
            .or_else(|| aggregate.param.as_ref().and_then(reference_of)),
        Kind::Binary(binary) => reference_of(&binary.left).or_else(|| reference_of(&binary.right)),
        Kind::Negate(inner) | Kind::Invariant(inner) => reference_of(inner),
        Kind::Number(_) | Kind::Text(_) => None,
    }
}

/// The part of the labels that identifies the target.
fn target(labels: &Labels) -> Labels {
    labels.filter(|name| IDENTIFYING.contains(&name))
}

/// Info series per target, those of one metric next to each other.
fn group(infos: &Rows) -> HashMap<Labels, Vec<u32>> {
    let mut by_target: HashMap<Labels, Vec<u32>> = HashMap::new();
    for (index, labels) in infos.labels.iter().enumerate() {
        by_target.entry(target(labels)).or_default().push(index as u32);
    }
    for series in by_target.values_mut() {
        series.sort_by_key(|index| infos.labels[*index as usize].metric_name().map(str::to_owned));
    }
    by_target
}

struct Join<'j> {
    base: &'j Rows,
    /// Info series; their values are the times of their samples.
    infos: &'j Rows,
    wanted: &'j Wanted<'j>,
    by_target: HashMap<Labels, Vec<u32>>,
}

impl Join<'_> {
    /// Appends series `index` with the labels of its info series. As these come and go over
    /// time, one series may become several.
    fn enrich(&self, index: usize, out: &mut Rows) -> Result<(), EvalError> {
        let labels = &self.base.labels[index];
        let candidates = self.by_target.get(&target(labels)).map_or(&[][..], Vec::as_slice);
        let mut variants: Vec<(Vec<u32>, Vec<f64>)> = Vec::new();
        let mut chosen = Vec::new();
        for (step, &value) in self.base.row(index).iter().enumerate() {
            if is_absent(value) {
                continue;
            }
            self.choose(candidates, step, &mut chosen)?;
            if chosen.is_empty() && !self.wanted.allows_none() {
                continue;
            }
            let at = match variants.iter().position(|(known, _)| *known == chosen) {
                Some(at) => at,
                None => {
                    variants.push((chosen.clone(), vec![ABSENT; self.base.steps]));
                    variants.len() - 1
                }
            };
            variants[at].1[step] = value;
        }
        for (chosen, row) in variants {
            let labels = self.labels(labels, &chosen)?;
            // Rows have marks where there are histograms, so all variants share these.
            out.push(labels, self.base.drop_name[index], &row, self.base.histograms.row(index))?;
        }
        Ok(())
    }

    /// The info series that hold at `step`: of each metric the one with the newest sample.
    fn choose(
        &self,
        candidates: &[u32],
        step: usize,
        chosen: &mut Vec<u32>,
    ) -> Result<(), EvalError> {
        chosen.clear();
        let time = |index: u32| self.infos.row(index as usize)[step];
        let labels = |index: u32| &self.infos.labels[index as usize];
        for &candidate in candidates.iter().filter(|index| !is_absent(time(**index))) {
            let rival = chosen
                .last_mut()
                .filter(|rival| labels(**rival).metric_name() == labels(candidate).metric_name());
            match rival {
                None => chosen.push(candidate),
                Some(rival) if time(*rival) < time(candidate) => *rival = candidate,
                Some(rival) if time(*rival) > time(candidate) => {}
                Some(rival) => {
                    let at_ms = (time(candidate) * 1000.0).round();
                    return Err(EvalError::Execution(format!(
                        "found duplicate series for info metric: existing {} @ {at_ms}, \
                         new {} @ {at_ms}",
                        labels(*rival),
                        labels(candidate),
                    )));
                }
            }
        }
        Ok(())
    }

    fn labels(&self, base: &Labels, chosen: &[u32]) -> Result<Labels, EvalError> {
        let mut added = LabelsBuilder::new();
        for &index in chosen {
            for (name, value) in self.infos.labels[index as usize].iter() {
                if name == METRIC_NAME || !self.wanted.takes(name) {
                    continue;
                }
                if added.get(name).is_some_and(|known| known != value) {
                    return Err(EvalError::Execution(format!("conflicting label: {name}")));
                }
                if base.get(name).is_none() {
                    added.set(name, value);
                }
            }
        }
        let mut builder = LabelsBuilder::from_labels(base);
        for (name, value) in added.build().iter() {
            builder.set(name, value);
        }
        Ok(builder.build())
    }
}
