//! Requests to receivers and what their answers mean.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use model::go_time::GoTime;
use net::client::{Client, ClientError, ClientOptions, Outgoing, SecretText};
use serde::de::DeserializeOwned;
use settings::prometheus::HttpClientConfig;

use crate::message::{Failure, Message};

/// Most that is read of an answer.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Most of an answer that is looked at for what to tell of it.
const MAX_SEARCHED_BYTES: usize = 64 << 10;

/// Most of an answer that is told.
const MAX_TOLD_BYTES: usize = 256;

/// The longest wait a receiver may ask for, in nanoseconds: an hour.
const MAX_WAIT_NS: i64 = 3_600 * 1_000_000_000;

/// Sends the requests of one integration.
pub(crate) struct Courier {
    client: Client,
    /// What the client adds to requests and no answer may show.
    credentials: Vec<SecretText>,
}

/// What a receiver answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Courier {
    /// A courier that speaks as the integration's `http_config` says.
    pub(crate) fn new(
        config: &HttpClientConfig,
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        let mut credentials = Vec::new();
        let mut add = |secret: &settings::Secret, file: &Option<std::path::PathBuf>| {
            credentials.push(SecretText::new(secret.clone(), file.clone()));
        };
        if let Some(basic) = &config.basic_auth {
            add(&basic.password, &basic.password_file);
        }
        if let Some(other) = &config.authorization {
            add(&other.credentials, &other.credentials_file);
        }
        if let Some(oauth2) = &config.oauth2 {
            add(&oauth2.client_secret, &oauth2.client_secret_file);
        }
        for header in &config.http_headers {
            header.secrets.iter().for_each(|secret| add(secret, &None));
            let none = settings::Secret::default();
            header.files.iter().for_each(|file| add(&none, &Some(file.clone())));
        }
        Ok(Courier { client: Client::confidential(config, options)?, credentials })
    }

    /// Posts JSON.
    pub(crate) async fn post_json(
        &self,
        message: &Message<'_>,
        url: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, Failure> {
        self.exchange(message, Method::POST, url, &[], body.into()).await
    }

    /// Sends a request. Its body is JSON unless `headers` say otherwise. Any status is an answer.
    pub(crate) async fn exchange(
        &self,
        message: &Message<'_>,
        method: Method,
        url: &str,
        headers: &[(HeaderName, &str)],
        body: Bytes,
    ) -> Result<Answer, Failure> {
        for credential in &self.credentials {
            // The client tells of a file that cannot be read.
            if let Ok(text) = credential.read().await {
                message.conceal(&text);
            }
        }
        message.conceal_userinfo(url);
        let url = uri(url)?;
        let mut all = HeaderMap::with_capacity(headers.len() + 1);
        all.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in headers {
            let mut value = HeaderValue::try_from(*value).map_err(|_| {
                Failure::fatal(format!(
                    "the value of the header {name} holds control characters; correct the \
                     configuration"
                ))
            })?;
            value.set_sensitive(true);
            all.insert(name.clone(), value);
        }
        let deadline = message.deadline;
        let outgoing = Outgoing { url: &url, headers: &all, method, body, deadline };
        let response = self.client.exchange(&outgoing).await;
        if let Some(token) = self.client.fetched_token() {
            let text = token.reveal();
            message.conceal(text.split_once(' ').map_or(text, |(_, token)| token));
        }
        let response = response.map_err(failed)?;
        let (status, headers) = (response.status.as_u16(), response.headers.clone());
        let mut body = Vec::new();
        match response.read(MAX_ANSWER_BYTES, &mut body).await {
            Ok(()) => {}
            // The status says whether it was taken; what is said besides is not worth a second
            // message.
            Err(_) if status / 100 == 2 => body.clear(),
            Err(_) => {}
        }
        Ok(Answer { status, headers, body })
    }
}

impl Answer {
    /// Whether the receiver took it. What is not 2xx is a failure; 5xx, 429 and `retried` may work
    /// later.
    pub(crate) fn check(&self, message: &Message<'_>, retried: &[u16]) -> Result<(), Failure> {
        if self.status / 100 == 2 {
            return Ok(());
        }
        Err(self.failure(message, retried, &self.excerpt(message)))
    }

    /// The failure that a status other than 2xx means, with these details.
    pub(crate) fn failure(&self, message: &Message<'_>, retried: &[u16], details: &str) -> Failure {
        let retry = self.status / 100 == 5 || self.status == 429 || retried.contains(&self.status);
        let mut text = format!("unexpected status code {}", self.status);
        if !details.is_empty() {
            text.push_str(": ");
            text.push_str(details);
        }
        let after_ns = if retry { self.retry_after_ns(message.now_ns) } else { None };
        Failure { retry, after_ns, message: text }
    }

    /// How long the receiver wants to be left alone, in nanoseconds.
    pub(crate) fn retry_after_ns(&self, now_ns: i64) -> Option<i64> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let ns = match text.parse::<i64>() {
            Ok(seconds) => seconds.checked_mul(1_000_000_000)?,
            Err(_) => {
                let date = GoTime::parse("Mon, 02 Jan 2006 15:04:05 GMT", text)?;
                date.unix_ns().saturating_sub(now_ns)
            }
        };
        (ns > 0).then(|| ns.min(MAX_WAIT_NS))
    }

    /// The beginning of the body, on one line and without secrets.
    pub(crate) fn excerpt(&self, message: &Message<'_>) -> String {
        excerpt(message, &String::from_utf8_lossy(&self.body))
    }

    /// The body as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self, message: &Message<'_>) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|_| {
            let excerpt = self.excerpt(message);
            Failure::retry(format!("the answer is not the JSON that was expected: {excerpt:?}"))
        })
    }
}

/// What is told of a text that somebody else wrote.
pub(crate) fn excerpt(message: &Message<'_>, text: &str) -> String {
    let text = &text[..text.floor_char_boundary(MAX_SEARCHED_BYTES)];
    let shown: String = message
        .redacted(text.trim())
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    crate::shortened::in_bytes(shown, MAX_TOLD_BYTES)
}

fn failed(error: ClientError) -> Failure {
    match error {
        // Files and name servers come back; so do those who only this time sent us elsewhere.
        ClientError::Config(_) | ClientError::Url(_) | ClientError::RefusedAddress(_) => {
            Failure::fatal(error.to_string())
        }
        _ => Failure::retry(error.to_string()),
    }
}

/// A URL as requests have it: no fragment, and what may not stand in it is escaped, as Go does.
fn uri(url: &str) -> Result<Uri, Failure> {
    let url = url.trim();
    let url = url.split('#').next().unwrap_or_default();
    let mut escaped = String::with_capacity(url.len());
    for byte in url.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    let uri = Uri::try_from(escaped.as_str()).ok();
    uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https"))).ok_or_else(|| {
        Failure::fatal("the URL is none; write http://HOST/PATH or https://HOST/PATH")
    })
}

/// A URL with more at the end of its path, which may have a query already.
pub(crate) fn with_path(url: &str, path: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    format!("{}{path}{}", &url[..end], &url[end..])
}

/// A text as a part of a path.
pub(crate) fn path_segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@!$&'()*+,;=".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Scheme and host of a URL.
pub(crate) fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |at| host + at);
    &url[..end]
}

/// A URL with more parameters.
pub(crate) fn with_query(url: &str, parameters: &[(&str, &str)]) -> String {
    let url = url.split('#').next().unwrap_or_default();
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        query.append_pair(name, value);
    }
    let mark = if url.contains('?') { '&' } else { '?' };
    format!("{url}{mark}{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_made_fit_for_requests() {
        let uri = |text| uri(text).map(|uri| uri.to_string()).map_err(|failure| failure.retry);
        assert_eq!(uri("http://h/a b?c=ä#d").as_deref(), Ok("http://h/a%20b?c=%C3%A4"));
        assert_eq!(uri("ftp://h/"), Err(false));
        assert_eq!(uri("/a"), Err(false));
        assert_eq!(with_path("http://h/a/?b#c", "d"), "http://h/a/d?b#c");
        assert_eq!(path_segment("a/b c?ä"), "a%2Fb%20c%3F%C3%A4");
        assert_eq!(origin("https://h:1/a/b"), "https://h:1");
        assert_eq!(origin("https://h?a"), "https://h");
        assert_eq!(with_query("http://h/?a=1", &[("b", "x y")]), "http://h/?a=1&b=x+y");
        assert_eq!(with_query("http://h/", &[("b", "&")]), "http://h/?b=%26");
    }

    #[test]
    fn receivers_say_when_to_come_again() {
        let after = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("a value"))]);
            Answer { status: 429, headers, body: Vec::new() }.retry_after_ns(0)
        };
        assert_eq!(after("30"), Some(30_000_000_000));
        assert_eq!(after("999999999"), Some(MAX_WAIT_NS));
        assert_eq!(after("Thu, 01 Jan 1970 00:00:09 GMT"), Some(9_000_000_000));
        assert_eq!(after("0"), None);
        assert_eq!(after("-5"), None);
        assert_eq!(after("soon"), None);
    }
}
