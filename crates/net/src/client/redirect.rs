//! Where a redirect leads, and what may go there.

use http::Uri;
use http::uri::Scheme;

/// Most redirects of one request, as in Go.
pub(super) const MAX_REDIRECTS: usize = 10;

/// Resolves the header `Location` against the URL that was asked (RFC 3986, section 5).
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn target(base: &Uri, location: &str) -> Result<Uri, String> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = base.scheme_str().unwrap_or("http");
    let authority = base.authority().map_or("", |authority| authority.as_str());
    let text = if has_scheme(location) {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else {
        let folder = base.path().rfind('/').map_or("/", |slash| &base.path()[..=slash]);
        format!("{scheme}://{authority}{folder}{location}")
    };
    let uri = Uri::try_from(text.as_str()).map_err(|_| format!("{location:?} is no URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
        return Err(format!("{location:?} leads away from HTTP"));
    }
    let path = without_dots(uri.path());
    if path == uri.path() {
        return Ok(uri);
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.into_parts();
    parts.path_and_query = format!("{path}{query}").parse().ok();
    Uri::from_parts(parts).map_err(|_| format!("{location:?} is no URL"))
}

fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

/// Removes `.` and `..` from a path.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_folder = false;
    for segment in path.split('/').skip(1) {
        ends_in_folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut out = kept.iter().fold(String::new(), |out, segment| out + "/" + segment);
    if ends_in_folder || out.is_empty() {
        out.push('/');
    }
    out
}

/// Whether what was meant for `from` may also be told to `to`: the same host and port, never from
/// TLS to plain. The step from port 80 to TLS on port 443 of the same host is the usual upgrade.
pub(super) fn may_share_credentials(from: &Uri, to: &Uri) -> bool {
    let is_tls = |uri: &Uri| uri.scheme() == Some(&Scheme::HTTPS);
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if is_tls(uri) { 443 } else { 80 });
    let same_host = match (from.host(), to.host()) {
        (Some(from), Some(to)) => from.eq_ignore_ascii_case(to),
        _ => false,
    };
    let is_upgrade = !is_tls(from) && is_tls(to) && port(from) == 80 && port(to) == 443;
    same_host && (is_upgrade || port(from) == port(to) && (is_tls(to) || !is_tls(from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().expect("a URL")
    }

    #[test]
    fn locations_are_resolved() {
        let base = uri("https://h:9/a/b?x=1");
        for (location, expected) in [
            ("http://other/m", "http://other/m"),
            ("//other/m", "https://other/m"),
            ("/m?y=2#part", "https://h:9/m?y=2"),
            ("c", "https://h:9/a/c"),
            ("../c/./d", "https://h:9/c/d"),
            ("..", "https://h:9/"),
            ("?z", "https://h:9/a/b?z"),
        ] {
            assert_eq!(target(&base, location), Ok(uri(expected)), "{location}");
        }
        for location in ["ftp://h/", "file:///etc/passwd", "javascript:alert(1)", "http://"] {
            assert!(target(&base, location).is_err(), "{location}");
        }
    }

    #[test]
    fn credentials_stay_with_their_host() {
        for (from, to, expected) in [
            ("http://h/", "http://h/x", true),
            ("http://h/", "http://H:80/x", true),
            ("http://h/", "https://h/", true),
            ("http://h:81/", "https://h/", false),
            ("http://h/", "http://h:81/", false),
            ("https://h/", "http://h/", false),
            ("https://h:1/", "http://h:1/", false),
            ("http://h/", "http://a.h/", false),
        ] {
            assert_eq!(may_share_credentials(&uri(from), &uri(to)), expected, "{from} {to}");
        }
    }
}
