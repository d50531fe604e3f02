//! Tokens by the client credentials grant (RFC 6749, section 4.4).

use std::time::{Duration, Instant};

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use parking_lot::Mutex;
use serde::Deserialize;
use settings::Secret;
use settings::prometheus::OAuth2;
use tokio::sync::Semaphore;

use super::ClientOptions;
use super::credentials::SecretText;
use super::error::ClientError;
use super::proxy::basic;
use super::transport::{Transports, failure};

/// Largest answer of a token server.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A token is renewed this long before it expires, so that it is still good when it arrives.
const RENEW_EARLY: Duration = Duration::from_secs(10);

/// Fetches a token and keeps it until shortly before it expires.
pub(super) struct TokenSource {
    client_id: String,
    client_secret: SecretText,
    scopes: Vec<String>,
    endpoint_params: Vec<(String, String)>,
    token_url: Uri,
    user_agent: HeaderValue,
    transports: Transports,
    /// One fetch at a time: when a token expires, a thousand scrapes notice at once.
    turn: Semaphore,
    cached: Mutex<Option<Token>>,
    style: Mutex<Option<Style>>,
}

#[derive(Clone)]
struct Token {
    authorization: Secret,
    /// The client secret it was fetched with; a new one ends the token.
    secret: std::sync::Arc<str>,
    good_until: Option<Instant>,
}

/// How the token server wants the client's name and secret. The standard lets it choose and gives
/// no way to ask, so both are tried once, as Go's library does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Style {
    Header,
    Form,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    token_type: String,
    #[serde(default)]
    expires_in: Option<serde_json::Value>,
}

impl TokenSource {
    /// # Errors
    /// [`ClientError::Config`].
    pub(super) fn new(config: &OAuth2, options: &ClientOptions) -> Result<Self, ClientError> {
        let token_url = config.token_url.parse::<Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        });
        let token_url = token_url.ok_or_else(|| {
            let told = "oauth2: token_url is no URL with http or https and a host";
            ClientError::Config(told.to_owned())
        })?;
        let secret = config.client_secret.clone();
        Ok(TokenSource {
            client_id: config.client_id.clone(),
            client_secret: SecretText::new(secret, config.client_secret_file.clone()),
            scopes: config.scopes.clone(),
            endpoint_params: config.endpoint_params.clone(),
            token_url,
            user_agent: options.user_agent.clone(),
            transports: Transports::new(&config.tls, &config.proxy, true, options)?,
            turn: Semaphore::new(1),
            cached: Mutex::new(None),
            style: Mutex::new(None),
        })
    }

    /// The value for the header `Authorization`.
    pub(super) async fn authorization(&self) -> Result<Secret, ClientError> {
        let secret = self.client_secret.read().await?;
        if let Some(token) = self.usable(&secret) {
            return Ok(token);
        }
        let _turn = self.turn.acquire().await.expect("the semaphore is never closed");
        // Whoever had the turn before may have fetched one.
        if let Some(token) = self.usable(&secret) {
            return Ok(token);
        }
        let token = self.fetch(&secret).await?;
        *self.cached.lock() = Some(token.clone());
        Ok(token.authorization)
    }

    /// The value of the header as it was fetched last, if it is still kept.
    pub(super) fn known(&self) -> Option<Secret> {
        self.cached.lock().as_ref().map(|token| token.authorization.clone())
    }

    /// The server refused the token before its time.
    pub(super) fn forget(&self) {
        *self.cached.lock() = None;
    }

    fn usable(&self, secret: &str) -> Option<Secret> {
        let cached = self.cached.lock();
        let token = cached.as_ref().filter(|token| {
            &*token.secret == secret && token.good_until.is_none_or(|until| Instant::now() < until)
        })?;
        Some(token.authorization.clone())
    }

    async fn fetch(&self, secret: &std::sync::Arc<str>) -> Result<Token, ClientError> {
        let known = *self.style.lock();
        if let Some(style) = known {
            return self.ask(secret, style).await.map_err(|(error, _)| error);
        }
        let (token, style) = match self.ask(secret, Style::Header).await {
            Ok(token) => (token, Style::Header),
            Err((_, true)) => {
                let token = self.ask(secret, Style::Form).await.map_err(|(error, _)| error)?;
                (token, Style::Form)
            }
            Err((error, false)) => return Err(error),
        };
        *self.style.lock() = Some(style);
        Ok(token)
    }

    /// Asks once; the flag of the error says whether the server refused the request.
    async fn ask(
        &self,
        secret: &std::sync::Arc<str>,
        style: Style,
    ) -> Result<Token, (ClientError, bool)> {
        let asked = Instant::now();
        let request = self.request(secret, style);
        let transport = self.transports.current().await.map_err(|error| (error, false))?;
        let response = transport
            .request(request)
            .await
            .map_err(|error| (self.failed(&failure(&error).to_string()), false))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| (self.failed(&error.to_string()), false))?
            .to_bytes();
        if !status.is_success() {
            return Err((self.failed(&format!("it answers {status}")), status.is_client_error()));
        }
        let answer = read_answer(&body).map_err(|reason| (self.failed(reason), false))?;
        let lifetime = answer.expires_in.as_ref().and_then(seconds);
        let scheme = match answer.token_type.to_ascii_lowercase().as_str() {
            "" | "bearer" => "Bearer",
            "mac" => "MAC",
            "basic" => "Basic",
            _ => answer.token_type.as_str(),
        };
        Ok(Token {
            authorization: Secret::new(format!("{scheme} {}", answer.access_token)),
            secret: std::sync::Arc::clone(secret),
            good_until: lifetime.map(|lifetime| asked + lifetime.saturating_sub(RENEW_EARLY)),
        })
    }

    fn request(&self, secret: &str, style: Style) -> Request<Full<Bytes>> {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if !self.scopes.is_empty() {
            form.append_pair("scope", &self.scopes.join(" "));
        }
        for (name, value) in &self.endpoint_params {
            form.append_pair(name, value);
        }
        let mut authorization = None;
        match style {
            Style::Form => {
                form.append_pair("client_id", &self.client_id);
                if !secret.is_empty() {
                    form.append_pair("client_secret", secret);
                }
            }
            Style::Header => {
                // Section 2.3.1: both are encoded as in a form before they become Basic.
                let encode = |text: &str| -> String {
                    form_urlencoded::byte_serialize(text.as_bytes()).collect()
                };
                authorization = Some(basic(&encode(&self.client_id), &encode(secret)));
            }
        }
        let mut request = Request::new(Full::new(Bytes::from(form.finish())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.token_url.clone();
        let headers = request.headers_mut();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form_type);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, self.user_agent.clone());
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        request
    }

    /// Names host and path of the URL: what else may stand in it is nobody's business.
    fn failed(&self, reason: &str) -> ClientError {
        let host = self.token_url.host().unwrap_or_default();
        let port = self.token_url.port().map_or_else(String::new, |port| format!(":{port}"));
        ClientError::Credentials(format!(
            "no token from {}://{host}{port}{}: {reason}; check client_id, client secret and scopes",
            self.token_url.scheme_str().unwrap_or_default(),
            self.token_url.path(),
        ))
    }
}

/// JSON, or what some old servers send instead: a form.
fn read_answer(body: &[u8]) -> Result<Answer, &'static str> {
    let answer = serde_json::from_slice(body).unwrap_or_else(|_| {
        let mut answer =
            Answer { access_token: String::new(), token_type: String::new(), expires_in: None };
        for (name, value) in form_urlencoded::parse(body) {
            match &*name {
                "access_token" => answer.access_token = value.into_owned(),
                "token_type" => answer.token_type = value.into_owned(),
                "expires_in" => answer.expires_in = Some(value.into_owned().into()),
                _ => {}
            }
        }
        answer
    });
    if answer.access_token.is_empty() {
        return Err("its answer holds no access_token");
    }
    Ok(answer)
}

/// Seconds as a number or, as some servers write them, as text; 0 means that nothing is said.
fn seconds(value: &serde_json::Value) -> Option<Duration> {
    let seconds = match value {
        serde_json::Value::Number(number) => number.as_f64()?,
        serde_json::Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    (seconds > 0.0).then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_all_kinds_are_read() {
        let answer = read_answer(br#"{"access_token":"t","expires_in":"3600"}"#).expect("JSON");
        let lifetime = answer.expires_in.as_ref().and_then(seconds);
        assert_eq!(
            (answer.access_token.as_str(), lifetime),
            ("t", Some(Duration::from_secs(3_600)))
        );
        let answer = read_answer(b"access_token=t&expires_in=5&token_type=mac").expect("a form");
        assert_eq!((answer.access_token.as_str(), answer.token_type.as_str()), ("t", "mac"));
        assert!(read_answer(b"{}").is_err());
        assert_eq!(seconds(&serde_json::json!(0)), None);
        assert_eq!(seconds(&serde_json::json!(1e300)), None);
    }
}
