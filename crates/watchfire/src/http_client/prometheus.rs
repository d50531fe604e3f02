//! Answers of the Prometheus query API.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{Answer, HttpClient};

/// Labels, the name among them as `__name__`.
pub(crate) type Metric = BTreeMap<String, String>;

/// Seconds since the epoch, and the value: a float as the server wrote it, or a native histogram as
/// Prometheus and promtool print one, `{count:3, sum:4.5, (1,2]:3}`.
pub(crate) type Point = (f64, String);

/// What a query found, and what the server remarked about it.
#[derive(Debug)]
pub(crate) struct Found {
    /// The values.
    pub(crate) data: Data,
    /// Warnings and infos.
    pub(crate) remarks: Vec<String>,
}

/// A result in one of the API's four shapes.
#[derive(Debug, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
pub(crate) enum Data {
    /// A number without labels.
    Scalar(Point),
    /// A text.
    String(Point),
    /// One value per series.
    Vector(Vec<Element>),
    /// Values over time per series.
    Matrix(Vec<Series>),
}

/// One series at one time.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawElement")]
pub(crate) struct Element {
    /// Its labels.
    pub(crate) metric: Metric,
    /// Its value.
    pub(crate) value: Point,
}

/// One series over time.
#[derive(Debug, Deserialize)]
#[serde(from = "RawSeries")]
pub(crate) struct Series {
    /// Its labels.
    pub(crate) metric: Metric,
    /// Its values, oldest first.
    pub(crate) values: Vec<Point>,
}

/// An element as it comes: with a float or a histogram.
#[derive(Deserialize)]
struct RawElement {
    metric: Metric,
    value: Option<Point>,
    histogram: Option<(f64, RawHistogram)>,
}

/// A series as it comes: floats and histograms apart.
#[derive(Deserialize)]
struct RawSeries {
    metric: Metric,
    #[serde(default)]
    values: Vec<Point>,
    #[serde(default)]
    histograms: Vec<(f64, RawHistogram)>,
}

/// A native histogram: of each bucket which bounds it includes, the bounds and the count.
#[derive(Deserialize)]
struct RawHistogram {
    count: String,
    sum: String,
    #[serde(default)]
    buckets: Vec<(u8, String, String, String)>,
}

impl RawHistogram {
    fn text(&self) -> String {
        let mut text = format!("{{count:{}, sum:{}", self.count, self.sum);
        for (bounds, lower, upper, count) in &self.buckets {
            let open = if matches!(bounds, 1 | 3) { '[' } else { '(' };
            let close = if matches!(bounds, 0 | 3) { ']' } else { ')' };
            text.push_str(&format!(", {open}{lower},{upper}{close}:{count}"));
        }
        text.push('}');
        text
    }
}

impl TryFrom<RawElement> for Element {
    type Error = &'static str;

    fn try_from(raw: RawElement) -> Result<Element, &'static str> {
        let histogram = raw.histogram.map(|(time, histogram)| (time, histogram.text()));
        let value = raw.value.or(histogram).ok_or("an element without a value")?;
        Ok(Element { metric: raw.metric, value })
    }
}

impl From<RawSeries> for Series {
    fn from(raw: RawSeries) -> Series {
        let mut values = raw.values;
        let histograms = raw.histograms.iter();
        values.extend(histograms.map(|(time, histogram)| (*time, histogram.text())));
        // Each kind is in order already.
        values.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        Series { metric: raw.metric, values }
    }
}

#[derive(Debug, Deserialize)]
struct Envelope {
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

impl Answer {
    /// The result of a query that this answers.
    ///
    /// # Errors
    /// The error the server named, or that this is no answer of the API.
    pub(crate) fn found(self) -> Result<Found> {
        let Ok(envelope) = serde_json::from_slice::<Envelope>(&self.body) else {
            let answer = self.success()?;
            bail!(
                "answered {} with something that is not the Prometheus API's JSON",
                answer.status
            );
        };
        match envelope.data {
            Some(data) if envelope.status == "success" => {
                let remarks = envelope.warnings.into_iter().chain(envelope.infos).collect();
                Ok(Found { data, remarks })
            }
            // Who may not ask is told the remedy; an expression that is refused has none.
            _ if matches!(self.status.as_u16(), 401 | 403) => {
                self.success().and_then(|answer| bail!("answered {}", answer.status))
            }
            _ => bail!("{}", envelope.error.unwrap_or_else(|| format!("answered {}", self.status))),
        }
    }
}

impl HttpClient {
    /// The values of `expression` now, by the server's clock.
    ///
    /// # Errors
    /// As of [`HttpClient::get`] and [`Answer::found`], and when the result is no vector.
    pub(crate) fn instant(&mut self, expression: &str) -> Result<Vec<Element>> {
        let answer = self.post_form("/api/v1/query", &[("query", expression.to_owned())])?;
        match answer.found().with_context(|| format!("ask {}", self.url("/api/v1/query")))?.data {
            Data::Vector(elements) => Ok(elements),
            _ => bail!("{expression} yields no vector"),
        }
    }

    /// The values of `expression` from `start_s` through `end_s`, all in seconds.
    ///
    /// # Errors
    /// As of [`HttpClient::get`] and [`Answer::found`], and when the result is no matrix.
    pub(crate) fn range(
        &mut self,
        expression: &str,
        start_s: f64,
        end_s: f64,
        step_s: f64,
    ) -> Result<Vec<Series>> {
        let form = [
            ("query", expression.to_owned()),
            ("start", format!("{start_s:.3}")),
            ("end", format!("{end_s:.3}")),
            ("step", format!("{step_s}")),
        ];
        let answer = self.post_form("/api/v1/query_range", &form)?;
        let url = || format!("ask {}", self.url("/api/v1/query_range"));
        match answer.found().with_context(url)?.data {
            Data::Matrix(series) => Ok(series),
            _ => bail!("{expression} yields no matrix"),
        }
    }
}
