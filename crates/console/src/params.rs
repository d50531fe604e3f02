//! Parameters of a request: from the URL and, in a POST, from the form in its body, of either kind.

use std::borrow::Cow;
use std::net::SocketAddr;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use model::{Matcher, TenantName, TimeRange};

use crate::multipart;
use crate::respond::{bad_data, parameter};
use crate::running::Asked;
use net::ApiError;
use net::auth::Principal;

/// Largest form that is read; a query text is far below.
const MAX_FORM_BYTES: usize = 4 << 20;

/// Parameters of one request; each costs memory before anything is known about it.
const MAX_PARAMETERS: usize = 10_000;
/// Selectors of one request; each is a search over all series.
const MAX_SELECTORS: usize = 1_000;

/// All parameters in the order they were given. In a POST the form's come first, as in Go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    /// What was asked: its path.
    path: String,
    /// Who asks.
    client: String,
    /// Whose data.
    tenant: TenantName,
    /// Whether `Cache-Control` wants what is computed now.
    no_store: bool,
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let asking =
            <Principal as FromRequestParts<S>>::from_request_parts(&mut parts, state).await?;
        let mut pairs = Vec::new();
        let kind = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.unwrap_or_default();
        let is_form = kind.starts_with("application/x-www-form-urlencoded");
        let boundary = multipart::boundary(kind);
        let mut fields = Vec::new();
        if is_form || boundary.is_some() {
            let bytes: Bytes = axum::body::to_bytes(body, MAX_FORM_BYTES).await.map_err(|_| {
                bad_data(format!(
                    "request form is larger than {MAX_FORM_BYTES} bytes or was cut off; \
                     send a shorter query"
                ))
            })?;
            match boundary {
                None => take_pairs(form_urlencoded::parse(&bytes), &mut pairs)?,
                Some(boundary) => {
                    fields = multipart::fields(&bytes, boundary)
                        .map_err(|why| bad_data(format!("the form cannot be read: {why}")))?;
                }
            }
        }
        let query = parts.uri.query().unwrap_or_default();
        take_pairs(form_urlencoded::parse(query.as_bytes()), &mut pairs)?;
        // In Go those of such a form come last.
        take_pairs(
            fields.into_iter().map(|(name, value)| (name.into(), value.into())),
            &mut pairs,
        )?;
        let client = client_of(&parts.extensions);
        let no_store = wants_no_store(&parts.headers);
        let (path, tenant) = (parts.uri.path().to_owned(), asking.tenant);
        Ok(Params { pairs, path, client, tenant, no_store })
    }
}

/// Whether `Cache-Control` says `no-store` or `no-cache`.
fn wants_no_store(headers: &http::HeaderMap) -> bool {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut words = values.flat_map(|value| value.split(',')).map(str::trim);
    words.any(|word| ["no-store", "no-cache"].iter().any(|no| word.eq_ignore_ascii_case(no)))
}

/// Address and port of who sent a request.
pub(crate) fn client_of(extensions: &http::Extensions) -> String {
    let client = extensions.get::<ConnectInfo<SocketAddr>>();
    client.map_or_else(|| "unknown".to_owned(), |info| info.0.to_string())
}

fn take_pairs<'a>(
    given: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
    pairs: &mut Vec<(String, String)>,
) -> Result<(), ApiError> {
    for pair in given {
        if pairs.len() == MAX_PARAMETERS {
            return Err(bad_data(format!(
                "the request has more than {MAX_PARAMETERS} parameters, which is the limit; \
                 split it"
            )));
        }
        pairs.push((pair.0.into_owned(), pair.1.into_owned()));
    }
    Ok(())
}

impl Params {
    /// Those of a request that is none.
    #[cfg(test)]
    pub(crate) fn of_pairs(pairs: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Params { pairs: pairs.iter().map(owned).collect(), ..Params::default() }
    }

    /// All of them, in order.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// Who asks: address and port.
    pub(crate) fn client(&self) -> &str {
        &self.client
    }

    /// Whose data is asked for.
    pub(crate) fn tenant(&self) -> TenantName {
        self.tenant
    }

    /// Whether the answer may come from what was kept of earlier ones: not with `nocache=1`, as in
    /// VictoriaMetrics, nor with `Cache-Control: no-store`.
    pub(crate) fn allows_cached(&self) -> bool {
        let nocache = self.get("nocache").is_some_and(|value| !matches!(value, "0" | "false"));
        !nocache && !self.no_store
    }

    /// What this request asks, where it is no query: path and selectors.
    pub(crate) fn asked(&self) -> Asked {
        let mut text = self.path.clone();
        for selector in self.all("match[]") {
            text.push_str(" match[]=");
            text.push_str(selector);
        }
        Asked::other(text, &self.client, self.tenant)
    }

    /// The first value of `name` that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let is_it = |(key, value): &&(String, String)| key == name && !value.is_empty();
        self.pairs.iter().find(is_it).map(|(_, value)| value.as_str())
    }

    /// The same with the parameters called `other` called `name`, where they are two names of one.
    pub(crate) fn with_alias(mut self, other: &str, name: &str) -> Self {
        for (key, _) in self.pairs.iter_mut().filter(|(key, _)| key == other) {
            name.clone_into(key);
        }
        self
    }

    /// All values of `name`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A time in milliseconds that must be given.
    pub(crate) fn time_ms(&self, name: &str) -> Result<i64, ApiError> {
        let text = self.get(name).unwrap_or_default();
        parse_time_ms(text).ok_or_else(|| parameter(name, no_timestamp(text)))
    }

    /// A time in milliseconds, if given. The error is worded unlike that of [`Params::time_ms`],
    /// as in Prometheus.
    pub(crate) fn optional_time_ms(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        parse_time_ms(text).map(Some).ok_or_else(|| {
            parameter(name, format!("invalid time value for '{name}': {}", no_timestamp(text)))
        })
    }

    /// A duration in milliseconds; absent is as wrong as empty.
    ///
    /// # Errors
    /// The reason, without the parameter's name.
    pub(crate) fn duration_ms(&self, name: &str) -> Result<i64, String> {
        let text = self.get(name).unwrap_or_default();
        parse_duration_ms(text).ok_or_else(|| {
            let overflows = text.parse::<f64>().is_ok_and(f64::is_finite);
            let why = if overflows { ". It overflows int64" } else { "" };
            format!("cannot parse {text:?} to a valid duration{why}")
        })
    }

    /// `limit`: 0 or absent means none. Errors are those of Go's `strconv.Atoi`.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(usize::MAX) };
        match text.parse::<i64>() {
            Ok(0) => Ok(usize::MAX),
            Ok(limit) => {
                usize::try_from(limit).map_err(|_| parameter("limit", "limit must be non-negative"))
            }
            Err(error) => {
                use std::num::IntErrorKind::{NegOverflow, PosOverflow};
                let overflows = matches!(error.kind(), PosOverflow | NegOverflow);
                let why = if overflows { "value out of range" } else { "invalid syntax" };
                Err(parameter("limit", format!("strconv.Atoi: parsing {text:?}: {why}")))
            }
        }
    }

    /// A number, if given and not negative.
    pub(crate) fn count(&self, name: &str) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number: i64 = text.parse().map_err(|_| bad_data(format!("{name} must be a number")))?;
        Ok(usize::try_from(number).ok())
    }

    /// `start` and `end` as a half-open range; all time where absent, empty where they cross.
    pub(crate) fn range(&self) -> Result<TimeRange, ApiError> {
        let start = self.optional_time_ms("start")?.unwrap_or(i64::MIN);
        let end = self.optional_time_ms("end")?.unwrap_or(i64::MAX);
        Ok(TimeRange::new(start, end.saturating_add(1)))
    }

    /// All `match[]` selectors; each must ask for something, lest it read everything unmeant.
    pub(crate) fn selectors(&self) -> Result<Vec<Vec<Matcher>>, ApiError> {
        self.selectors_or(|error| parameter("match[]", error))
    }

    /// As [`Params::selectors`], with errors that do not name the parameter, as Prometheus has them
    /// where it asks for labels.
    pub(crate) fn selectors_of_labels(&self) -> Result<Vec<Vec<Matcher>>, ApiError> {
        self.selectors_or(bad_data)
    }

    fn selectors_or(
        &self,
        fault: impl Fn(String) -> ApiError,
    ) -> Result<Vec<Vec<Matcher>>, ApiError> {
        let count = self.all("match[]").count();
        if count > MAX_SELECTORS {
            let error =
                format!("there are {count}, the limit is {MAX_SELECTORS}; split the request");
            return Err(fault(error));
        }
        self.all("match[]")
            .map(|text| {
                let matchers =
                    promql::parse_selector(text).map_err(|error| fault(error.to_string()))?;
                if matchers.iter().all(Matcher::matches_empty) {
                    let error = "match[] must contain at least one non-empty matcher";
                    return Err(fault(error.to_owned()));
                }
                Ok(matchers)
            })
            .collect()
    }
}

fn no_timestamp(text: &str) -> String {
    format!("cannot parse {text:?} to a valid timestamp")
}

/// Reads a time as the API does: seconds since the epoch as a number, or RFC 3339. Milliseconds
/// out; `None` if neither.
pub fn parse_time_ms(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return finite_ms(seconds);
    }
    model::parse_rfc3339_ms(text)
}

/// Seconds as a number, or a Prometheus duration such as `1h30m`.
pub(crate) fn parse_duration_ms(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        // Prometheus keeps durations as 64 bit nanoseconds.
        let is_possible = (seconds * 1e9).abs() < i64::MAX as f64;
        return finite_ms(seconds).filter(|_| is_possible);
    }
    promql::parse_duration(text).ok()
}

fn finite_ms(seconds: f64) -> Option<i64> {
    let ms = (seconds * 1_000.0).round();
    // Beyond ±292 million years arithmetic on times would overflow.
    (ms.is_finite() && ms.abs() < 9.2e18).then_some(ms as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc3339() {
        assert_eq!(parse_time_ms("1435781451.781"), Some(1_435_781_451_781));
        assert_eq!(parse_time_ms("2015-07-01T20:10:51.781Z"), Some(1_435_781_451_781));
        assert_eq!(parse_time_ms("2015-07-02T04:10:51.781+08:00"), Some(1_435_781_451_781));
        assert_eq!(parse_time_ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_time_ms("2024-02-29T00:00:00Z"), Some(1_709_164_800_000));
        for bad in ["", "x", "2023-02-29T00:00:00Z", "2015-07-01", "NaN", "1e300", "2015-07-01T"] {
            assert_eq!(parse_time_ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_fit_into_nanoseconds() {
        assert_eq!(parse_duration_ms("9223372036"), Some(9_223_372_036_000));
        assert_eq!(parse_duration_ms("1h30m"), Some(5_400_000));
        for bad in ["9223372037", "NaN", "1e400", "-1e12", "5m5"] {
            assert_eq!(parse_duration_ms(bad), None, "{bad}");
        }
    }
}
