//! Secrets and addresses of receivers, given in place or by a file.

use std::path::PathBuf;

use super::template_text;
use crate::prometheus::read::http_client::optional_path;
use crate::yaml::Section;
use crate::{HttpUrl, REDACTED, Secret};

/// A secret, or where it is read from before each request. A file's content is trimmed by whoever
/// reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Credential {
    /// There is none.
    #[default]
    None,
    /// In the configuration itself.
    Inline(Secret),
    /// In a file.
    File(PathBuf),
}

impl Credential {
    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        *self != Credential::None
    }

    /// This one, or the other if there is none.
    pub(super) fn or(self, other: &Credential) -> Credential {
        if self.is_set() { self } else { other.clone() }
    }
}

/// Reads a secret and its file; both at once are a fault.
pub(super) fn read(
    section: &mut Section<'_>,
    key: &'static str,
    file_key: &'static str,
) -> Credential {
    let secret: Secret = section.value(key);
    one_of(section, key, file_key, secret)
}

/// As [`read`], for a secret that is a URL.
pub(super) fn read_url(
    section: &mut Section<'_>,
    key: &'static str,
    file_key: &'static str,
) -> Credential {
    let secret = read_secret_url(section, key, check_url);
    one_of(section, key, file_key, secret)
}

/// As [`read_url`], for one that may be a template.
pub(super) fn read_templated_url(
    section: &mut Section<'_>,
    key: &'static str,
    file_key: &'static str,
) -> Credential {
    let secret = read_secret_url(section, key, check_templated_url);
    one_of(section, key, file_key, secret)
}

fn one_of(
    section: &mut Section<'_>,
    key: &'static str,
    file_key: &'static str,
    secret: Secret,
) -> Credential {
    let file = optional_path(section, file_key);
    if !secret.is_empty() && file.is_some() {
        let message = format!("at most one of {key} & {file_key} must be configured");
        section.fault(file_key, message, Some("keep one of them"));
    }
    match file {
        _ if !secret.is_empty() => Credential::Inline(secret),
        Some(file) => Credential::File(file),
        None => Credential::None,
    }
}

fn read_secret_url(
    section: &mut Section<'_>,
    key: &'static str,
    check: impl Fn(&str) -> Result<(), String>,
) -> Secret {
    let secret: Secret = section.value(key);
    let text = secret.reveal();
    // What a redacted configuration shows is taken, as Alertmanager does.
    if text.is_empty() || text == REDACTED {
        return secret;
    }
    if let Err(message) = check(text) {
        let help = "write a URL such as https://host/path; a secret one may stand in a file, \
                    named by the key that ends in _file";
        section.fault(key, message, Some(help));
    }
    secret
}

/// Whether a text is the URL of an HTTP server. The message never shows it.
fn check_url(text: &str) -> Result<(), String> {
    let url = HttpUrl::parse(text).map_err(|_| "invalid URL".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("unsupported scheme {:?} for URL", url.scheme()));
    }
    if url.host().is_empty() {
        return Err("missing host for URL".to_owned());
    }
    Ok(())
}

/// Whether a text is the URL of an HTTP server, or a template that may become one.
///
/// # Errors
/// What is wrong with it, without the text itself.
pub fn check_templated_url(text: &str) -> Result<(), String> {
    if text.is_empty() || text == REDACTED {
        return Ok(());
    }
    match template_text::is_template(text) {
        Ok(true) => Ok(()),
        Ok(false) => check_url(text).map_err(|error| format!("invalid URL: {error}")),
        Err(error) => Err(format!("invalid template syntax: {error}")),
    }
}

/// Reads a URL that is no secret. `None` if there is none, or after a fault.
pub(super) fn plain_url(section: &mut Section<'_>, key: &'static str) -> Option<HttpUrl> {
    let url: HttpUrl = section.read(key).filter(|url: &HttpUrl| !url.reveal().is_empty())?;
    if let Err(message) = check_url(url.reveal()) {
        section.fault(key, message, Some("write a URL such as https://host/path"));
        return None;
    }
    Some(url)
}

/// The same with a slash at the end of its path, to which Alertmanager appends.
pub(super) fn with_slash(url: HttpUrl) -> HttpUrl {
    let text = url.reveal();
    let path_end = text.find(['?', '#']).unwrap_or(text.len());
    let (path, rest) = text.split_at(path_end);
    if path.ends_with('/') {
        return url;
    }
    HttpUrl::parse(&format!("{path}/{rest}")).unwrap_or(url)
}
