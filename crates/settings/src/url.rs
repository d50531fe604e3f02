//! Addresses of HTTP servers.

use std::fmt;

/// Why a text is no URL, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parse {text:?}: {reason}")]
pub struct UrlError {
    text: String,
    reason: String,
}

/// A URL as the file wrote it. `Debug` and `Display` hide a password in it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct HttpUrl {
    text: String,
}

impl HttpUrl {
    /// Takes what Go's `url.Parse` takes, which is much: `scheme` and `host` may be missing, and
    /// those who need them ask [`HttpUrl::scheme`] and [`HttpUrl::host`].
    ///
    /// # Errors
    /// Control characters, spaces in the host, a colon without a scheme, a port that is no
    /// number, a broken escape.
    pub fn parse(text: &str) -> Result<HttpUrl, UrlError> {
        let url = HttpUrl { text: text.to_owned() };
        let fault =
            |reason: &str| Err(UrlError { text: url.to_string(), reason: reason.to_owned() });
        if text.chars().any(|c| c.is_ascii_control()) {
            return fault("net/url: invalid control character in URL");
        }
        if text.starts_with(':') {
            return fault("missing protocol scheme");
        }
        if url.scheme().is_empty() {
            let first = text.split(['/', '?', '#']).next().unwrap_or_default();
            if first.contains(':') {
                return fault("first path segment in URL cannot contain colon");
            }
        }
        let host = url.authority();
        let name_end = if host.starts_with('[') {
            match host.find(']') {
                Some(end) => end + 1,
                None => return fault("missing ']' in host"),
            }
        } else {
            host.rfind(':').unwrap_or(host.len())
        };
        let (name, port) = host.split_at(name_end);
        if !port.trim_start_matches(':').bytes().all(|b| b.is_ascii_digit()) {
            return fault(&format!("invalid port {port:?} after host"));
        }
        if let Some(bad) = name
            .chars()
            .find(|c| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'))
        {
            return fault(&format!("invalid character {:?} in host name", bad.to_string()));
        }
        let path = text.split(['?', '#']).next().unwrap_or_default();
        for (at, _) in path.match_indices('%') {
            let digits = path[at + 1..].bytes().take(2).filter(u8::is_ascii_hexdigit).count();
            if digits < 2 {
                let shown: String = path[at..].chars().take(3).collect();
                return fault(&format!("invalid URL escape {shown:?}"));
            }
        }
        Ok(url)
    }

    /// What stands before the first colon, if it is a scheme; otherwise empty.
    pub fn scheme(&self) -> &str {
        let Some((scheme, _)) = self.text.split_once(':') else { return "" };
        let valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        if valid { scheme } else { "" }
    }

    /// Host and port, without user and password; empty if there is none.
    pub fn host(&self) -> &str {
        self.authority()
    }

    /// The URL with everything in it, a password too.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    fn authority(&self) -> &str {
        let rest = match self.scheme() {
            "" => self.text.as_str(),
            scheme => &self.text[scheme.len() + 1..],
        };
        let Some(rest) = rest.strip_prefix("//") else { return "" };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.rsplit_once('@').map_or(authority, |(_, host)| host)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_go_takes() {
        for (text, scheme, host) in [
            ("http://remote1/push", "http", "remote1"),
            ("https://u:p@[::1]:9090/x?y#z", "https", "[::1]:9090"),
            ("eureka.com", "", ""),
            ("//host/x", "", "host"),
            ("localhost:9090", "localhost", ""),
            ("http://", "http", ""),
            ("", "", ""),
        ] {
            let url = HttpUrl::parse(text).expect(text);
            assert_eq!((url.scheme(), url.host()), (scheme, host), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for (text, want) in [
            ("http://a b/", "invalid character \" \" in host name"),
            ("http://a:x/", "invalid port \":x\" after host"),
            ("http://[::1/", "missing ']' in host"),
            ("1:2", "first path segment in URL cannot contain colon"),
            ("://x", "missing protocol scheme"),
            ("http://a/%zz", "invalid URL escape \"%zz\""),
            ("http://a/\n", "invalid control character in URL"),
        ] {
            let error = HttpUrl::parse(text).expect_err(text).to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let url = HttpUrl::parse("http://user:canary@host/a@b").expect("a URL");
        assert_eq!(format!("{url:?}"), "http://user:xxxxx@host/a@b");
        let error = HttpUrl::parse("http://user:canary@host:x/").expect_err("a bad port");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}
