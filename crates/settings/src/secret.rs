//! Text that must never be printed.

use std::fmt;

use serde::{Serialize, Serializer};

/// What is shown wherever a secret would stand, as Prometheus does.
pub const REDACTED: &str = "<secret>";

/// A password, token or key from a configuration file.
///
/// `Debug`, `Display` and `Serialize` give [`REDACTED`]; only [`Secret::reveal`] gives the text.
/// Equality is not constant in time: it serves to compare two configurations, never to check a
/// credential.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes `text` as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself. Use it where it leaves for the peer, nowhere else.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_prints_it() {
        let secret = Secret::new("canary");
        let shown = format!("{secret} {secret:?} {:?}", Some(&secret));
        assert!(!shown.contains("canary"), "{shown}");
        assert_eq!(serde_json::to_string(&secret).expect("a string"), "\"<secret>\"");
        assert_eq!(secret.reveal(), "canary");
    }
}
