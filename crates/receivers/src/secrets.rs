//! Texts that no error may show.

use settings::REDACTED;

/// A shorter secret is only taken out where it stands alone: otherwise a password `a` would leave
/// nothing of a message.
const MIN_ANYWHERE_BYTES: usize = 4;

/// A part of a URL that is at least this long may be a token.
const MIN_TOKEN_BYTES: usize = 8;

/// Texts that are not shown, the longest first.
#[derive(Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// Adds a secret, also as it looks in URLs and in JSON.
    pub(crate) fn add(&mut self, secret: &str) {
        let secret = secret.trim();
        self.insert(secret);
        self.insert(&form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>());
        let json = serde_json::Value::from(secret).to_string();
        self.insert(json.trim_matches('"'));
    }

    /// Adds a URL: all of it, all behind its host, and each part that is long enough for a token.
    pub(crate) fn add_url(&mut self, url: &str) {
        let url = url.trim();
        self.add(url);
        self.add_userinfo(url);
        let (_, path) = split(url);
        if path.len() >= MIN_TOKEN_BYTES {
            self.add(path);
        }
        for part in path.split(['/', '?', '&', '=']).filter(|part| part.len() >= MIN_TOKEN_BYTES) {
            self.add(part);
            let decoded = form_urlencoded::parse(part.as_bytes()).next();
            if let Some((decoded, _)) = decoded {
                self.insert(&decoded);
            }
        }
    }

    /// Adds name and password of a URL, if it has them.
    pub(crate) fn add_userinfo(&mut self, url: &str) {
        let (authority, _) = split(url);
        if let Some((userinfo, _)) = authority.rsplit_once('@') {
            self.add(userinfo);
            self.add(userinfo.split_once(':').map_or(userinfo, |(_, password)| password));
        }
    }

    fn insert(&mut self, secret: &str) {
        if secret.is_empty() || self.0.iter().any(|known| known == secret) {
            return;
        }
        let at = self.0.partition_point(|known| known.len() >= secret.len());
        self.0.insert(at, secret.to_owned());
    }

    /// The text without what is secret.
    pub(crate) fn redacted(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            if !text.contains(secret.as_str()) {
                continue;
            }
            text = if secret.len() >= MIN_ANYWHERE_BYTES {
                text.replace(secret.as_str(), REDACTED)
            } else {
                without_word(&text, secret)
            };
        }
        text
    }
}

/// What stands between scheme and path of a URL, and all behind it.
fn split(url: &str) -> (&str, &str) {
    let rest = url.trim().split_once("://").map_or(url.trim(), |(_, rest)| rest);
    rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()))
}

/// The text without `word` where no letter or digit stands beside it.
fn without_word(text: &str, word: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, found) = rest.split_at(at);
        let behind = &found[word.len()..];
        out.push_str(before);
        let is_bounded =
            !out.ends_with(char::is_alphanumeric) && !behind.starts_with(char::is_alphanumeric);
        out.push_str(if is_bounded { REDACTED } else { word });
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_hidden_whole_and_in_parts() {
        let mut secrets = Secrets::default();
        secrets
            .add_url("https://u:hunter22@h.example/services/T0001/tok%2Fen-12345?key=abcdefghij");
        for text in [
            "POST https://u:hunter22@h.example/services/T0001/tok%2Fen-12345?key=abcdefghij",
            "no such hook: tok/en-12345",
            "bad key abcdefghij",
            "bad password hunter22",
        ] {
            let shown = secrets.redacted(text);
            assert!(shown.contains(REDACTED), "{shown}");
            for secret in ["hunter22", "en-12345", "abcdefghij"] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
        assert_eq!(secrets.redacted("host h.example is down"), "host h.example is down");
    }

    #[test]
    fn short_ones_are_hidden_where_they_stand_alone() {
        let mut secrets = Secrets::default();
        secrets.add("ab");
        assert_eq!(secrets.redacted("ab: a cab, \"ab\""), "<secret>: a cab, \"<secret>\"");
    }

    #[test]
    fn the_longer_one_goes_first() {
        let mut secrets = Secrets::default();
        secrets.add("token");
        secrets.add("token-of-token");
        assert_eq!(secrets.redacted("x token-of-token y"), "x <secret> y");
    }
}
