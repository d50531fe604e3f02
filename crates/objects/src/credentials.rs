//! Where credentials of stores come from.

use std::collections::BTreeMap;

use settings::Secret;

/// Names and values as the stores' own tools read them from the environment: `AWS_ACCESS_KEY_ID`,
/// `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_KEY`, `REDIS_PASSWORD` and so on. Values
/// are never shown.
#[derive(Debug, Clone, Default)]
pub struct Credentials(BTreeMap<String, Secret>);

/// What is taken from the environment.
const PREFIXES: [&str; 4] = ["AWS_", "GOOGLE_", "AZURE_", "REDIS_"];

impl Credentials {
    /// None at all: stores of a cloud then ask the cloud's metadata service.
    pub fn none() -> Self {
        Credentials::default()
    }

    /// What this process was started with.
    pub fn from_environment() -> Self {
        let ours = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            let is_ours = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            (is_ours && !value.is_empty()).then(|| (name, Secret::new(value)))
        };
        Credentials(std::env::vars_os().filter_map(ours).collect())
    }

    /// With one more, which counts more than the environment: for what a configuration file says.
    #[must_use]
    pub fn with(mut self, name: &str, value: Secret) -> Self {
        self.0.insert(name.to_ascii_uppercase(), value);
        self
    }

    /// The value of a name in capitals.
    pub(crate) fn get(&self, name: &str) -> Option<&Secret> {
        self.0.get(name)
    }

    /// Name in small letters and value of everything that begins with `prefix`, in capitals.
    pub(crate) fn below<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (String, &'a str)> + 'a {
        let named = self.0.iter().filter(move |(name, _)| name.starts_with(prefix));
        named.map(|(name, value)| (name.to_ascii_lowercase(), value.reveal()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_and_never_shown() {
        let credentials = Credentials::none()
            .with("aws_secret_access_key", Secret::new("canary"))
            .with("REDIS_PASSWORD", Secret::new("canary"));
        assert_eq!(credentials.get("REDIS_PASSWORD").map(Secret::reveal), Some("canary"));
        let below: Vec<_> = credentials.below("AWS_").collect();
        assert_eq!(below, [("aws_secret_access_key".to_owned(), "canary")]);
        assert!(!format!("{credentials:?}").contains("canary"));
    }
}
