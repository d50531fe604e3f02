//! Trees into text: the canonical form, which is Loki's, on one line.

use std::fmt::{self, Display, Formatter};

use model::Matcher;

use super::ast::{
    Binary, Cardinality, Conversion, Expr, Extraction, Grouping, LabelChoice, LabelFilter,
    LabelFormat, LabelFormatSource, LineFilter, LineOperand, LogExpr, LogRange, Matching,
    MetricExpr, RangeAggregation, Stage, StageKind, Unwrap, VectorAggregation,
};
use super::check::is_match_all;
use super::duration::{format_go, format_prometheus};
use super::{number, size};
use model::quote::quote;

/// Items between separators.
pub(super) struct Joined<'a, T>(pub(super) &'a [T], pub(super) &'static str);

impl<T: Display> Display for Joined<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(self.1)?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}

/// A name beside an operator. A character that starts nothing is a name, as in Loki; two of them
/// would be read as a part of the operator.
struct Name<'a>(&'a str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            "!" => f.write_str("! "),
            "~" => f.write_str(" ~"),
            name => f.write_str(name),
        }
    }
}

/// `name="value"`
struct Written<'a>(&'a Matcher);

impl Display for Written<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Written(matcher) = self;
        write!(f, "{}{}{}", Name(&matcher.name), matcher.op.as_str(), quote(&matcher.value))
    }
}

/// `{a="b", c="d"}`
pub(super) fn selector(matchers: &[Matcher]) -> String {
    let matchers: Vec<Written<'_>> = matchers.iter().map(Written).collect();
    format!("{{{}}}", Joined(&matchers, ", "))
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Log(log) => log.fmt(f),
            Expr::Metric(expr) => expr.fmt(f),
        }
    }
}

impl Display for LogExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&selector(&self.matchers))?;
        for stage in &self.stages {
            write!(f, " {stage}")?;
        }
        Ok(())
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl Display for StageKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            StageKind::LineFilter(filter) => filter.fmt(f),
            StageKind::Json(extractions) => {
                f.write_str("| json")?;
                write_extractions(f, extractions)
            }
            StageKind::Logfmt { strict, keep_empty, extractions } => {
                f.write_str("| logfmt")?;
                if *strict {
                    f.write_str(" --strict")?;
                }
                if *keep_empty {
                    f.write_str(" --keep-empty")?;
                }
                write_extractions(f, extractions)
            }
            StageKind::Regexp(pattern) => write!(f, "| regexp {}", quote(pattern)),
            StageKind::Pattern(pattern) => write!(f, "| pattern {}", quote(pattern)),
            StageKind::Unpack => f.write_str("| unpack"),
            StageKind::LabelFilter(filter) => write!(f, "| {filter}"),
            StageKind::LineFormat(template) => write!(f, "| line_format {}", quote(template)),
            StageKind::LabelFormat(formats) => write!(f, "| label_format {}", Joined(formats, ",")),
            StageKind::Decolorize => f.write_str("| decolorize"),
            StageKind::Drop(choices) => write!(f, "| drop {}", Joined(choices, ",")),
            StageKind::Keep(choices) => write!(f, "| keep {}", Joined(choices, ",")),
        }
    }
}

fn write_extractions(f: &mut Formatter<'_>, extractions: &[Extraction]) -> fmt::Result {
    if extractions.is_empty() { Ok(()) } else { write!(f, " {}", Joined(extractions, ",")) }
}

impl Display for Extraction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", Name(&self.label), quote(&self.path))
    }
}

impl Display for LabelFormat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.source {
            LabelFormatSource::Rename(from) => write!(f, "{}={}", Name(&self.label), Name(from)),
            LabelFormatSource::Template(text) => write!(f, "{}={}", Name(&self.label), quote(text)),
        }
    }
}

impl Display for LabelChoice {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            LabelChoice::Name(name) => f.write_str(name),
            LabelChoice::Matcher(matcher) => Written(matcher).fmt(f),
        }
    }
}

impl Display for LineFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let op = self.op.as_str();
        for (index, operand) in self.operands.iter().enumerate() {
            // A line that must not contain one or the other contains neither, and is printed so.
            match (index, self.op.is_negative()) {
                (0, _) => write!(f, "{op} {operand}")?,
                (_, false) => write!(f, " or {operand}")?,
                (_, true) => write!(f, " {op} {operand}")?,
            }
        }
        Ok(())
    }
}

impl Display for LineOperand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let value = quote(&self.value);
        if self.is_ip { write!(f, "ip({value})") } else { f.write_str(&value) }
    }
}

impl Display for LabelFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            LabelFilter::And(left, right) => write!(f, "( {left} , {right} )"),
            LabelFilter::Or(left, right) => write!(f, "( {left} or {right} )"),
            LabelFilter::String(matcher) => write_label_matcher(f, matcher),
            LabelFilter::Number { name, op, value } => {
                write!(f, "{}{}{value}", Name(name), op.as_str())
            }
            LabelFilter::Duration { name, op, nanoseconds } => {
                write!(f, "{}{}{}", Name(name), op.as_str(), format_go(*nanoseconds))
            }
            LabelFilter::Bytes { name, op, bytes } => {
                write!(f, "{}{}{}", Name(name), op.as_str(), size::format(*bytes))
            }
            LabelFilter::Ip { name, negated, pattern } => {
                let op = if *negated { "!=" } else { "=" };
                write!(f, "{}{op}ip({})", Name(name), quote(pattern))
            }
        }
    }
}

/// Loki writes a regular expression between backticks, but for the one that matches everything.
fn write_label_matcher(f: &mut Formatter<'_>, matcher: &Matcher) -> fmt::Result {
    let is_regex = matches!(matcher.op, model::MatchOp::Regex | model::MatchOp::NotRegex);
    let is_everything = matcher.op == model::MatchOp::Regex && is_match_all(&matcher.value);
    if !is_regex || is_everything || matcher.value.contains(['`', '\r', '\0']) {
        return Written(matcher).fmt(f);
    }
    write!(f, "{}{}`{}`", Name(&matcher.name), matcher.op.as_str(), matcher.value)
}

impl Display for MetricExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            MetricExpr::Range(aggregation) => aggregation.fmt(f),
            MetricExpr::Vector(aggregation) => aggregation.fmt(f),
            MetricExpr::Binary(binary) => binary.fmt(f),
            MetricExpr::LabelReplace(replace) => write!(
                f,
                "label_replace({},{},{},{},{})",
                replace.inner,
                quote(&replace.target),
                quote(&replace.replacement),
                quote(&replace.source),
                quote(&replace.pattern)
            ),
            MetricExpr::Constant(value) => write!(f, "vector({})", constant(*value)),
            MetricExpr::Literal(value) => f.write_str(&number::format(*value)),
        }
    }
}

/// Six decimals as Loki writes them, or all where six would be another number.
fn constant(value: f64) -> String {
    let fixed = number::format_fixed(value);
    if fixed.parse() == Ok(value) { fixed } else { value.to_string() }
}

impl Display for RangeAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.op.as_str())?;
        if let Some(parameter) = self.parameter {
            write!(f, "{parameter},")?;
        }
        write!(f, "{})", self.range)?;
        match &self.grouping {
            Some(grouping) => write!(f, " {grouping}"),
            None => Ok(()),
        }
    }
}

impl Display for LogRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.log.fmt(f)?;
        if let Some(unwrap) = &self.unwrap {
            write!(f, " {unwrap}")?;
            for filter in &unwrap.filters {
                write!(f, " | {filter}")?;
            }
        }
        write!(f, "[{}]", format_prometheus(self.interval))?;
        if self.offset == 0 { Ok(()) } else { write!(f, " offset {}", format_go(self.offset)) }
    }
}

/// Without the filters behind it.
impl Display for Unwrap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.conversion.map(Conversion::as_str) {
            Some(conversion) => write!(f, "| unwrap {conversion}({})", self.label),
            None => write!(f, "| unwrap {}", self.label),
        }
    }
}

impl Display for Grouping {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let word = if self.without { "without" } else { "by" };
        write!(f, "{word} ({})", Joined(&self.labels, ","))
    }
}

impl VectorAggregation {
    /// Its name and grouping, up to the parenthesis: `sum by (a)`.
    pub(super) fn head(&self) -> String {
        let name = self.op.as_str();
        match &self.grouping {
            Some(grouping) if grouping.without || !grouping.labels.is_empty() => {
                format!("{name} {grouping}")
            }
            _ => name.to_owned(),
        }
    }
}

impl Display for VectorAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.head())?;
        if self.op.takes_parameter() {
            write!(f, "{},", self.parameter)?;
        }
        write!(f, "{})", self.inner)
    }
}

impl Binary {
    /// The operator with what modifies it.
    pub(super) fn operator(&self) -> String {
        let mut out = self.op.as_str().to_owned();
        if self.return_bool {
            out.push_str(" bool");
        }
        if let Some(matching) = &self.matching
            && (matching.on || !matching.labels.is_empty())
        {
            out.push_str(&matching.to_string());
        }
        out
    }
}

/// With a leading blank, and a trailing one where Loki leaves it.
impl Display for Matching {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let word = if self.on { "on" } else { "ignoring" };
        write!(f, " {word} ({}) ", Joined(&self.labels, ","))?;
        match self.cardinality {
            Cardinality::OneToOne => {}
            Cardinality::ManyToOne => f.write_str("group_left")?,
            Cardinality::OneToMany => f.write_str("group_right")?,
        }
        match &self.include {
            Some(include) => write!(f, " ({})", Joined(include, ",")),
            None => Ok(()),
        }
    }
}

impl Display for Binary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "({} {} {})", self.left, self.operator(), self.right)
    }
}

#[cfg(test)]
mod tests {
    use crate::syntax::parse;

    /// What is printed is read as the same query, whatever stands for a name.
    #[test]
    fn a_character_that_is_a_name_does_not_join_an_operator() {
        for query in [
            r#"{a="b"} | json! | a="b""#,
            r#"{a="b"} | logfmt ! = "x", ~"#,
            r#"{a="b", ! = "a", ! =~ "b", ! !~ "c"}"#,
            r#"{a="b"} | label_format a= ~, ! = b, ~ = `x`"#,
            r#"{a="b"} | ! = ip("10.0.0.0/8") or ! > 1.5s or ! == 2 or ! >= 3KiB or ! =~ "e|f""#,
            r#"{a="b"} | drop !, ~, ! = "g" | keep ~ = "h""#,
            r#"sum by (!, ~) (sum_over_time({a="b"} | unwrap ! | ~ = "i" [5m]))"#,
        ] {
            let printed =
                parse(query).unwrap_or_else(|error| panic!("{query}: {error}")).to_string();
            let again = parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
            assert_eq!(again.to_string(), printed, "{query}");
        }
    }
}
