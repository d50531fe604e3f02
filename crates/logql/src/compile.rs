//! Trees into pipelines.

use model::{MatchOp, Matcher};

use crate::pipeline::{
    Comparison, IpMatcher, JsonPaths, LabelFilter as CompiledFilter, LabelFormat, LabelSelection,
    LabelSource, LineFilter as CompiledLineFilter, LineFormat, LineMatch, LogfmtFields,
    LogfmtOptions, PatternParser, RegexpParser, Stage as CompiledStage, TextMatch, Unwrap,
    parse_json_path, parse_logfmt_key,
};
use crate::syntax::ParseError;
use crate::syntax::ast::{
    CompareOp, Conversion, Expr, Extraction, LabelChoice, LabelFilter, LabelFormatSource,
    LineFilter, LineFilterOp, LogExpr, LogRange, StageKind, Unwrap as UnwrapNode,
};

/// What a pipeline's construction says, before the stage is known that it is about.
type Reason = String;

/// Checks that every pipeline of a query can be made: that its regular expressions, patterns,
/// templates, paths and addresses are some.
///
/// # Errors
/// The first that cannot, in Loki's words.
pub fn check(expr: &Expr) -> Result<(), ParseError> {
    match expr {
        Expr::Log(log) => stages(log).map(|_| ()),
        Expr::Metric(metric) => {
            metric.ranges().into_iter().try_for_each(|range| range_stages(range).map(|_| ()))
        }
    }
}

/// The stages of a log query, in the order in which they run.
///
/// # Errors
/// As [`check`].
pub fn stages(log: &LogExpr) -> Result<Vec<CompiledStage>, ParseError> {
    let ordered = log.ordered_stages();
    let mut compiled = Vec::with_capacity(ordered.len());
    for (index, stage) in ordered.iter().enumerate() {
        match compile(&stage.kind) {
            Ok(stage) => compiled.push(stage),
            Err(reason) => {
                // Loki takes line filters that follow each other for one stage.
                let is_line = |kind: &StageKind| matches!(kind, StageKind::LineFilter(_));
                let mut first = index;
                while is_line(&stage.kind) && first > 0 && is_line(&ordered[first - 1].kind) {
                    first -= 1;
                }
                let mut end = index + 1;
                while is_line(&stage.kind) && end < ordered.len() && is_line(&ordered[end].kind) {
                    end += 1;
                }
                let shown: Vec<String> =
                    ordered[first..end].iter().map(ToString::to_string).collect();
                return Err(stage_error(&shown.join(" "), &reason));
            }
        }
    }
    Ok(compiled)
}

/// The stages of a range, with its `unwrap` and what follows it.
///
/// # Errors
/// As [`check`].
pub fn range_stages(range: &LogRange) -> Result<Vec<CompiledStage>, ParseError> {
    let mut compiled = stages(&range.log)?;
    if let Some(unwrap) = &range.unwrap {
        compiled.push(CompiledStage::Unwrap(unwrap_stage(unwrap)));
        for filter in &unwrap.filters {
            let filter = label_filter(filter)
                .map_err(|reason| stage_error(&format!("| {filter}"), &reason))?;
            compiled.push(CompiledStage::LabelFilter(filter));
        }
    }
    Ok(compiled)
}

fn stage_error(stage: &str, reason: &str) -> ParseError {
    ParseError { line: 0, column: 0, message: format!("stage '{stage}' : {reason}") }
}

fn unwrap_stage(unwrap: &UnwrapNode) -> Unwrap {
    let conversion = match unwrap.conversion {
        None => crate::pipeline::Conversion::Float,
        Some(Conversion::Bytes) => crate::pipeline::Conversion::Bytes,
        Some(Conversion::Duration | Conversion::DurationSeconds) => {
            crate::pipeline::Conversion::Duration
        }
    };
    Unwrap::new(&unwrap.label, conversion)
}

fn compile(kind: &StageKind) -> Result<CompiledStage, Reason> {
    Ok(match kind {
        StageKind::LineFilter(filter) => CompiledStage::LineFilter(line_filter(filter)?),
        StageKind::Json(extractions) if extractions.is_empty() => CompiledStage::Json,
        StageKind::Json(extractions) => {
            CompiledStage::JsonPaths(JsonPaths::new(paths(extractions, parse_json_path)?))
        }
        StageKind::Logfmt { strict, keep_empty, extractions } => {
            let options = LogfmtOptions { strict: *strict, keep_empty: *keep_empty };
            if extractions.is_empty() {
                CompiledStage::Logfmt(options)
            } else {
                let keys = paths(extractions, |path| {
                    parse_logfmt_key(path).map(Option::unwrap_or_default)
                })?;
                CompiledStage::LogfmtFields(LogfmtFields::new(options, keys))
            }
        }
        StageKind::Regexp(pattern) => {
            CompiledStage::Regexp(RegexpParser::new(pattern).map_err(reason)?)
        }
        StageKind::Pattern(pattern) => {
            CompiledStage::Pattern(PatternParser::new(pattern).map_err(reason)?)
        }
        StageKind::Unpack => CompiledStage::Unpack,
        StageKind::LabelFilter(filter) => CompiledStage::LabelFilter(label_filter(filter)?),
        StageKind::LineFormat(template) => {
            CompiledStage::LineFormat(LineFormat::new(template).map_err(reason)?)
        }
        StageKind::LabelFormat(formats) => {
            let formats = formats
                .iter()
                .map(|format| {
                    let source = match &format.source {
                        LabelFormatSource::Rename(from) => LabelSource::Rename(from.clone()),
                        LabelFormatSource::Template(text) => LabelSource::Template(text.clone()),
                    };
                    (format.label.clone(), source)
                })
                .collect();
            CompiledStage::LabelFormat(LabelFormat::new(formats).map_err(reason)?)
        }
        StageKind::Decolorize => CompiledStage::Decolorize,
        StageKind::Drop(choices) => CompiledStage::Drop(selection(choices)?),
        StageKind::Keep(choices) => CompiledStage::Keep(selection(choices)?),
    })
}

fn reason(error: impl ToString) -> Reason {
    error.to_string()
}

fn paths<T, E: ToString>(
    extractions: &[Extraction],
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<(String, T)>, Reason> {
    extractions
        .iter()
        .map(|extraction| match parse(&extraction.path) {
            Ok(path) => Ok((extraction.label.clone(), path)),
            Err(error) => {
                Err(format!("cannot parse expression [{}]: {}", extraction.path, error.to_string()))
            }
        })
        .collect()
}

fn line_filter(filter: &LineFilter) -> Result<CompiledLineFilter, Reason> {
    let compile = |operand: &crate::syntax::ast::LineOperand| {
        let text = operand.value.as_str();
        match filter.op {
            LineFilterOp::Contains | LineFilterOp::NotContains if operand.is_ip => {
                LineMatch::ip(text).map_err(reason)
            }
            _ if operand.is_ip => Err("ip: invalid operation".to_owned()),
            LineFilterOp::Contains | LineFilterOp::NotContains => Ok(LineMatch::contains(text)),
            LineFilterOp::Matches | LineFilterOp::NotMatches => {
                LineMatch::regex(text).map_err(reason)
            }
            LineFilterOp::Pattern | LineFilterOp::NotPattern => {
                LineMatch::pattern(text).map_err(reason)
            }
        }
    };
    let alternatives = filter.operands.iter().map(compile).collect::<Result<_, _>>()?;
    Ok(if filter.op.is_negative() {
        CompiledLineFilter::reject(alternatives)
    } else {
        CompiledLineFilter::keep(alternatives)
    })
}

fn text_match(matcher: &Matcher) -> Result<TextMatch, Reason> {
    match matcher.op {
        MatchOp::Equal => Ok(TextMatch::Equal(matcher.value.clone())),
        MatchOp::NotEqual => Ok(TextMatch::NotEqual(matcher.value.clone())),
        MatchOp::Regex => TextMatch::regex(&matcher.value).map_err(reason),
        MatchOp::NotRegex => TextMatch::not_regex(&matcher.value).map_err(reason),
    }
}

fn selection(choices: &[LabelChoice]) -> Result<LabelSelection, Reason> {
    let labels = choices
        .iter()
        .map(|choice| match choice {
            LabelChoice::Name(name) => Ok((name.clone(), None)),
            LabelChoice::Matcher(matcher) => Ok((matcher.name.clone(), Some(text_match(matcher)?))),
        })
        .collect::<Result<_, Reason>>()?;
    Ok(LabelSelection::new(labels))
}

fn comparison(op: CompareOp) -> Comparison {
    match op {
        CompareOp::Equal => Comparison::Equal,
        CompareOp::NotEqual => Comparison::NotEqual,
        CompareOp::Greater => Comparison::Greater,
        CompareOp::GreaterOrEqual => Comparison::GreaterOrEqual,
        CompareOp::Less => Comparison::Less,
        CompareOp::LessOrEqual => Comparison::LessOrEqual,
    }
}

fn label_filter(filter: &LabelFilter) -> Result<CompiledFilter, Reason> {
    Ok(match filter {
        LabelFilter::And(left, right) => label_filter(left)?.and(label_filter(right)?),
        LabelFilter::Or(left, right) => label_filter(left)?.or(label_filter(right)?),
        LabelFilter::String(matcher) => CompiledFilter::text(&matcher.name, text_match(matcher)?),
        LabelFilter::Number { name, op, value } => {
            CompiledFilter::number(name, comparison(*op), *value)
        }
        LabelFilter::Duration { name, op, nanoseconds } => {
            CompiledFilter::duration_ns(name, comparison(*op), *nanoseconds)
        }
        LabelFilter::Bytes { name, op, bytes } => {
            CompiledFilter::bytes(name, comparison(*op), *bytes)
        }
        LabelFilter::Ip { name, negated, pattern } => {
            let matcher = IpMatcher::new(pattern).map_err(reason)?;
            if *negated {
                CompiledFilter::not_ip(name, matcher)
            } else {
                CompiledFilter::ip(name, matcher)
            }
        }
    })
}
