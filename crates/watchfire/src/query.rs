//! `watchfire query`: asks a running Watchfire, or any Prometheus, and prints the answer.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};

use crate::cli::{Output, QueryArguments};
use crate::http_client::prometheus::{Data, Element, Metric, Point, Series};

/// Runs the query and prints its result.
pub(crate) fn run(arguments: &QueryArguments) -> Result<()> {
    let (path, form) = request(arguments)?;
    let mut client = arguments.server.client()?;
    let reply = client.post_form(path, &form)?;
    if arguments.output == Output::Json && reply.status.is_success() {
        return show(&format!("{}\n", reply.text()));
    }
    let found = reply.found().with_context(|| client.url(path))?;
    for remark in &found.remarks {
        eprintln!("{remark}");
    }
    show(&render(&found.data))
}

fn request(arguments: &QueryArguments) -> Result<(&'static str, Vec<(&'static str, String)>)> {
    let mut form = vec![("query", arguments.expr.clone())];
    let Some(range) = &arguments.range else {
        if let Some(time) = &arguments.time {
            form.push(("time", time.clone()));
        }
        return Ok(("/api/v1/query", form));
    };
    let range_ms = duration_ms("--range", range)?;
    let end_ms = match &arguments.time {
        Some(time) => console::parse_time_ms(time).with_context(|| {
            format!("--time {time:?} is neither seconds since 1970 nor RFC 3339")
        })?,
        None => crate::about::now_ms(),
    };
    let step_ms = match &arguments.step {
        Some(step) => duration_ms("--step", step)?,
        None => (range_ms / 60).max(1_000),
    };
    form.push(("start", seconds(end_ms.saturating_sub(range_ms))));
    form.push(("end", seconds(end_ms)));
    form.push(("step", seconds(step_ms)));
    Ok(("/api/v1/query_range", form))
}

fn seconds(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    format!("{sign}{}.{:03}", ms / 1_000, ms % 1_000)
}

fn duration_ms(flag: &str, text: &str) -> Result<i64> {
    promql::parse_duration(text)
        .ok()
        .filter(|ms| *ms > 0)
        .with_context(|| format!("{flag} {text:?} is not a duration such as 1h30m or 15s"))
}

/// Prints. A reader that has seen enough, such as `head`, is no error.
fn show(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("print"),
        _ => Ok(()),
    }
}

fn render(data: &Data) -> String {
    match data {
        Data::Scalar((_, value)) | Data::String((_, value)) => format!("{value}\n"),
        Data::Vector(elements) => {
            if elements.is_empty() {
                eprintln!("no series match at this time");
            }
            render_vector(elements)
        }
        Data::Matrix(series) => {
            if series.is_empty() {
                eprintln!("no series match in this range");
            }
            render_matrix(series)
        }
    }
}

/// Series and value, one line each.
fn render_vector(elements: &[Element]) -> String {
    let rows: Vec<(String, &str)> = elements
        .iter()
        .map(|element| (series_text(&element.metric), element.value.1.as_str()))
        .collect();
    let width = rows.iter().map(|(series, _)| series.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(series, value)| format!("{series:<width$}  {value}\n")).collect()
}

/// One row per time, one column per series, numbered.
fn render_matrix(series: &[Series]) -> String {
    let mut text = String::new();
    for (number, one) in series.iter().enumerate() {
        text.push_str(&format!("[{}] {}\n", number + 1, series_text(&one.metric)));
    }
    let t_ms_of = |point: &Point| (point.0 * 1_000.0).round() as i64;
    let points = || series.iter().flat_map(|one| &one.values);
    let times: BTreeSet<i64> = points().map(t_ms_of).collect();
    if times.is_empty() {
        return text;
    }
    if points().any(|point| is_histogram(&point.1)) {
        return render_series(series);
    }
    let width = points().map(|point| point.1.len()).max().unwrap_or(1).max(4);
    text.push_str(&format!("{:<16}", "time"));
    for number in 1..=series.len() {
        text.push_str(&format!("  {:>width$}", format!("[{number}]")));
    }
    text.push('\n');
    let mut next = vec![0_usize; series.len()];
    for t_ms in times {
        text.push_str(&format!("{:<16}", seconds(t_ms)));
        for (one, next) in series.iter().zip(&mut next) {
            let point = one.values.get(*next).filter(|point| t_ms_of(point) == t_ms);
            *next += usize::from(point.is_some());
            text.push_str(&format!("  {:>width$}", point.map_or("-", |point| &point.1)));
        }
        text.push('\n');
    }
    text
}

/// A line for each value below its series, as promtool prints them: histograms have no place in columns.
fn render_series(series: &[Series]) -> String {
    let mut text = String::new();
    for one in series {
        text.push_str(&format!("{} =>\n", series_text(&one.metric)));
        for (time_s, value) in &one.values {
            let time = seconds((time_s * 1_000.0).round() as i64);
            text.push_str(&format!("{value} @[{time}]\n"));
        }
    }
    text
}

/// Whether a value is no number but a native histogram.
fn is_histogram(value: &str) -> bool {
    value.starts_with('{')
}

fn series_text(metric: &Metric) -> String {
    let pairs = metric.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    model::Labels::from_pairs(pairs).map_or_else(|_| format!("{metric:?}"), |l| l.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_have_their_sign_in_front() {
        assert_eq!(seconds(1_795_219_200_050), "1795219200.050");
        assert_eq!(seconds(-1_500), "-1.500");
        assert_eq!(seconds(-5), "-0.005");
    }

    #[test]
    fn native_histograms_are_shown_as_promtool_does() {
        let vector: Data = serde_json::from_str(
            r#"{"resultType":"vector","result":[
                {"metric":{"__name__":"h"},"histogram":[1.5,{"count":"12.5","sum":"-0.1","buckets":
                  [[1,"-2","-1","5"],[3,"-0.001","0.001","2"],[0,"1","2","5.5"]]}]},
                {"metric":{"__name__":"load"},"value":[1.5,"3"]}]}"#,
        )
        .expect("an answer of the API");
        assert_eq!(
            render(&vector),
            "h     {count:12.5, sum:-0.1, [-2,-1):5, [-0.001,0.001]:2, (1,2]:5.5}\nload  3\n"
        );
        let matrix: Data = serde_json::from_str(
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"h"},
                "values":[[2,"7"]],"histograms":[[1,{"count":"0","sum":"0"}]]}]}"#,
        )
        .expect("an answer of the API");
        assert_eq!(render(&matrix), "h =>\n{count:0, sum:0} @[1.000]\n7 @[2.000]\n");
        let neither = r#"{"resultType":"vector","result":[{"metric":{}}]}"#;
        assert!(serde_json::from_str::<Data>(neither).is_err());
    }

    #[test]
    fn series_with_gaps_stand_in_columns() {
        let series = |name: &str, values: &[(f64, &str)]| Series {
            metric: Metric::from([("__name__".to_owned(), name.to_owned())]),
            values: values.iter().map(|(t, v)| (*t, (*v).to_owned())).collect(),
        };
        let text = render_matrix(&[
            series("a", &[(1.0, "10"), (3.0, "12345")]),
            series("b", &[(2.5, "7"), (3.0, "8")]),
        ]);
        assert_eq!(
            text,
            "[1] a\n[2] b\n\
             time                [1]    [2]\n\
             1.000                10      -\n\
             2.500                 -      7\n\
             3.000             12345      8\n"
        );
        assert_eq!(render_matrix(&[]), "");
    }
}
