//! Addresses of HTTP servers.

use std::fmt;

/// A URL of a server, as the file wrote it. `Debug` and `Display` hide a password in it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct HttpUrl {
    text: String,
}

impl HttpUrl {
    /// Takes `text` as it is; whoever uses it finds out whether it is a URL.
    pub fn new(text: impl Into<String>) -> Self {
        HttpUrl { text: text.into() }
    }

    /// The URL with everything in it, a password too.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The password stands between the first colon of the user part and the last `@` of the
        // authority.
        let Some((scheme, rest)) = self.text.split_once("://") else {
            return f.write_str(&self.text);
        };
        let authority_length = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(authority_length);
        match authority.rsplit_once('@') {
            Some((user, host)) if user.contains(':') => {
                let name = user.split(':').next().unwrap_or_default();
                write!(f, "{scheme}://{name}:xxxxx@{host}{tail}")
            }
            _ => f.write_str(&self.text),
        }
    }
}
