//! Scripts of Prometheus' test language: `load`, `clear`, `eval` and what results to expect.

use ::promql::EvalTime;
use anyhow::{Context, bail};
use model::Labels;
use regex::Regex;

use ruletest::notation::series::{MAX_REPEAT, SeriesLine, parse_metric, parse_series, take_quoted};

/// One command and the line it starts on, from 1.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) line: usize,
    pub(crate) kind: CommandKind,
}

#[derive(Debug)]
pub(crate) enum CommandKind {
    Clear,
    Load(Load),
    Eval(Box<Eval>),
    /// What is wrong with the script here.
    Broken(anyhow::Error),
}

/// Samples to store, value `i` at `i * step_ms`.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) step_ms: i64,
    pub(crate) with_nhcb: bool,
    pub(crate) series: Vec<SeriesLine>,
    /// When samples of a series began at zero, seen from their own times, milliseconds.
    pub(crate) starts: Vec<(Labels, Vec<Option<i64>>)>,
}

/// A query and what it must yield.
#[derive(Debug)]
pub(crate) struct Eval {
    /// The line as written.
    pub(crate) text: String,
    pub(crate) time: EvalTime,
    pub(crate) query: String,
    pub(crate) expect: Expectations,
    pub(crate) result: Expected,
}

/// Conditions beside the result.
#[derive(Debug, Default)]
pub(crate) struct Expectations {
    pub(crate) ordered: bool,
    pub(crate) fail: Option<Pattern>,
    pub(crate) warn: Vec<Pattern>,
    pub(crate) no_warn: bool,
    pub(crate) info: Vec<Pattern>,
    pub(crate) no_info: bool,
}

/// What a text must be like.
#[derive(Debug)]
pub(crate) enum Pattern {
    Any,
    Exactly(String),
    Regex(Regex),
}

impl Pattern {
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Exactly(expected) => expected == text,
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }
}

/// The value a query must yield.
#[derive(Debug)]
pub(crate) enum Expected {
    Scalar(f64),
    String(String),
    Series {
        lines: Vec<SeriesLine>,
        /// For instant queries that yield a range: time of the first value, and the distance.
        range_vector: Option<(i64, i64)>,
    },
}

/// Cuts a script into commands.
pub(crate) fn parse(text: &str) -> Vec<Command> {
    let lines: Vec<&str> = text
        .split('\n')
        .map(str::trim)
        .map(|line| if line.starts_with('#') { "" } else { line })
        .collect();
    let mut commands = Vec::new();
    let mut next = 0;
    while next < lines.len() {
        if lines[next].is_empty() {
            next += 1;
            continue;
        }
        let (kind, end) = parse_command(&lines, next);
        commands.push(Command { line: next + 1, kind });
        next = end;
    }
    commands
}

/// Parses the command at `start`; yields the line after it.
fn parse_command(lines: &[&str], start: usize) -> (CommandKind, usize) {
    let block_end =
        (start + 1..lines.len()).find(|at| lines[*at].is_empty()).unwrap_or(lines.len());
    let word = lines[start].split_whitespace().next().unwrap_or("").to_lowercase();
    let (parsed, end) = if word == "clear" {
        (Ok(CommandKind::Clear), start + 1)
    } else if word.starts_with("load") {
        (parse_load(&lines[start..block_end]).map(CommandKind::Load), block_end)
    } else if word.starts_with("eval") {
        let mut end = block_end;
        let parsed = parse_eval(&lines[start..block_end], &mut end, start);
        (parsed.map(|eval| CommandKind::Eval(Box::new(eval))), end)
    } else {
        (Err(anyhow::anyhow!("{word:?} is no command")), block_end)
    };
    (parsed.unwrap_or_else(CommandKind::Broken), end)
}

fn duration(text: &str) -> anyhow::Result<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    if digits == "0" {
        return Ok(0);
    }
    let ms = ::promql::parse_duration(digits)
        .map_err(|error| anyhow::anyhow!("duration {text:?}: {error}"))?;
    Ok(sign * ms)
}

fn parse_load(lines: &[&str]) -> anyhow::Result<Load> {
    let mut words = lines[0].split_whitespace();
    let with_nhcb = match words.next() {
        Some("load") => false,
        Some("load_with_nhcb") => true,
        other => bail!("{other:?} is no way of loading"),
    };
    let step_ms = duration(words.next().context("load needs a step")?)?;
    let mut load = Load { step_ms, with_nhcb, series: Vec::new(), starts: Vec::new() };
    for line in &lines[1..] {
        let (labels, rest) = parse_metric(line)?;
        if let Some(offsets) = rest.strip_prefix("@st") {
            let offsets = parse_starts(offsets).with_context(|| format!("starts {line:?}"))?;
            load.starts.push((labels, offsets));
        } else {
            load.series.push(parse_series(line)?);
        }
    }
    Ok(load)
}

/// Parses `_`, `_x2`, `-1m`, `-1mx2`, `-30s-1mx2`: each an offset from the time of its sample.
fn parse_starts(text: &str) -> anyhow::Result<Vec<Option<i64>>> {
    let mut offsets = Vec::new();
    for item in text.split_whitespace() {
        let (head, repeat) = match item.rsplit_once('x') {
            Some((head, count)) => (head, Some(count.parse::<usize>()?)),
            None => (item, None),
        };
        if repeat.is_some_and(|count| count > MAX_REPEAT) {
            bail!("more than {MAX_REPEAT} repetitions");
        }
        if head == "_" {
            offsets.resize(offsets.len() + repeat.unwrap_or(1), None);
            continue;
        }
        let sign = head.char_indices().skip(1).find(|(_, c)| matches!(c, '+' | '-'));
        let (first, delta) = match sign {
            Some((at, _)) => (signed_duration(&head[..at])?, signed_duration(&head[at..])?),
            None => (signed_duration(head)?, 0),
        };
        let count = repeat.map_or(1, |count| count + 1);
        offsets.extend((0..count as i64).map(|index| Some(first + index * delta)));
    }
    Ok(offsets)
}

fn signed_duration(text: &str) -> anyhow::Result<i64> {
    duration(text.strip_prefix('+').unwrap_or(text))
}

fn parse_eval(lines: &[&str], end: &mut usize, start: usize) -> anyhow::Result<Eval> {
    let (kind, time, query) = parse_eval_line(lines[0])?;
    let mut expect = Expectations::default();
    match kind.as_str() {
        "fail" => expect.fail = Some(Pattern::Any),
        "warn" => expect.warn.push(Pattern::Any),
        "info" => expect.info.push(Pattern::Any),
        "ordered" => expect.ordered = true,
        _ => {}
    }
    let mut result = Expected::Series { lines: Vec::new(), range_vector: None };
    for (index, line) in lines.iter().enumerate().skip(1) {
        let word = line.split_whitespace().next();
        if let Some(rest) = line.strip_prefix("expect").filter(|_| word == Some("expect")) {
            parse_expect(rest.trim_start(), &mut expect, &mut result)
                .with_context(|| format!("expectation {line:?}"))?;
        } else if let Some(value) = parse_scalar(line) {
            // A bare number ends the block at once.
            result = Expected::Scalar(value);
            *end = start + index + 1;
            break;
        } else if let Some(pattern) = old_fail_pattern(line)? {
            expect.fail = Some(pattern);
            *end = start + index + 1;
            break;
        } else if let Expected::Series { lines, .. } = &mut result {
            lines.push(parse_series(line).with_context(|| format!("result {line:?}"))?);
        } else {
            bail!("a series {line:?} beside another kind of result");
        }
    }
    if (expect.no_warn && !expect.warn.is_empty()) || (expect.no_info && !expect.info.is_empty()) {
        bail!("something is expected and not expected at once");
    }
    Ok(Eval { text: lines[0].to_owned(), time, query, expect, result })
}

/// Kind, time and query of an `eval` line.
fn parse_eval_line(line: &str) -> anyhow::Result<(String, EvalTime, String)> {
    let instant =
        Regex::new(r"^eval(?:_(fail|warn|ordered|info))?\s+instant\s+(?:at\s+(.+?))?\s+(.+)$")?;
    let range = Regex::new(
        r"^eval(?:_(fail|warn|info))?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)$",
    )?;
    let text = |captures: &regex::Captures<'_>, index: usize| {
        captures.get(index).map_or(String::new(), |found| found.as_str().to_owned())
    };
    if let Some(found) = instant.captures(line) {
        let at = text(&found, 2);
        let t_ms = if at.is_empty() { 0 } else { duration(&at)? };
        return Ok((text(&found, 1), EvalTime::Instant(t_ms), text(&found, 3)));
    }
    let found = range.captures(line).with_context(|| format!("{line:?} is no evaluation"))?;
    let time = EvalTime::Range {
        start_ms: duration(&text(&found, 2))?,
        end_ms: duration(&text(&found, 3))?,
        step_ms: duration(&text(&found, 4))?,
    };
    Ok((text(&found, 1), time, text(&found, 5)))
}

fn parse_expect(
    text: &str,
    expect: &mut Expectations,
    result: &mut Expected,
) -> anyhow::Result<()> {
    if let Some(quoted) = text.strip_prefix("string ") {
        let (value, _) = take_quoted(quoted.trim_start())?;
        *result = Expected::String(value);
        return Ok(());
    }
    if text.starts_with("range vector") {
        let words: Vec<&str> = text.split_whitespace().collect();
        let ["range", "vector", "from", from, "to", _, "step", step] = words.as_slice() else {
            bail!("a range vector needs `from T to T step D`");
        };
        let Expected::Series { range_vector, .. } = result else {
            bail!("a range vector beside another kind of result");
        };
        *range_vector = Some((duration(from)?, duration(step)?));
        return Ok(());
    }
    let (kind, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let pattern = match rest.trim().split_once(':') {
        None => Pattern::Any,
        Some(("msg", text)) => Pattern::Exactly(text.trim().to_owned()),
        Some(("regex", text)) => Pattern::Regex(Regex::new(text.trim())?),
        Some((other, _)) => bail!("{other:?} is no way of comparing texts"),
    };
    match kind {
        "ordered" => expect.ordered = true,
        "fail" if expect.fail.is_some() => bail!("a failure is expected twice"),
        "fail" => expect.fail = Some(pattern),
        "warn" => expect.warn.push(pattern),
        "info" => expect.info.push(pattern),
        "no_warn" => expect.no_warn = true,
        "no_info" => expect.no_info = true,
        other => bail!("{other:?} is no expectation"),
    }
    Ok(())
}

fn old_fail_pattern(line: &str) -> anyhow::Result<Option<Pattern>> {
    if let Some(text) = line.strip_prefix("expected_fail_message ") {
        return Ok(Some(Pattern::Exactly(text.trim().to_owned())));
    }
    if let Some(text) = line.strip_prefix("expected_fail_regexp ") {
        return Ok(Some(Pattern::Regex(Regex::new(text.trim())?)));
    }
    Ok(None)
}

/// A line that is nothing but a number.
fn parse_scalar(line: &str) -> Option<f64> {
    let (sign, digits) = match line.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, line.strip_prefix('+').unwrap_or(line)),
    };
    let radix = |prefix: [&str; 2], radix| {
        let digits = prefix.iter().find_map(|prefix| digits.strip_prefix(prefix))?;
        u64::from_str_radix(digits, radix).ok().map(|value| value as f64)
    };
    radix(["0x", "0X"], 16)
        .or_else(|| radix(["0o", "0O"], 8))
        .or_else(|| radix(["0b", "0B"], 2))
        .or_else(|| digits.parse::<f64>().ok())
        .map(|value| sign * value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_cut_into_commands() {
        let script = "load 5m\n  a 1 2\n\n# gone\neval instant at 10m a\n  expect no_warn\n  a 2\n\
                      \neval instant at 0s 0x10\n16\nclear\nnonsense\n";
        let commands = parse(script);
        let lines: Vec<usize> = commands.iter().map(|command| command.line).collect();
        assert_eq!(lines, [1, 5, 9, 11, 12]);
        let CommandKind::Eval(eval) = &commands[1].kind else { panic!("an eval") };
        assert_eq!(eval.time, EvalTime::Instant(600_000));
        assert_eq!(eval.query, "a");
        assert!(eval.expect.no_warn);
        let CommandKind::Eval(eval) = &commands[2].kind else { panic!("an eval") };
        assert!(matches!(eval.result, Expected::Scalar(16.0)));
        assert!(matches!(commands[4].kind, CommandKind::Broken(_)));
    }

    #[test]
    fn starts_are_offsets() {
        let starts = |text| parse_starts(text).expect("test starts parse");
        assert_eq!(starts("_ _x2 -1m"), [None, None, None, Some(-60_000)]);
        assert_eq!(starts("-30s-1mx1 1msx1"), [-30_000, -90_000, 1, 1].map(Some));
        assert_eq!(starts("0-1mx1 +1m -0ms"), [0, -60_000, 60_000, 0].map(Some));
        assert!(parse_starts("soon").is_err());
    }

    #[test]
    fn contradictions_are_broken_scripts() {
        for lines in ["expect warn\nexpect no_warn", "expect fail\nexpect fail msg:x", "expect it"]
        {
            let commands = parse(&format!("eval instant at 0s x\n{lines}\n"));
            assert!(matches!(commands[0].kind, CommandKind::Broken(_)), "{lines}");
        }
    }

    #[test]
    fn ranges_have_times() {
        let (kind, time, query) =
            parse_eval_line("eval_warn range from 0 to 10m step 1m30s sum(x) by (y)")
                .expect("a range");
        assert_eq!((kind.as_str(), query.as_str()), ("warn", "sum(x) by (y)"));
        let expected = EvalTime::Range { start_ms: 0, end_ms: 600_000, step_ms: 90_000 };
        assert_eq!(time, expected);
    }
}
