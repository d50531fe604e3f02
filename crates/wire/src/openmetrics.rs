//! OpenMetrics 1.0 text.
//!
//! Source: <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>
//! and the cases of Prometheus' `model/textparse`, whose wording the errors follow.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use model::{Limits, MetricBatch, MetricType};

use crate::WireError;
use crate::text_batch::{self, TextSummary};
use crate::text_entry::{
    Entry, Exemplar, KnownSample, LabelGrammar, RawLabel, RawSeries, Series, help_text,
    metadata_name, parse_labels, unescape,
};
use crate::text_lex::{
    Cursor, Lex, State, Token, go_quote, is_label_byte, is_label_start, is_metric_byte,
    is_metric_start, parse_float,
};

/// Decodes an exposition into `out`, which is emptied first; as [`crate::exposition::decode`].
///
/// `_created` lines are kept as series of their own, as Prometheus does by default.
///
/// # Errors
/// [`WireError::Text`] with line and reason, also when `# EOF` is missing; [`WireError::Limit`].
/// `out` is then empty.
pub fn decode(
    text: &[u8],
    default_t_ms: i64,
    extra_labels: &BTreeMap<String, String>,
    limits: &Limits,
    out: &mut MetricBatch,
) -> Result<TextSummary, WireError> {
    let mut parser = Parser::new(text);
    text_batch::decode(text.len(), default_t_ms, extra_labels, limits, out, |sink| {
        while let Some(entry) = parser.next_entry()? {
            sink.push(&entry)?;
        }
        Ok(())
    })
}

/// Reads an exposition entry by entry.
#[derive(Debug)]
pub struct Parser<'a> {
    lexer: Lexer<'a>,
    kind: MetricType,
    name: Range<usize>,
    labels: Vec<RawLabel>,
    exemplar_labels: Vec<RawLabel>,
    created: Option<CreatedLines>,
}

/// What `_created` lines of one family told.
#[derive(Debug, Default)]
struct CreatedLines {
    /// Where the name of the family that was searched lies; empty before any was.
    family: Range<usize>,
    /// Milliseconds by labels, see [`Parser::created_key`].
    by_series: HashMap<Vec<u8>, i64>,
}

/// A sample's line without what is borrowed.
struct Sample {
    as_written: Range<usize>,
    value: f64,
    timestamp_ms: Option<i64>,
    exemplar: ExemplarValue,
}

/// Value and timestamp of an exemplar, if there is one.
type ExemplarValue = Option<(f64, Option<i64>)>;
type BehindLabels = (f64, Option<i64>, ExemplarValue);

impl<'a> Parser<'a> {
    /// A parser at the start of `input`.
    pub fn new(input: &'a [u8]) -> Self {
        Parser {
            lexer: Lexer { cursor: Cursor::new(input, false), state: State::Init },
            kind: MetricType::Unknown,
            name: 0..0,
            labels: Vec::new(),
            exemplar_labels: Vec::new(),
            created: None,
        }
    }

    /// Makes `_created` lines of counters, histograms and summaries start timestamps of their
    /// series instead of entries. A line is found when it stands behind the family's first sample;
    /// each family is read twice for it.
    pub fn fold_created(mut self) -> Self {
        self.created = Some(CreatedLines::default());
        self
    }

    /// The next entry, or `None` after `# EOF`.
    ///
    /// # Errors
    /// [`WireError::Text`]; the parser is of no use afterwards.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, WireError> {
        loop {
            let token = self.lexer.next();
            let start = self.lexer.cursor.start;
            match token {
                Token::EofWord if self.lexer.next() == Token::Eof => return Ok(None),
                Token::EofWord => {
                    return Err(self.fault("unexpected data after # EOF"));
                }
                Token::Eof => return Err(self.fault("data does not end with # EOF")),
                Token::Help | Token::Type | Token::Unit => {
                    return self.metadata(token, start).map(Some);
                }
                Token::MetricName | Token::BraceOpen => {
                    let sample = self.sample(token, start)?;
                    if self.created.is_some() && self.is_created_line() {
                        continue;
                    }
                    let start_timestamp_ms = self.start_timestamp();
                    return Ok(Some(Entry::Series(self.series(sample, start_timestamp_ms))));
                }
                _ => {
                    let expected = "expected a valid start token";
                    return Err(self.lexer.cursor.unexpected(expected, token, start));
                }
            }
        }
    }

    /// As [`crate::exposition::Parser::known_series`]. A parser that
    /// [folds `_created` lines](Parser::fold_created) has to read labels and knows none.
    ///
    /// # Errors
    /// As [`Parser::next_entry`].
    pub fn known_series(
        &mut self,
        as_written: &[u8],
    ) -> Result<Option<KnownSample<'_>>, WireError> {
        if self.created.is_some() || !self.lexer.cursor.skip_known(as_written) {
            return Ok(None);
        }
        let start = self.lexer.cursor.start;
        self.lexer.state = State::Value;
        let token = self.lexer.next();
        let (value, timestamp_ms, exemplar) = self.behind_labels(token, start)?;
        let (input, labels) = (self.lexer.cursor.bytes, &self.exemplar_labels);
        let exemplar = Exemplar::escaped(input, labels, exemplar);
        Ok(Some(KnownSample { value, timestamp_ms, start_timestamp_ms: None, exemplar }))
    }

    /// The type that the last `# TYPE` line names, of whatever family.
    pub fn kind(&self) -> MetricType {
        self.kind
    }

    fn fault(&self, message: &str) -> WireError {
        self.lexer.cursor.error(message.to_owned())
    }

    fn series(&self, sample: Sample, start_timestamp_ms: Option<i64>) -> Series<'_> {
        let input = self.lexer.cursor.bytes;
        Series {
            raw: RawSeries {
                input,
                as_written: sample.as_written,
                labels: &self.labels,
                name: &self.name,
                kind: self.kind,
                is_verbatim: false,
            },
            value: sample.value,
            timestamp_ms: sample.timestamp_ms,
            start_timestamp_ms,
            exemplar: Exemplar::escaped(input, &self.exemplar_labels, sample.exemplar),
        }
    }

    fn metadata(&mut self, keyword: Token, start: usize) -> Result<Entry<'_>, WireError> {
        self.created = self.created.take().map(|_| CreatedLines::default());
        let token = self.lexer.next();
        if token != Token::MetricName {
            let expected = format!("expected metric name after {}", keyword.as_str());
            return Err(self.lexer.cursor.unexpected(&expected, token, start));
        }
        let metric = metadata_name(&self.lexer.cursor)?;
        if self.lexer.next() != Token::Text {
            return Err(self.fault(&format!("expected text in {}", keyword.as_str())));
        }
        let cursor = &self.lexer.cursor;
        // The token is a space, the text and the line feed.
        let text = &cursor.token()[1..];
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        match keyword {
            Token::Help => {
                Ok(Entry::Help { metric, text: unescape(help_text(cursor, text)?, true) })
            }
            Token::Unit => {
                let unit = help_text(cursor, text)?;
                let fits = metric.strip_suffix(unit).is_some_and(|head| head.ends_with('_'));
                if !unit.is_empty() && !fits {
                    return Err(self.fault(&format!(
                        "unit {} not a suffix of metric {}",
                        go_quote(text),
                        go_quote(metric.as_bytes())
                    )));
                }
                Ok(Entry::Unit { metric, unit: Cow::Borrowed(unit) })
            }
            _ => {
                let kind = metric_type(text).ok_or_else(|| {
                    self.fault(&format!("invalid metric type {}", go_quote(text)))
                })?;
                self.kind = kind;
                Ok(Entry::Type { metric, kind })
            }
        }
    }

    /// Parses a sample's line; name and labels go into `self`.
    fn sample(&mut self, first: Token, start: usize) -> Result<Sample, WireError> {
        self.labels.clear();
        let mut name = None;
        let mut token = first;
        if token == Token::MetricName {
            name = Some(start..self.lexer.cursor.at);
            token = self.lexer.next();
        }
        let mut end = name.as_ref().map_or(start, |name| name.end);
        if token == Token::BraceOpen {
            let grammar = LabelGrammar { allows_name: true, needs_comma: true };
            parse_labels(&mut self.lexer, start, grammar, &mut name, &mut self.labels)?;
            end = self.lexer.cursor.at;
            token = self.lexer.next();
        }
        let cursor = &self.lexer.cursor;
        let Some(name) = name else {
            let so_far = cursor.quoted_so_far(start);
            return Err(self.fault(&format!("metric name not set while parsing: {so_far}")));
        };
        self.name = name;
        let (value, timestamp_ms, exemplar) = self.behind_labels(token, start)?;
        Ok(Sample { as_written: start..end, value, timestamp_ms, exemplar })
    }

    /// The value, which is `token`, and the rest of a sample's line.
    fn behind_labels(&mut self, token: Token, start: usize) -> Result<BehindLabels, WireError> {
        let value = self.float(token, "metric", start)?;
        let mut timestamp_ms = None;
        let mut token = self.lexer.next();
        if token == Token::Timestamp {
            timestamp_ms = Some(self.timestamp("timestamp", start)?);
            token = self.lexer.next();
            if !matches!(token, Token::Linebreak | Token::Comment) {
                let expected = "expected next entry after timestamp";
                return Err(self.lexer.cursor.unexpected(expected, token, start));
            }
        }
        let exemplar = match token {
            Token::Linebreak => None,
            Token::Comment => Some(self.exemplar(start)?),
            Token::Eof => return Err(self.fault("data does not end with # EOF")),
            _ => {
                let expected = "expected timestamp or new record";
                return Err(self.lexer.cursor.unexpected(expected, token, start));
            }
        };
        Ok((value, timestamp_ms, exemplar))
    }

    fn exemplar(&mut self, start: usize) -> Result<(f64, Option<i64>), WireError> {
        self.exemplar_labels.clear();
        let grammar = LabelGrammar { allows_name: false, needs_comma: true };
        parse_labels(&mut self.lexer, start, grammar, &mut None, &mut self.exemplar_labels)?;
        let token = self.lexer.next();
        let value = self.float(token, "exemplar labels", start)?;
        match self.lexer.next() {
            Token::Linebreak => Ok((value, None)),
            Token::Timestamp => {
                let t_ms = self.timestamp("exemplar timestamp", start)?;
                match self.lexer.next() {
                    Token::Linebreak => Ok((value, Some(t_ms))),
                    token => {
                        let expected = "expected next entry after exemplar timestamp";
                        Err(self.lexer.cursor.unexpected(expected, token, start))
                    }
                }
            }
            Token::Eof => Err(self.fault("data does not end with # EOF")),
            token => {
                let expected = "expected timestamp or new record";
                Err(self.lexer.cursor.unexpected(expected, token, start))
            }
        }
    }

    fn float(&self, token: Token, after: &str, start: usize) -> Result<f64, WireError> {
        let cursor = &self.lexer.cursor;
        if token != Token::Value {
            return Err(cursor.unexpected(&format!("expected value after {after}"), token, start));
        }
        self.number(start)
    }

    /// The number of the token just read, which begins with a space.
    fn number(&self, start: usize) -> Result<f64, WireError> {
        let cursor = &self.lexer.cursor;
        parse_float(&cursor.token()[1..]).map_err(|fault| {
            cursor.error(format!("{fault} while parsing: {}", cursor.quoted_so_far(start)))
        })
    }

    /// Seconds to milliseconds; what does not fit is the nearest that does.
    fn timestamp(&self, what: &str, start: usize) -> Result<i64, WireError> {
        let seconds = self.number(start)?;
        if seconds.is_finite() {
            return Ok((seconds * 1_000.0) as i64);
        }
        let shown = match seconds {
            f64::INFINITY => "+Inf",
            f64::NEG_INFINITY => "-Inf",
            _ => "NaN",
        };
        Err(self.fault(&format!("invalid {what} {shown}")))
    }

    fn has_start_timestamps(&self) -> bool {
        matches!(self.kind, MetricType::Counter | MetricType::Histogram | MetricType::Summary)
    }

    fn is_created_line(&self) -> bool {
        self.has_start_timestamps()
            && self.lexer.cursor.bytes[self.name.clone()].ends_with(b"_created")
    }

    /// The start of the series just read, by a `_created` line further on in its family.
    fn start_timestamp(&mut self) -> Option<i64> {
        if !self.has_start_timestamps() {
            return None;
        }
        let mut created = self.created.take()?;
        let family = self.family();
        let input = self.lexer.cursor.bytes;
        if input[created.family.clone()] != input[family.clone()] {
            created =
                CreatedLines { by_series: self.search_created(&input[family.clone()]), family };
        }
        let found = created.by_series.get(&self.created_key()).copied();
        self.created = Some(created);
        found
    }

    /// Reads ahead to the end of the family. Families do not interleave, so each line is read ahead
    /// at most once.
    fn search_created(&self, family: &[u8]) -> HashMap<Vec<u8>, i64> {
        let mut by_series = HashMap::new();
        let mut ahead = Parser::new(self.lexer.cursor.bytes);
        ahead.lexer = self.lexer.clone();
        ahead.kind = self.kind;
        loop {
            let token = ahead.lexer.next();
            if !matches!(token, Token::MetricName | Token::BraceOpen) {
                return by_series;
            }
            let start = ahead.lexer.cursor.start;
            // A fault is reported when the parser itself comes there.
            let Ok(sample) = ahead.sample(token, start) else { return by_series };
            if ahead.lexer.cursor.bytes[ahead.family()] != *family {
                return by_series;
            }
            if ahead.is_created_line() {
                by_series.insert(ahead.created_key(), (sample.value * 1_000.0) as i64);
            }
        }
    }

    /// The name of the sample just read without the suffix its family's lines differ in.
    fn family(&self) -> Range<usize> {
        let name = &self.lexer.cursor.bytes[self.name.clone()];
        let suffixes = ["_created", "_total", "_bucket", "_count", "_sum"];
        let cut = suffixes.iter().find(|suffix| name.ends_with(suffix.as_bytes()));
        self.name.start..self.name.end - cut.map_or(0, |suffix| suffix.len())
    }

    /// The labels that all lines of one series of a family share, in one order.
    fn created_key(&self) -> Vec<u8> {
        let input = self.lexer.cursor.bytes;
        let own: &[u8] = match self.kind {
            MetricType::Histogram => b"le",
            MetricType::Summary => b"quantile",
            _ => b"",
        };
        let mut labels: Vec<_> = self
            .labels
            .iter()
            .map(|label| (&input[label.name.clone()], &input[label.value.clone()]))
            .filter(|(name, _)| *name != own)
            .collect();
        labels.sort_unstable();
        let mut key = Vec::new();
        for (name, value) in labels {
            // A quote cannot stand bare in either, so no two sets share a key.
            key.push(b'"');
            key.extend_from_slice(name);
            key.push(b'"');
            key.extend_from_slice(value);
        }
        key
    }
}

fn metric_type(word: &[u8]) -> Option<MetricType> {
    const ALL: [MetricType; 8] = [
        MetricType::Counter,
        MetricType::Gauge,
        MetricType::Histogram,
        MetricType::GaugeHistogram,
        MetricType::Summary,
        MetricType::Info,
        MetricType::StateSet,
        MetricType::Unknown,
    ];
    ALL.into_iter().find(|kind| kind.as_str().as_bytes() == word)
}

#[derive(Debug, Clone)]
struct Lexer<'a> {
    cursor: Cursor<'a>,
    state: State,
}

impl<'a> Lex<'a> for Lexer<'a> {
    fn cursor(&self) -> &Cursor<'a> {
        &self.cursor
    }

    fn next(&mut self) -> Token {
        let cursor = &mut self.cursor;
        // At the end the last token stays the one that errors show, as in Prometheus.
        let Some(byte) = cursor.peek() else { return Token::Eof };
        cursor.start = cursor.at;
        match self.state {
            State::Init => self.line_start(byte),
            State::MetaName => self.metadata_name(byte),
            State::MetaText => self.metadata_text(byte),
            State::Labels => self.label(byte, State::LabelValue, State::Value),
            State::Exemplar => self.label(byte, State::ExemplarValue, State::ExemplarValue),
            State::LabelValue => {
                self.quoted(byte, |byte| byte == b'\n', Token::LabelValue, State::Labels)
            }
            State::ExemplarValue if byte != b' ' => {
                let stop = |byte| matches!(byte, b'\n' | 0);
                self.quoted(byte, stop, Token::LabelValue, State::Exemplar)
            }
            State::ExemplarValue => self.number(Token::Value, State::ExemplarTimestamp),
            State::Value if byte == b'{' => {
                self.state = State::Labels;
                cursor.take(Token::BraceOpen)
            }
            State::Value if byte == b' ' => self.number(Token::Value, State::Timestamp),
            State::Value => Token::Invalid,
            State::Timestamp | State::ExemplarTimestamp => self.timestamp(byte),
        }
    }
}

impl Lexer<'_> {
    fn line_start(&mut self, byte: u8) -> Token {
        let cursor = &mut self.cursor;
        match byte {
            b'#' => self.keyword(),
            b'{' => {
                self.state = State::Labels;
                cursor.take(Token::BraceOpen)
            }
            byte if is_metric_start(byte) => {
                cursor.skip_while(is_metric_byte);
                self.state = State::Value;
                Token::MetricName
            }
            _ => Token::Invalid,
        }
    }

    /// `# HELP `, `# TYPE `, `# UNIT ` or `# EOF`; OpenMetrics has no other comments.
    fn keyword(&mut self) -> Token {
        const KEYWORDS: [(&[u8], Token, State); 4] = [
            (b"# HELP ", Token::Help, State::MetaName),
            (b"# TYPE ", Token::Type, State::MetaName),
            (b"# UNIT ", Token::Unit, State::MetaName),
            (b"# EOF", Token::EofWord, State::Init),
        ];
        let cursor = &mut self.cursor;
        let rest = &cursor.bytes[cursor.at..];
        let mut fits = 0;
        for (word, token, state) in KEYWORDS {
            let common = rest.iter().zip(word).take_while(|(a, b)| a == b).count();
            if common == word.len() {
                cursor.at += common;
                if token == Token::EofWord && cursor.peek() == Some(b'\n') {
                    cursor.at += 1;
                }
                self.state = state;
                return token;
            }
            fits = fits.max(common);
        }
        cursor.at += fits;
        Token::Invalid
    }

    fn metadata_name(&mut self, byte: u8) -> Token {
        if is_metric_start(byte) {
            self.cursor.skip_while(is_metric_byte);
            self.state = State::MetaText;
            return Token::MetricName;
        }
        self.quoted(byte, |byte| byte == b'\n', Token::MetricName, State::MetaText)
    }

    fn metadata_text(&mut self, byte: u8) -> Token {
        let cursor = &mut self.cursor;
        if byte != b' ' {
            return Token::Invalid;
        }
        cursor.skip_while(|byte| byte != b'\n');
        if cursor.peek().is_none() {
            return Token::Invalid;
        }
        self.state = State::Init;
        cursor.take(Token::Text)
    }

    fn label(&mut self, byte: u8, after_equal: State, after_close: State) -> Token {
        let cursor = &mut self.cursor;
        match byte {
            b'}' => {
                self.state = after_close;
                cursor.take(Token::BraceClose)
            }
            b'=' => {
                self.state = after_equal;
                cursor.take(Token::Equal)
            }
            b',' => cursor.take(Token::Comma),
            b'"' => {
                let state = self.state;
                // Names of series go on over line feeds, those of exemplars do not.
                let stop = |byte| byte == b'\n' && state == State::Exemplar;
                self.quoted(byte, stop, Token::QuotedString, state)
            }
            byte if is_label_start(byte) => {
                cursor.skip_while(is_label_byte);
                Token::LabelName
            }
            _ => Token::Invalid,
        }
    }

    fn quoted(&mut self, byte: u8, stop: impl Fn(u8) -> bool, token: Token, next: State) -> Token {
        if byte != b'"' || !self.cursor.skip_quoted(stop) {
            return Token::Invalid;
        }
        self.state = next;
        token
    }

    /// A space and what follows up to the next space or the line's end.
    fn number(&mut self, token: Token, next: State) -> Token {
        let cursor = &mut self.cursor;
        cursor.at += 1;
        let text = cursor.at;
        cursor.skip_while(|byte| byte != b' ' && byte != b'\n');
        if cursor.at == text {
            return Token::Invalid;
        }
        self.state = next;
        token
    }

    fn timestamp(&mut self, byte: u8) -> Token {
        let cursor = &mut self.cursor;
        match byte {
            b'\n' => {
                self.state = State::Init;
                cursor.take(Token::Linebreak)
            }
            b' ' if self.state == State::Timestamp
                && cursor.bytes[cursor.at..].starts_with(b" # {") =>
            {
                cursor.at += 4;
                self.state = State::Exemplar;
                Token::Comment
            }
            b' ' => self.number(Token::Timestamp, self.state),
            _ => Token::Invalid,
        }
    }
}
