//! Queries of numbers over lines in memory.

use logql::metric::{
    Entry, EvalOptions, Evaluation, MetricError, Request, Sink, Source, Steps, evaluate,
};
use logql::syntax::{optimized, parse_metric};
use model::Labels;

const SECOND: i64 = 1_000_000_000;

/// A line: the second it was written in, labels of its stream, metadata, text.
type Line<'l> = (i64, &'l [(&'l str, &'l str)], &'l [(&'l str, &'l str)], &'l str);

/// Hands over what the selector and the time choose.
struct Lines<'l>(&'l [Line<'l>]);

impl Source for Lines<'_> {
    fn read(&self, request: &Request<'_>, sink: &mut dyn Sink) -> Result<(), MetricError> {
        for (second, stream, metadata, line) in self.0 {
            let value = |name: &str| {
                stream.iter().find(|(known, _)| *known == name).map_or("", |pair| pair.1)
            };
            let time = second * SECOND;
            let is_wanted = request.matchers().iter().all(|m| m.matches(value(&m.name)))
                && request.after_ns < time
                && time <= request.until_ns;
            if is_wanted {
                sink.stream(&Labels::from_pairs(stream.iter().copied()).expect("labels"));
                sink.entry(&Entry {
                    timestamp_ns: time,
                    line: line.as_bytes(),
                    line_bytes: line.len() as u64,
                    metadata,
                })?;
            }
        }
        Ok(())
    }
}

fn outcome(query: &str, steps: Steps, lines: &[Line<'_>]) -> Result<Vec<String>, String> {
    let expr = parse_metric(query).map_err(|error| error.to_string())?;
    let options = EvalOptions { max_series: 500, max_values: 1 << 20, now_ns: 0, seed: 3 };
    let result = evaluate(&optimized(expr), steps, &Lines(lines), &options);
    Ok(match result.map_err(|error| error.to_string())? {
        Evaluation::Scalar(value) => vec![value.to_string()],
        Evaluation::Series(series) => series
            .into_iter()
            .map(|series| {
                let values: Vec<String> = series
                    .values
                    .iter()
                    .map(|value| value.map_or("-".to_owned(), |value| value.to_string()))
                    .collect();
                format!("{} {}", series.labels, values.join(" "))
            })
            .collect(),
    })
}

/// What a query yields at the end of the first minute.
fn at_a_minute(query: &str, lines: &[Line<'_>]) -> Vec<String> {
    outcome(query, Steps::instant(60 * SECOND), lines).unwrap_or_else(|error| vec![error])
}

#[test]
fn an_empty_label_tells_series_apart_until_they_are_grouped_or_matched() {
    let lines: &[Line<'_>] = &[
        (10, &[("app", "m")], &[("name", "")], "x=1"),
        (20, &[("app", "m")], &[], "x=2"),
        (30, &[("app", "m")], &[], "x="),
    ];
    let counted = r#"count_over_time({app="m"}[1m])"#;
    for (query, wanted) in [
        (counted.to_owned(), &[r#"{app="m"} 2"#, r#"{app="m", name=""} 1"#][..]),
        (format!("{counted} > 0"), &[r#"{app="m"} 2"#, r#"{app="m", name=""} 1"#]),
        (format!("topk(2, {counted})"), &[r#"{app="m"} 2"#, r#"{app="m", name=""} 1"#]),
        (format!("sum without (x) ({counted})"), &[r#"{app="m"} 3"#]),
        (format!("max without (x) ({counted})"), &[r#"{app="m"} 2"#]),
        (format!("sum by (app, name) ({counted})"), &[r#"{app="m"} 3"#]),
        (
            r#"label_replace(count_over_time({app="m"} | name="" | logfmt --keep-empty | x="" [1m]),
               "y", "z", "app", "m")"#
                .to_owned(),
            &[r#"{app="m", y="z"} 1"#],
        ),
        (
            r#"count_over_time({app="m"} | logfmt --keep-empty | x="" [1m])"#.to_owned(),
            &[r#"{app="m", x=""} 1"#],
        ),
        (
            r#"count_over_time({app="m"} | logfmt --keep-empty | x="" [1m])
               + on (app) group_left vector(1)"#
                .to_owned(),
            &[],
        ),
        (
            r#"count_over_time({app="m"} | logfmt --keep-empty | x="" [1m])
               + sum by (app) (count_over_time({app="m"}[1m]))"#
                .to_owned(),
            &[r#"{app="m"} 4"#],
        ),
    ] {
        assert_eq!(at_a_minute(&query, lines), wanted, "{query}");
    }
}

#[test]
fn labels_may_be_called_as_words_of_the_language() {
    let lines: &[Line<'_>] = &[(10, &[("by", "m")], &[], r#"{"bool": true, "on": "a"}"#)];
    for (query, wanted) in [
        (r#"{by="m"} | json b="bool" | keep b"#, r#"{b="true"} 1"#),
        (r#"{by=~"m"} | json bool="bool" | keep bool="true""#, r#"{bool="true"} 1"#),
        (r#"{by="m"} | json | bool="true" and on="a" | keep on="a""#, r#"{on="a"} 1"#),
        (r#"{by="m"} | label_format json=by | keep json="m""#, "syntax error: unexpected by"),
        // A stage followed by a condition on the line stays one.
        (r#"{by="m"} | json != "x" | keep y"#, "{} 1"),
        (r#"{by="m"} | json == 1"#, "syntax error: unexpected =="),
    ] {
        let got = at_a_minute(&format!("count_over_time({query} [1m])"), lines);
        assert!(got.len() == 1 && got[0].contains(wanted), "{query}: {got:?}");
    }
}
