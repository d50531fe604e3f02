//! Where clients of other protocols bear an API token, and the shapes in which they are refused.
//!
//! Each place counts on the routes of its own protocol only: a token in a URL is in the logs of every
//! proxy on the way, which only clients that have no other place for it have to put up with. An
//! `Authorization` that is not theirs alone goes before.

use axum::response::Response;
use http::header;
use http::request::Parts;
use net::{ApiError, Dialect, ErrorType};
use serde_json::json;
use settings::Secret;

use super::{imports, influx};

/// `DD-API-KEY: TOKEN` and `?api_key=TOKEN`; <https://docs.datadoghq.com/api/latest/authentication/>.
pub(super) static DATADOG: Dialect = Dialect {
    token: |parts| {
        if parts.headers.contains_key(header::AUTHORIZATION) {
            return None;
        }
        let in_header = parts.headers.get("dd-api-key").and_then(|value| value.to_str().ok());
        in_header.map(Secret::new).or_else(|| parameter(parts, "api_key"))
    },
    refusal: |_, error| imports::with_json(error.status, &json!({"errors": [error.message]})),
};

/// Version 1 of InfluxDB's API, by <https://docs.influxdata.com/influxdb/v2/api/v1-compatibility/>.
pub(super) static INFLUX_ONE: Dialect =
    Dialect { token: influx_token, refusal: |_, error| refuse_influx(influx::Api::One, error) };

/// Version 2.
pub(super) static INFLUX_TWO: Dialect =
    Dialect { token: influx_token, refusal: |_, error| refuse_influx(influx::Api::Two, error) };

/// OpenTSDB knows no login.
pub(super) static OPEN_TSDB: Dialect = Dialect {
    token: |_| None,
    refusal: |_, error| imports::open_tsdb_error(error.status, &error.message),
};

/// `Token NAME:TOKEN` and, where there is no `Authorization`, `?u=NAME&p=TOKEN`; the name means nothing.
fn influx_token(parts: &Parts) -> Option<Secret> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return parameter(parts, "p") };
    let (scheme, rest) = value.to_str().ok()?.trim().split_once(' ')?;
    let (_, token) = rest.trim().split_once(':')?;
    (scheme.eq_ignore_ascii_case("token") && values.next().is_none()).then(|| Secret::new(token))
}

fn refuse_influx(api: influx::Api, error: &ApiError) -> Response {
    let code = match error.error_type {
        ErrorType::Unauthorized => "unauthorized",
        ErrorType::Forbidden => "forbidden",
        _ => influx::code_of(error.status),
    };
    influx::error_with(api, error.status, code, &error.message)
}

fn parameter(parts: &Parts, name: &str) -> Option<Secret> {
    let query = parts.uri.query()?;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| Secret::new(value))
}
