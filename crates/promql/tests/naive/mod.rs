//! An evaluator that is as plain as possible: one step, one series, one sample at a time, and no
//! work shared between any of them. It knows only what the property tests ask.

use std::collections::BTreeMap;

use model::{Labels, METRIC_NAME, is_stale_nan};
use promql::ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, Duration, Expr, Subquery,
    ValueType, VectorMatching, VectorSelector,
};

/// A stored series.
pub(crate) type Stored = (Labels, Vec<(i64, f64)>);

/// Result of a range query.
pub(crate) type Matrix = BTreeMap<Labels, Vec<(i64, f64)>>;

/// An element of a vector: labels, whether the name is to be dropped, value.
type Element = (Labels, bool, f64);
/// A range of samples of a series.
type Window = (Labels, bool, Vec<(i64, f64)>);

enum Value {
    Scalar(f64),
    Vector(Vec<Element>),
}

pub(crate) struct Naive<'a> {
    pub(crate) series: &'a [Stored],
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) lookback_ms: i64,
}

fn fixed(duration: &Duration) -> i64 {
    match duration {
        Duration::Fixed(ms) => *ms,
        Duration::Computed(_) => panic!("the naive evaluator has no duration expressions"),
    }
}

fn keep(labels: &Labels, names: &[String], on: bool) -> Labels {
    labels.filter(|name| names.iter().any(|n| n == name) == on && (on || name != METRIC_NAME))
}

impl Naive<'_> {
    pub(crate) fn range_query(&self, expr: &Expr, step_ms: i64) -> Result<Matrix, String> {
        let mut matrix = Matrix::new();
        let mut t_ms = self.start_ms;
        while t_ms <= self.end_ms {
            let elements = match self.eval(expr, t_ms)? {
                Value::Scalar(value) => vec![(Labels::empty(), false, value)],
                Value::Vector(elements) => elements,
            };
            let mut here = BTreeMap::new();
            for (labels, drop, value) in elements {
                let labels = if drop { labels.without_name() } else { labels };
                if here.insert(labels, value).is_some() {
                    return Err("same labelset".to_owned());
                }
            }
            for (labels, value) in here {
                matrix.entry(labels).or_default().push((t_ms, value));
            }
            t_ms += step_ms;
        }
        Ok(matrix)
    }

    fn eval(&self, expr: &Expr, t_ms: i64) -> Result<Value, String> {
        Ok(match expr {
            Expr::Number(number) => Value::Scalar(number.value),
            Expr::Paren(paren) => self.eval(&paren.expr, t_ms)?,
            Expr::Vector(selector) => Value::Vector(self.instant(selector, t_ms)),
            Expr::Unary(unary) => match self.eval(&unary.expr, t_ms)? {
                value if !unary.negative => value,
                Value::Scalar(value) => Value::Scalar(-value),
                Value::Vector(v) => {
                    Value::Vector(v.into_iter().map(|(l, _, v)| (l, true, -v)).collect())
                }
            },
            Expr::Call(call) => self.call(call, t_ms)?,
            Expr::Aggregate(aggregate) => Value::Vector(self.aggregate(aggregate, t_ms)?),
            Expr::Binary(binary) => self.binary(binary, t_ms)?,
            Expr::String(_) | Expr::Matrix(_) | Expr::Subquery(_) => {
                panic!("not by itself: {expr:?}")
            }
        })
    }

    fn vector(&self, expr: &Expr, t_ms: i64) -> Result<Vec<Element>, String> {
        match self.eval(expr, t_ms)? {
            Value::Vector(elements) => Ok(elements),
            Value::Scalar(_) => panic!("a vector is needed"),
        }
    }

    fn scalar(&self, expr: &Expr, t_ms: i64) -> Result<f64, String> {
        match self.eval(expr, t_ms)? {
            Value::Scalar(value) => Ok(value),
            Value::Vector(_) => panic!("a scalar is needed"),
        }
    }

    fn reference(&self, at: Option<At>, offset: &Duration, t_ms: i64) -> i64 {
        let base = match at {
            None => t_ms,
            Some(At::Timestamp(at)) => at,
            Some(At::Start) => self.start_ms,
            Some(At::End) => self.end_ms,
        };
        base - fixed(offset)
    }

    fn matching(&self, selector: &VectorSelector) -> Vec<&Stored> {
        let matches = |labels: &Labels| {
            selector.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
        };
        self.series.iter().filter(|(labels, _)| matches(labels)).collect()
    }

    fn instant(&self, selector: &VectorSelector, t_ms: i64) -> Vec<Element> {
        let t_ms = self.reference(selector.at, &selector.offset, t_ms);
        let mut elements = Vec::new();
        for (labels, samples) in self.matching(selector) {
            let last = samples.iter().rfind(|(t, _)| *t <= t_ms);
            if let Some((t, value)) = last
                && *t > t_ms - self.lookback_ms
                && !is_stale_nan(*value)
            {
                elements.push((labels.clone(), false, *value));
            }
        }
        elements
    }

    fn windows(&self, expr: &Expr, t_ms: i64) -> Result<(Vec<Window>, i64, i64), String> {
        match expr {
            Expr::Paren(paren) => self.windows(&paren.expr, t_ms),
            Expr::Matrix(matrix) => {
                let selector = &matrix.vector;
                let end = self.reference(selector.at, &selector.offset, t_ms);
                let start = end - fixed(&matrix.range);
                let inside = |sample: &&(i64, f64)| {
                    sample.0 > start && sample.0 <= end && !is_stale_nan(sample.1)
                };
                let windows = self
                    .matching(selector)
                    .into_iter()
                    .map(|(labels, samples)| {
                        (labels.clone(), false, samples.iter().filter(inside).copied().collect())
                    })
                    .collect();
                Ok((windows, start, end))
            }
            Expr::Subquery(subquery) => self.subquery(subquery, t_ms),
            other => panic!("no range: {other:?}"),
        }
    }

    fn subquery(&self, query: &Subquery, t_ms: i64) -> Result<(Vec<Window>, i64, i64), String> {
        let end = self.reference(query.at, &query.offset, t_ms);
        let start = end - fixed(&query.range);
        let step = query.step.as_ref().map_or(60_000, fixed);
        let mut windows: BTreeMap<Labels, (bool, Vec<(i64, f64)>)> = BTreeMap::new();
        for at in start + 1..=end {
            if at.rem_euclid(step) == 0 {
                for (labels, drop, value) in self.vector(&query.expr, at)? {
                    windows.entry(labels).or_insert((drop, Vec::new())).1.push((at, value));
                }
            }
        }
        let windows = windows.into_iter().map(|(l, (drop, samples))| (l, drop, samples)).collect();
        Ok((windows, start, end))
    }

    fn call(&self, call: &Call, t_ms: i64) -> Result<Value, String> {
        let name = call.function.name;
        let map = |f: &dyn Fn(f64) -> f64| -> Result<Value, String> {
            let elements = self.vector(&call.args[0], t_ms)?;
            Ok(Value::Vector(elements.into_iter().map(|(l, _, v)| (l, true, f(v))).collect()))
        };
        match name {
            "time" => return Ok(Value::Scalar(t_ms as f64 / 1000.0)),
            "abs" => return map(&f64::abs),
            "ceil" => return map(&f64::ceil),
            "scalar" => {
                let elements = self.vector(&call.args[0], t_ms)?;
                let value = if let [(_, _, value)] = elements[..] { value } else { f64::NAN };
                return Ok(Value::Scalar(value));
            }
            "absent" => {
                let absent = self.vector(&call.args[0], t_ms)?.is_empty();
                let element = (Labels::empty(), false, 1.0);
                return Ok(Value::Vector(if absent { vec![element] } else { Vec::new() }));
            }
            _ => {}
        }
        let range = call.args.iter().find(|arg| arg.value_type() == ValueType::Matrix);
        let (windows, start, end) = self.windows(range.expect("a function over ranges"), t_ms)?;
        let param = match call.args.iter().find(|arg| arg.value_type() == ValueType::Scalar) {
            Some(param) => self.scalar(param, t_ms)?,
            None => 0.0,
        };
        let keeps_name = matches!(name, "last_over_time" | "first_over_time");
        let mut elements = Vec::new();
        for (labels, drop, samples) in windows {
            if samples.is_empty() {
                continue;
            }
            if let Some(value) = over_time(name, &samples, start, end, t_ms, param) {
                elements.push((labels, drop || !keeps_name, value));
            }
        }
        Ok(Value::Vector(elements))
    }

    fn aggregate(&self, aggregate: &Aggregate, t_ms: i64) -> Result<Vec<Element>, String> {
        let param = match &aggregate.param {
            Some(param) => self.scalar(param, t_ms)?,
            None => 0.0,
        };
        let mut groups: BTreeMap<Labels, Vec<Element>> = BTreeMap::new();
        for element in self.vector(&aggregate.expr, t_ms)? {
            let key = keep(&element.0, &aggregate.grouping, !aggregate.without);
            groups.entry(key).or_default().push(element);
        }
        let mut out = Vec::new();
        for (labels, members) in groups {
            let values: Vec<f64> = members.iter().map(|member| member.2).collect();
            let drop = members.iter().any(|member| member.1);
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            let one = |value: f64| vec![(labels.clone(), drop, value)];
            out.extend(match aggregate.op {
                AggregateOp::Sum => one(values.iter().sum()),
                AggregateOp::Avg => one(mean),
                AggregateOp::Count => one(count),
                AggregateOp::Group => one(1.0),
                AggregateOp::Min => one(best(&values, |a, b| a < b)),
                AggregateOp::Max => one(best(&values, |a, b| a > b)),
                AggregateOp::Stdvar => {
                    one(values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count)
                }
                AggregateOp::Quantile => one(quantile(param, values)),
                AggregateOp::Topk | AggregateOp::Bottomk => {
                    let mut ranked = members;
                    let largest = aggregate.op == AggregateOp::Topk;
                    ranked.sort_by(|a, b| match a.2.partial_cmp(&b.2) {
                        Some(order) if largest => order.reverse(),
                        Some(order) => order,
                        None => a.2.is_nan().cmp(&b.2.is_nan()),
                    });
                    ranked.truncate(param as usize);
                    ranked
                }
                other => panic!("no {other:?}"),
            });
        }
        Ok(out)
    }

    fn binary(&self, binary: &Binary, t_ms: i64) -> Result<Value, String> {
        let left = self.eval(&binary.left, t_ms)?;
        let right = self.eval(&binary.right, t_ms)?;
        let comparison = operate(binary.op, 1.0, 1.0).1;
        let drops = !comparison || binary.return_bool;
        let element = |l: f64, r: f64, kept: f64| {
            let (value, is_comparison) = operate(binary.op, l, r);
            match (is_comparison, binary.return_bool) {
                (true, false) => (value == 1.0).then_some(kept),
                _ => Some(value),
            }
        };
        Ok(match (left, right) {
            (Value::Scalar(l), Value::Scalar(r)) => Value::Scalar(operate(binary.op, l, r).0),
            (Value::Vector(v), Value::Scalar(s)) => Value::Vector(
                v.into_iter()
                    .filter_map(|(l, drop, v)| Some((l, drop || drops, element(v, s, v)?)))
                    .collect(),
            ),
            (Value::Scalar(s), Value::Vector(v)) => Value::Vector(
                v.into_iter()
                    .filter_map(|(l, drop, v)| Some((l, drop || drops, element(s, v, v)?)))
                    .collect(),
            ),
            (Value::Vector(l), Value::Vector(r)) => {
                let matching = binary.matching.as_ref().expect("vectors have a matching");
                let elements = match binary.op {
                    BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => {
                        set(binary.op, matching, l, r)
                    }
                    _ => {
                        join(matching, &l, &r, drops && !comparison, drops && comparison, &element)?
                    }
                };
                Value::Vector(elements)
            }
        })
    }
}

fn set(op: BinaryOp, m: &VectorMatching, l: Vec<Element>, r: Vec<Element>) -> Vec<Element> {
    let key = |element: &Element| keep(&element.0, &m.labels, m.on);
    let contains = |side: &[Element], e: &Element| side.iter().any(|other| key(other) == key(e));
    match op {
        BinaryOp::And => l.into_iter().filter(|e| contains(&r, e)).collect(),
        BinaryOp::Unless => l.into_iter().filter(|e| !contains(&r, e)).collect(),
        _ => {
            let more: Vec<Element> = r.into_iter().filter(|e| !contains(&l, e)).collect();
            l.into_iter().chain(more).collect()
        }
    }
}

fn join(
    m: &VectorMatching,
    l: &[Element],
    r: &[Element],
    removes_name: bool,
    drops_name: bool,
    element: &dyn Fn(f64, f64, f64) -> Option<f64>,
) -> Result<Vec<Element>, String> {
    let swapped = m.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (r, l) } else { (l, r) };
    let key = |element: &Element| keep(&element.0, &m.labels, m.on);
    if many.is_empty() || one.is_empty() {
        return Ok(Vec::new());
    }
    for (i, a) in one.iter().enumerate() {
        if one[..i].iter().any(|b| key(a) == key(b)) {
            return Err("found duplicate series".to_owned());
        }
    }
    let mut out = Vec::new();
    let mut met: Vec<(Labels, Labels)> = Vec::new();
    for a in many {
        let Some(b) = one.iter().find(|b| key(a) == key(b)) else { continue };
        let mut labels = a.0.clone();
        if removes_name {
            labels = labels.without_name();
        }
        if m.cardinality == Cardinality::OneToOne {
            let named = |name: &str| m.labels.iter().any(|label| label == name);
            labels = labels.filter(|name| named(name) == m.on);
        }
        let mut builder = model::LabelsBuilder::from_labels(&labels);
        for name in &m.include {
            builder.set(name, b.0.get(name).unwrap_or(""));
        }
        let labels = builder.build();
        let id =
            if m.cardinality == Cardinality::OneToOne { Labels::empty() } else { labels.clone() };
        if met.contains(&(key(a), id.clone())) {
            return Err("multiple matches for labels".to_owned());
        }
        met.push((key(a), id));
        let (left, right) = if swapped { (b.2, a.2) } else { (a.2, b.2) };
        if let Some(value) = element(left, right, left) {
            out.push((labels, a.1 || drops_name, value));
        }
    }
    for (i, a) in out.iter().enumerate() {
        if out[..i].iter().any(|b| a.0 == b.0) {
            return Err("same labelset".to_owned());
        }
    }
    Ok(out)
}

/// The value, and whether the operator compares.
fn operate(op: BinaryOp, l: f64, r: f64) -> (f64, bool) {
    let truth = |holds: bool| (f64::from(u8::from(holds)), true);
    match op {
        BinaryOp::Add => (l + r, false),
        BinaryOp::Sub => (l - r, false),
        BinaryOp::Mul => (l * r, false),
        BinaryOp::Div => (l / r, false),
        BinaryOp::Mod => (l % r, false),
        BinaryOp::Pow => (l.powf(r), false),
        BinaryOp::Atan2 => (l.atan2(r), false),
        BinaryOp::Equal => truth(l == r),
        BinaryOp::NotEqual => truth(l != r),
        BinaryOp::Greater => truth(l > r),
        BinaryOp::Less => truth(l < r),
        BinaryOp::GreaterEqual => truth(l >= r),
        BinaryOp::LessEqual => truth(l <= r),
        _ => (f64::NAN, false),
    }
}

fn best(values: &[f64], beats: fn(f64, f64) -> bool) -> f64 {
    values.iter().fold(f64::NAN, |best, &v| if best.is_nan() || beats(v, best) { v } else { best })
}

fn quantile(phi: f64, mut values: Vec<f64>) -> f64 {
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan())));
    let rank = phi * (values.len() - 1) as f64;
    let (low, weight) = (rank.floor() as usize, rank - rank.floor());
    values[low] * (1.0 - weight) + values[(low + 1).min(values.len() - 1)] * weight
}

fn over_time(
    name: &str,
    samples: &[(i64, f64)],
    start: i64,
    end: i64,
    t_ms: i64,
    param: f64,
) -> Option<f64> {
    let values: Vec<f64> = samples.iter().map(|sample| sample.1).collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let pairs = || values.windows(2);
    Some(match name {
        "sum_over_time" => values.iter().sum(),
        "avg_over_time" => mean,
        "count_over_time" => count,
        "present_over_time" => 1.0,
        "last_over_time" => values[values.len() - 1],
        "first_over_time" => values[0],
        "min_over_time" => best(&values, |a, b| a < b),
        "max_over_time" => best(&values, |a, b| a > b),
        "stdvar_over_time" => values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count,
        "quantile_over_time" => quantile(param, values),
        "changes" => {
            pairs().filter(|p| p[0] != p[1] && !(p[0].is_nan() && p[1].is_nan())).count() as f64
        }
        "resets" => pairs().filter(|p| p[1] < p[0]).count() as f64,
        "idelta" => pairs().next_back().map(|p| p[1] - p[0])?,
        "deriv" | "predict_linear" if samples.len() < 2 => return None,
        "deriv" => regression(samples, samples[0].0).0,
        "predict_linear" => {
            let (slope, intercept) = regression(samples, t_ms);
            slope * param + intercept
        }
        "rate" | "increase" | "delta" => {
            let seconds = (end - start) as f64 / 1000.0;
            let change = extrapolated(samples, start, end, name != "delta")?;
            if name == "rate" { change / seconds } else { change }
        }
        other => panic!("no {other}"),
    })
}

fn extrapolated(samples: &[(i64, f64)], start: i64, end: i64, counter: bool) -> Option<f64> {
    let ((first_t, first), (last_t, last)) = (samples.first()?, samples.last()?);
    if samples.len() < 2 {
        return None;
    }
    let mut change = last - first;
    if counter {
        let resets = samples.windows(2).filter(|pair| pair[1].1 < pair[0].1);
        change += resets.map(|pair| pair[0].1).sum::<f64>();
    }
    let sampled = (last_t - first_t) as f64 / 1000.0;
    let average = sampled / (samples.len() - 1) as f64;
    let limit = |gap: f64| if gap >= average * 1.1 { average / 2.0 } else { gap };
    let mut to_start = limit((first_t - start) as f64 / 1000.0);
    if counter && change > 0.0 && *first >= 0.0 {
        to_start = to_start.min(sampled * first / change);
    }
    let to_end = limit((end - last_t) as f64 / 1000.0);
    Some(change * (sampled + to_start + to_end) / sampled)
}

fn regression(samples: &[(i64, f64)], origin: i64) -> (f64, f64) {
    let first = samples[0].1;
    if samples.iter().all(|sample| sample.1 == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let n = samples.len() as f64;
    let x = |t: i64| (t - origin) as f64 / 1000.0;
    let mean_x = samples.iter().map(|s| x(s.0)).sum::<f64>() / n;
    let mean_y = samples.iter().map(|s| s.1).sum::<f64>() / n;
    let covariance: f64 = samples.iter().map(|s| (x(s.0) - mean_x) * (s.1 - mean_y)).sum();
    let variance: f64 = samples.iter().map(|s| (x(s.0) - mean_x).powi(2)).sum();
    let slope = covariance / variance;
    (slope, mean_y - slope * mean_x)
}
