//! The entries all expositions consist of, and the grammar of label sets in text.

use std::borrow::Cow;
use std::ops::Range;

use model::{Histogram, LabelError, LabelForm, Labels, METRIC_NAME, MetricBatch, MetricType};

use crate::exemplar_rows::{self, Observation};
use crate::label_text::LabelText;
use crate::text_lex::{Cursor, Lex, Token, go_quote};
use crate::{WireError, pair_rows};

/// One line of an exposition.
#[derive(Debug, Clone)]
pub enum Entry<'p> {
    /// `# HELP metric text`, unescaped.
    Help {
        /// The family's name.
        metric: Cow<'p, str>,
        /// The help text, possibly empty.
        text: Cow<'p, str>,
    },
    /// `# TYPE metric type`.
    Type {
        /// The family's name.
        metric: Cow<'p, str>,
        /// The family's type.
        kind: MetricType,
    },
    /// `# UNIT metric unit`, only in OpenMetrics.
    Unit {
        /// The family's name.
        metric: Cow<'p, str>,
        /// The unit, possibly empty.
        unit: Cow<'p, str>,
    },
    /// Any other comment, as written; only in Prometheus' format.
    Comment(&'p [u8]),
    /// A sample.
    Series(Series<'p>),
    /// A native histogram, only in protobuf or out of [`crate::nhcb`].
    Histogram(HistogramSeries<'p>),
}

/// Name and labels of a series as they came, not yet a label set.
#[derive(Debug, Clone)]
pub(crate) struct RawSeries<'p> {
    pub(crate) input: &'p [u8],
    pub(crate) as_written: Range<usize>,
    pub(crate) labels: &'p [RawLabel],
    pub(crate) name: &'p Range<usize>,
    /// The type that the last `# TYPE` line names, of whatever family.
    pub(crate) kind: MetricType,
    /// Whether names and values are as they are meant: nothing is escaped, no bound is to be put
    /// into its canonical form.
    pub(crate) is_verbatim: bool,
}

/// A sample with its series.
#[derive(Debug, Clone)]
pub struct Series<'p> {
    pub(crate) raw: RawSeries<'p>,
    /// The value; every NaN of a text is the canonical one.
    pub value: f64,
    /// The sample's own timestamp in milliseconds, if it has one.
    pub timestamp_ms: Option<i64>,
    /// When the series began, in milliseconds, where a `_created` line told it and the parser was
    /// asked to fold such lines.
    pub start_timestamp_ms: Option<i64>,
    /// The exemplar, not in Prometheus' text format.
    pub exemplar: Option<Exemplar<'p>>,
}

/// A native histogram with its series.
#[derive(Debug, Clone)]
pub struct HistogramSeries<'p> {
    pub(crate) raw: RawSeries<'p>,
    pub(crate) exemplars: &'p [RawExemplar],
    pub(crate) exemplar_labels: &'p [RawLabel],
    /// The histogram, compact but not validated.
    pub histogram: Histogram,
    /// The sample's own timestamp in milliseconds, if it has one.
    pub timestamp_ms: Option<i64>,
    /// When its counts began at zero, in milliseconds, if that was told.
    pub start_timestamp_ms: Option<i64>,
}

/// An exemplar whose labels lie in a list that several share.
#[derive(Debug, Clone)]
pub(crate) struct RawExemplar {
    pub(crate) labels: Range<usize>,
    pub(crate) value: f64,
    pub(crate) timestamp_ms: Option<i64>,
}

/// An exemplar of a sample.
#[derive(Debug, Clone)]
pub struct Exemplar<'p> {
    pub(crate) input: &'p [u8],
    pub(crate) labels: &'p [RawLabel],
    pub(crate) is_verbatim: bool,
    /// Its value.
    pub value: f64,
    /// Its timestamp in milliseconds, if it has one.
    pub timestamp_ms: Option<i64>,
}

/// What stands behind the labels of a series that was recognised by its text.
#[derive(Debug, Clone)]
pub struct KnownSample<'p> {
    /// As [`Series::value`].
    pub value: f64,
    /// As [`Series::timestamp_ms`].
    pub timestamp_ms: Option<i64>,
    /// As [`Series::start_timestamp_ms`].
    pub start_timestamp_ms: Option<i64>,
    /// As [`Series::exemplar`].
    pub exemplar: Option<Exemplar<'p>>,
}

/// Where a label's name and value lie, without quotes and still escaped.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawLabel {
    pub(crate) name: Range<usize>,
    pub(crate) value: Range<usize>,
}

impl<'p> Series<'p> {
    /// The bytes of name and labels as they stand in the input, or, of a protobuf message, name
    /// and labels with the byte 255 between them. The same bytes mean the same series within one
    /// format, so that what was once made of them can be remembered.
    pub fn as_written(&self) -> &'p [u8] {
        self.raw.as_written()
    }

    /// The labels, the metric's name included, with escapes resolved and the values of `le` and
    /// `quantile` in their canonical form, as Prometheus 3 stores them.
    ///
    /// # Errors
    /// A duplicate label name.
    pub fn labels(&self) -> Result<Labels, LabelError> {
        self.raw.labels()
    }

    /// As [`Series::labels`], into memory of the caller's; unlike there, labels with an empty value
    /// are kept, since to some readers they say something.
    ///
    /// # Errors
    /// As [`Series::labels`], and an empty name; what `into` holds is then unspecified.
    pub fn read_labels(&self, into: &mut LabelText) -> Result<(), LabelError> {
        into.read(&self.raw)
    }

    /// As [`Series::read_labels`], with the family's type and unit as labels `__type__` and
    /// `__unit__` in place of such labels of the series; an unknown type and an empty unit are none.
    ///
    /// # Errors
    /// As there.
    pub fn read_described(
        &self,
        kind: MetricType,
        unit: &str,
        into: &mut LabelText,
    ) -> Result<(), LabelError> {
        into.read_described(&self.raw, kind, unit)
    }
}

impl<'p> HistogramSeries<'p> {
    /// As [`Series::as_written`].
    pub fn as_written(&self) -> &'p [u8] {
        self.raw.as_written()
    }

    /// As [`Series::labels`].
    ///
    /// # Errors
    /// As there.
    pub fn labels(&self) -> Result<Labels, LabelError> {
        self.raw.labels()
    }

    /// As [`Series::read_labels`].
    ///
    /// # Errors
    /// As there.
    pub fn read_labels(&self, into: &mut LabelText) -> Result<(), LabelError> {
        into.read(&self.raw)
    }

    /// As [`Series::read_described`].
    ///
    /// # Errors
    /// As there.
    pub fn read_described(
        &self,
        kind: MetricType,
        unit: &str,
        into: &mut LabelText,
    ) -> Result<(), LabelError> {
        into.read_described(&self.raw, kind, unit)
    }

    /// The exemplars, in the order in which they came.
    pub fn exemplars(&self) -> impl ExactSizeIterator<Item = Exemplar<'p>> + '_ {
        let (input, labels, is_verbatim) =
            (self.raw.input, self.exemplar_labels, self.raw.is_verbatim);
        self.exemplars.iter().map(move |raw| Exemplar {
            input,
            labels: &labels[raw.labels.clone()],
            is_verbatim,
            value: raw.value,
            timestamp_ms: raw.timestamp_ms,
        })
    }
}

impl<'p> RawSeries<'p> {
    pub(crate) fn as_written(&self) -> &'p [u8] {
        &self.input[self.as_written.clone()]
    }

    fn labels(&self) -> Result<Labels, LabelError> {
        let mut text = Vec::new();
        let mut spans = Vec::new();
        self.write_labels(&mut text, &mut spans);
        labels_of(&text, &spans)
    }

    /// Appends names and values to `text` and where they lie to `spans`, the metric's name first.
    pub(crate) fn write_labels(&self, text: &mut Vec<u8>, spans: &mut Vec<RawLabel>) {
        let kind = (!self.is_verbatim).then_some(self.kind);
        push_pair(text, spans, METRIC_NAME.as_bytes(), &self.input[self.name.clone()], kind);
        push_labels(self.input, self.labels, kind, text, spans);
    }
}

impl<'p> Exemplar<'p> {
    /// The one with this value and time, if there is one; its labels are text with escapes.
    pub(crate) fn escaped(
        input: &'p [u8],
        labels: &'p [RawLabel],
        found: Option<(f64, Option<i64>)>,
    ) -> Option<Self> {
        let (value, timestamp_ms) = found?;
        Some(Exemplar { input, labels, is_verbatim: false, value, timestamp_ms })
    }

    /// The exemplar's labels.
    ///
    /// # Errors
    /// A duplicate label name.
    pub fn labels(&self) -> Result<Labels, LabelError> {
        let mut text = Vec::new();
        let mut spans = Vec::new();
        self.write_labels(&mut text, &mut spans);
        labels_of(&text, &spans)
    }

    /// Appends the exemplar to `out` as one of the series whose packed labels lie there at `start`,
    /// so many bytes. `read_ms` is its time if it has none. False if there are too many.
    pub fn push(&self, series: (u32, u32), read_ms: i64, out: &mut MetricBatch) -> bool {
        let (mut text, mut spans) = (Vec::new(), Vec::with_capacity(self.labels.len()));
        self.write_labels(&mut text, &mut spans);
        let start = out.label_bytes.len();
        for span in &spans {
            let (name, value) = (&text[span.name.clone()], &text[span.value.clone()]);
            pair_rows::push_pair(&mut out.label_bytes, name, value);
        }
        let own = (start..out.label_bytes.len(), LabelForm::Pairs);
        let observed = Observation { value: self.value, t_ms: self.timestamp_ms };
        let first = out.exemplars.len();
        let is_taken = exemplar_rows::push(out, own, observed, read_ms);
        exemplar_rows::name_series(out, first, series, LabelForm::Packed);
        is_taken
    }

    /// Appends names and values to `text` and where they lie to `spans`.
    pub(crate) fn write_labels(&self, text: &mut Vec<u8>, spans: &mut Vec<RawLabel>) {
        let kind = (!self.is_verbatim).then_some(MetricType::Unknown);
        push_labels(self.input, self.labels, kind, text, spans);
    }
}

fn labels_of(text: &[u8], spans: &[RawLabel]) -> Result<Labels, LabelError> {
    let utf8 = |span: &Range<usize>| std::str::from_utf8(&text[span.clone()]);
    let mut pairs = Vec::with_capacity(spans.len());
    for span in spans {
        match (utf8(&span.name), utf8(&span.value)) {
            (Ok(name), Ok(value)) => pairs.push((name, value)),
            _ => return Err(LabelError::Malformed),
        }
    }
    Labels::from_pairs(pairs)
}

/// Without a `kind`, names and values are verbatim.
fn push_labels(
    input: &[u8],
    labels: &[RawLabel],
    kind: Option<MetricType>,
    text: &mut Vec<u8>,
    spans: &mut Vec<RawLabel>,
) {
    for label in labels {
        let (name, value) = (&input[label.name.clone()], &input[label.value.clone()]);
        push_pair(text, spans, name, value, kind);
    }
}

fn push_pair(
    text: &mut Vec<u8>,
    spans: &mut Vec<RawLabel>,
    name: &[u8],
    value: &[u8],
    kind: Option<MetricType>,
) {
    let start = text.len();
    let Some(kind) = kind else {
        text.extend_from_slice(name);
        let middle = text.len();
        text.extend_from_slice(value);
        spans.push(RawLabel { name: start..middle, value: middle..text.len() });
        return;
    };
    unescape_into(name, text);
    let middle = text.len();
    match canonical_bound(kind, name, value) {
        Some(bound) => text.extend_from_slice(bound.as_bytes()),
        None => unescape_into(value, text),
    }
    spans.push(RawLabel { name: start..middle, value: middle..text.len() });
}

/// The canonical form of a bucket bound or a quantile: OpenMetrics wants a float to look like one,
/// so that `1` of one client and `1.0` of another are the same series.
fn canonical_bound(kind: MetricType, name: &[u8], value: &[u8]) -> Option<String> {
    let is_bound = match kind {
        MetricType::Histogram => name == b"le",
        MetricType::Summary => name == b"quantile",
        _ => false,
    };
    if !is_bound {
        return None;
    }
    crate::text_lex::parse_float(value).ok().map(bound_text)
}

/// A bucket bound or a quantile in its canonical form.
pub(crate) fn bound_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        crate::text_encode::openmetrics_float(value)
    }
}

/// Resolves `\"`, `\\` and `\n`; a backslash before anything else stands for itself.
fn unescape_into(escaped: &[u8], out: &mut Vec<u8>) {
    let mut rest = escaped;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        match rest.get(at + 1) {
            Some(b'n') => out.push(b'\n'),
            Some(b'\\') => out.push(b'\\'),
            Some(b'"') => out.push(b'"'),
            Some(&other) => out.extend_from_slice(&[b'\\', other]),
            None => out.push(b'\\'),
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// [`unescape_into`] for text known to be UTF-8. `quotes` tells whether `\"` is an escape.
pub(crate) fn unescape(escaped: &str, quotes: bool) -> Cow<'_, str> {
    if !escaped.contains('\\') {
        return Cow::Borrowed(escaped);
    }
    let mut out = String::with_capacity(escaped.len());
    let mut chars = escaped.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('\\') => out.push('\\'),
            Some('"') if quotes => out.push('"'),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    Cow::Owned(out)
}

/// Where a series' or an exemplar's labels differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LabelGrammar {
    /// A quoted string alone is the metric's name.
    pub(crate) allows_name: bool,
    /// Labels must be parted by commas.
    pub(crate) needs_comma: bool,
}

/// Parses what follows `{` up to and including `}`.
pub(crate) fn parse_labels<'a>(
    lexer: &mut impl Lex<'a>,
    entry_start: usize,
    grammar: LabelGrammar,
    name: &mut Option<Range<usize>>,
    labels: &mut Vec<RawLabel>,
) -> Result<(), WireError> {
    let mut token = lexer.next();
    loop {
        let first = lexer.cursor().start..lexer.cursor().at;
        match token {
            Token::BraceClose => return Ok(()),
            Token::LabelName => {}
            Token::QuotedString => check_utf8(lexer.cursor(), "name")?,
            _ => return Err(lexer.cursor().unexpected("expected label name", token, entry_start)),
        }
        let quoted = token == Token::QuotedString;
        let text = if quoted { first.start + 1..first.end - 1 } else { first };
        token = lexer.next();
        if quoted && grammar.allows_name && matches!(token, Token::Comma | Token::BraceClose) {
            if name.is_some() {
                let so_far = lexer.cursor().quoted_so_far(entry_start);
                let message = format!("metric name already set while parsing: {so_far}");
                return Err(lexer.cursor().error(message));
            }
            *name = Some(text);
            if token == Token::Comma {
                token = lexer.next();
            }
            continue;
        }
        if token != Token::Equal {
            return Err(lexer.cursor().unexpected("expected equal", token, entry_start));
        }
        token = lexer.next();
        if token != Token::LabelValue {
            return Err(lexer.cursor().unexpected("expected label value", token, entry_start));
        }
        check_utf8(lexer.cursor(), "value")?;
        let value = lexer.cursor().start + 1..lexer.cursor().at - 1;
        labels.push(RawLabel { name: text, value });
        token = lexer.next();
        if token == Token::Comma {
            token = lexer.next();
        } else if grammar.needs_comma && token != Token::BraceClose {
            let expected = "expected comma or brace close";
            return Err(lexer.cursor().unexpected(expected, token, entry_start));
        }
    }
}

fn check_utf8(cursor: &Cursor<'_>, what: &str) -> Result<(), WireError> {
    let text = cursor.token();
    if std::str::from_utf8(text).is_ok() {
        return Ok(());
    }
    Err(cursor.error(format!("invalid UTF-8 label {what}: {}", go_quote(text))))
}

/// The metric name of a `HELP`, `TYPE` or `UNIT` line that was just read.
pub(crate) fn metadata_name<'a>(cursor: &Cursor<'a>) -> Result<Cow<'a, str>, WireError> {
    let token = cursor.token();
    let Ok(text) = std::str::from_utf8(token) else {
        return Err(cursor.error(format!("invalid UTF-8 metric name: {}", go_quote(token))));
    };
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(quoted) => Ok(unescape(quoted, true)),
        None => Ok(Cow::Borrowed(text)),
    }
}

/// The text of a `HELP` line, which must be UTF-8.
pub(crate) fn help_text<'a>(cursor: &Cursor<'a>, text: &'a [u8]) -> Result<&'a str, WireError> {
    std::str::from_utf8(text).map_err(|_| {
        cursor.error(format!("help text {} is not a valid utf8 string", go_quote(text)))
    })
}
