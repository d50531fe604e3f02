//! Who the client says it is: `Authorization` and the extra headers.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use settings::Secret;
use settings::prometheus::HttpClientConfig;

use super::ClientOptions;
use super::error::ClientError;
use super::oauth2::TokenSource;
use super::proxy::{basic, secret_value};
use super::request::Userinfo;
use super::watched::WatchedFile;

/// A secret text in the configuration or in a file, which is watched.
#[derive(Debug)]
pub struct SecretText(Place);

#[derive(Debug)]
enum Place {
    Inline(Secret),
    File(WatchedFile),
}

impl SecretText {
    /// The text of `file`, trimmed, if there is one; else `inline` as it is.
    pub fn new(inline: Secret, file: Option<std::path::PathBuf>) -> Self {
        SecretText(match file {
            Some(path) => Place::File(WatchedFile::new(path)),
            None => Place::Inline(inline),
        })
    }

    /// The text as it is now; a change of the file is seen a second later.
    ///
    /// # Errors
    /// [`ClientError::Credentials`], which names the file.
    pub async fn read(&self) -> Result<Arc<str>, ClientError> {
        match &self.0 {
            Place::Inline(secret) => Ok(Arc::from(secret.reveal())),
            Place::File(file) => {
                file.text().await.map_err(|error| ClientError::Credentials(error.to_string()))
            }
        }
    }
}

/// What belongs to the server the client was made for and to no other.
pub(super) struct Credentials {
    scheme: Scheme,
    headers: Vec<(HeaderName, Vec<HeaderValue>, Vec<WatchedFile>)>,
}

enum Scheme {
    None,
    Basic { username: SecretText, password: SecretText },
    Other { scheme: String, credentials: SecretText },
    Token(Box<TokenSource>),
}

impl Credentials {
    /// # Errors
    /// [`ClientError::Config`] for headers and token servers that cannot be.
    pub(super) fn new(
        config: &HttpClientConfig,
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        let scheme = if let Some(basic) = &config.basic_auth {
            let username = Secret::new(basic.username.clone());
            Scheme::Basic {
                username: SecretText::new(username, basic.username_file.clone()),
                password: SecretText::new(basic.password.clone(), basic.password_file.clone()),
            }
        } else if let Some(other) = &config.authorization {
            Scheme::Other {
                scheme: other.scheme.clone(),
                credentials: SecretText::new(
                    other.credentials.clone(),
                    other.credentials_file.clone(),
                ),
            }
        } else if let Some(oauth2) = &config.oauth2 {
            Scheme::Token(Box::new(TokenSource::new(oauth2, options)?))
        } else {
            Scheme::None
        };
        let mut headers = Vec::with_capacity(config.http_headers.len());
        for header in &config.http_headers {
            let name = HeaderName::try_from(header.name.as_str()).map_err(|_| {
                ClientError::Config(format!("http_headers: {:?} is no header name", header.name))
            })?;
            let mut values = Vec::new();
            for value in &header.values {
                values.push(HeaderValue::try_from(value).map_err(|_| {
                    ClientError::Config(format!(
                        "http_headers: the value {value:?} of {name} holds control characters"
                    ))
                })?);
            }
            for secret in &header.secrets {
                values.push(secret_value(&name, secret)?);
            }
            let files = header.files.iter().cloned().map(WatchedFile::new).collect();
            headers.push((name, values, files));
        }
        Ok(Credentials { scheme, headers })
    }

    /// Adds everything to the headers of one request. Name and password of the URL count only
    /// where the configuration says nothing.
    pub(super) async fn add_to(
        &self,
        headers: &mut HeaderMap,
        userinfo: Option<&Userinfo>,
    ) -> Result<(), ClientError> {
        for (name, values, files) in &self.headers {
            // The first replaces what the request has of that name.
            headers.remove(name);
            for value in values {
                headers.append(name.clone(), value.clone());
            }
            for file in files {
                let text = file
                    .text()
                    .await
                    .map_err(|error| ClientError::Credentials(error.to_string()))?;
                headers.append(name.clone(), secret_value(name, &Secret::new(&*text))?);
            }
        }
        let authorization = match &self.scheme {
            Scheme::None => userinfo.map(|userinfo| basic(&userinfo.name, &userinfo.password)),
            Scheme::Basic { username, password } => {
                Some(basic(&username.read().await?, &password.read().await?))
            }
            Scheme::Other { scheme, credentials } => {
                let text = format!("{scheme} {}", credentials.read().await?);
                Some(secret_value(&http::header::AUTHORIZATION, &Secret::new(text))?)
            }
            Scheme::Token(source) => {
                let secret = source.authorization().await?;
                Some(secret_value(&http::header::AUTHORIZATION, &secret)?)
            }
        };
        if let Some(authorization) = authorization {
            headers.insert(http::header::AUTHORIZATION, authorization);
        }
        Ok(())
    }

    /// A token that was fetched, with its scheme.
    pub(super) fn token(&self) -> Option<Secret> {
        match &self.scheme {
            Scheme::Token(source) => source.known(),
            _ => None,
        }
    }

    /// The server did not take what was sent: a cached token is not used again.
    pub(super) fn rejected(&self) {
        if let Scheme::Token(source) = &self.scheme {
            source.forget();
        }
    }
}
