//! Bodies of requests in JSON, read as Alertmanager reads them, under limits.

use std::fmt;
use std::marker::PhantomData;

use axum::extract::Request;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use net::{BodyRules, NetMetrics, read_body};
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, SeqAccess, Visitor};

use super::answer::{REQUIRED, Refusal};

/// Largest body. Senders of alerts send dozens or hundreds at once, of some hundred bytes each.
pub(super) const MAX_BODY_BYTES: usize = 8 << 20;

/// Reads the body, which errors call `what`.
///
/// # Errors
/// It says that it is no JSON (415), is too large (413) or not there (422), or is none of what is
/// wanted (400).
pub(super) async fn read<T: DeserializeOwned>(
    request: Request,
    what: &str,
    metrics: &NetMetrics,
) -> Result<T, Refusal> {
    let (parts, body) = request.into_parts();
    let rules = BodyRules::any_encoding(MAX_BODY_BYTES);
    let bytes = read_body(&parts.headers, body, rules, metrics).await.map_err(|error| {
        let message = format!("{error}; here the limit is {MAX_BODY_BYTES} bytes");
        let message = if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            format!("{message}: send fewer at once")
        } else {
            error.to_string()
        };
        let status = error.status();
        Refusal::Unreadable { status, code: status.as_u16().into(), message }
    })?;
    if bytes.is_empty() {
        return Err(Refusal::invalid(REQUIRED, format!("{what} in body is required")));
    }
    // A form on another site cannot say that it is JSON, which keeps such forms from these routes.
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.unwrap_or("application/octet-stream");
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::Unreadable {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            code: 415,
            message: format!(
                "unsupported media type {essence:?}, only [application/json] are allowed"
            ),
        });
    }
    serde_json::from_slice(&bytes).map_err(|error| Refusal::Unreadable {
        status: StatusCode::BAD_REQUEST,
        code: 400,
        message: format!("parsing {what} body from \"\" failed, because {error}"),
    })
}

/// A list of at most `MOST`. What is declared is not trusted: a longer one ends where it gets too long.
#[derive(Debug)]
pub(super) struct AtMost<T, const MOST: usize>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for AtMost<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MOST: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Items<T, MOST> {
            type Value = AtMost<T, MOST>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "a list of at most {MOST}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    if items.len() == MOST {
                        return Err(de::Error::custom(format_args!(
                            "the list has more than {MOST} elements, which is the limit: send \
                             fewer at once"
                        )));
                    }
                    items.push(item);
                }
                Ok(AtMost(items))
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_ends_where_it_gets_too_long() {
        let read = |text: &str| serde_json::from_str::<AtMost<u8, 2>>(text).map(|list| list.0);
        assert_eq!(read("[1,2]").expect("two"), [1, 2]);
        assert!(read("[]").expect("none").is_empty());
        assert!(read("[1,2,3").expect_err("three").to_string().contains("more than 2"));
        assert!(read("{}").is_err());
    }
}
