//! `watchfire query`: asks a running Watchfire, or any Prometheus, and prints the answer.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cli::{Output, QueryArguments};
use crate::http_client;

#[derive(Debug, Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    infos: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Scalar(Point),
    String(Point),
    Vector(Vec<Element>),
    Matrix(Vec<Series>),
}

type Point = (f64, String);
type Metric = std::collections::BTreeMap<String, String>;

#[derive(Debug, Deserialize)]
struct Element {
    metric: Metric,
    value: Point,
}

#[derive(Debug, Deserialize)]
struct Series {
    metric: Metric,
    values: Vec<Point>,
}

/// Runs the query and prints its result.
pub(crate) fn run(arguments: &QueryArguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (path, form) = request(arguments)?;
    let url = format!("{}{path}", arguments.url.trim_end_matches('/'));
    let (status, body) = runtime.block_on(http_client::post_form(&url, &form))?;
    if arguments.output == Output::Json && status.is_success() {
        println!("{}", String::from_utf8_lossy(&body));
        return Ok(());
    }
    let answer: Answer = serde_json::from_slice(&body).with_context(|| {
        format!("{url} answered {status} with something that is not the Prometheus API's JSON")
    })?;
    for remark in answer.warnings.iter().chain(&answer.infos) {
        eprintln!("{remark}");
    }
    match answer.data {
        Some(data) if answer.status == "success" => {
            print(&data);
            Ok(())
        }
        _ => bail!("{}", answer.error.unwrap_or_else(|| format!("{url} answered {status}"))),
    }
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
        Some(time) => time
            .parse::<f64>()
            .map(|seconds| (seconds * 1_000.0) as i64)
            .ok()
            .with_context(|| format!("--time {time:?}: with --range give seconds since 1970"))?,
        None => now_ms(),
    };
    let step_ms = match &arguments.step {
        Some(step) => duration_ms("--step", step)?,
        None => (range_ms / 60).max(1_000),
    };
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
    form.push(("start", seconds(end_ms - range_ms)));
    form.push(("end", seconds(end_ms)));
    form.push(("step", seconds(step_ms)));
    Ok(("/api/v1/query_range", form))
}

fn duration_ms(flag: &str, text: &str) -> Result<i64> {
    promql::parse_duration(text)
        .ok()
        .filter(|ms| *ms > 0)
        .with_context(|| format!("{flag} {text:?} is not a duration such as 1h30m or 15s"))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn print(data: &Data) {
    match data {
        Data::Scalar((_, value)) | Data::String((_, value)) => println!("{value}"),
        Data::Vector(elements) => {
            let rows: Vec<(String, &str)> = elements
                .iter()
                .map(|element| (series_text(&element.metric), element.value.1.as_str()))
                .collect();
            let width = rows.iter().map(|(series, _)| series.chars().count()).max().unwrap_or(0);
            for (series, value) in rows {
                println!("{series:<width$}  {value}");
            }
            if elements.is_empty() {
                eprintln!("no series match at this time");
            }
        }
        Data::Matrix(series) => print_matrix(series),
    }
}

/// One row per time, one column per series, numbered where there are several.
fn print_matrix(series: &[Series]) {
    if series.is_empty() {
        eprintln!("no series match in this range");
        return;
    }
    for (number, one) in series.iter().enumerate() {
        println!("[{}] {}", number + 1, series_text(&one.metric));
    }
    let times: BTreeSet<i64> = series
        .iter()
        .flat_map(|one| one.values.iter().map(|point| (point.0 * 1_000.0).round() as i64))
        .collect();
    let width = series
        .iter()
        .flat_map(|one| one.values.iter().map(|point| point.1.len()))
        .max()
        .unwrap_or(1)
        .max(4);
    print!("{:<16}", "time");
    for number in 1..=series.len() {
        print!("  {:>width$}", format!("[{number}]"));
    }
    println!();
    let mut next = vec![0_usize; series.len()];
    for t_ms in times {
        print!("{:<16}", format!("{}.{:03}", t_ms / 1_000, t_ms % 1_000));
        for (one, next) in series.iter().zip(&mut next) {
            let value = one
                .values
                .get(*next)
                .filter(|point| (point.0 * 1_000.0).round() as i64 == t_ms)
                .map_or("-", |point| {
                    *next += 1;
                    point.1.as_str()
                });
            print!("  {value:>width$}");
        }
        println!();
    }
}

fn series_text(metric: &Metric) -> String {
    let pairs = metric.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    model::Labels::from_pairs(pairs).map_or_else(|_| format!("{metric:?}"), |l| l.to_string())
}
