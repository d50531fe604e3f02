//! Answers of the Prometheus query API.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{Answer, HttpClient};

/// Labels, the name among them as `__name__`.
pub(crate) type Metric = BTreeMap<String, String>;

/// Seconds since the epoch, and the value as the server wrote it.
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
pub(crate) struct Element {
    /// Its labels.
    pub(crate) metric: Metric,
    /// Its value.
    pub(crate) value: Point,
}

/// One series over time.
#[derive(Debug, Deserialize)]
pub(crate) struct Series {
    /// Its labels.
    pub(crate) metric: Metric,
    /// Its values, oldest first.
    pub(crate) values: Vec<Point>,
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
