//! Who we are to Amazon: the configuration, else the environment, else the file of credentials that
//! Amazon's tools share.
//!
//! Metadata services and web identities are not asked: requests to metadata services are refused
//! (`net::client::operator_addresses`).

use std::path::PathBuf;

use parking_lot::Mutex;
use settings::Secret;
use settings::alertmanager::receivers::Sns as Settings;

use super::amazon_domain;

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A role is taken anew before it ends: it holds for an hour, of which five minutes are left.
const ROLE_LIFE_NS: i64 = 55 * 60 * 1_000_000_000;

/// What requests are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) access_key: String,
    pub(super) secret_key: Secret,
    pub(super) token: Option<Secret>,
}

/// Where they come from.
pub(super) struct Source {
    configured: Option<Credentials>,
    profile: String,
    region: String,
    /// What was got for the role, and until when it is good.
    role: Mutex<Option<(Credentials, i64)>>,
}

impl Source {
    pub(super) fn new(settings: &Settings) -> Self {
        let configured = (!settings.access_key.is_empty()).then(|| Credentials {
            access_key: settings.access_key.clone(),
            secret_key: settings.secret_key.clone(),
            token: None,
        });
        Source {
            configured,
            profile: settings.profile.clone(),
            region: settings.region.clone(),
            role: Mutex::default(),
        }
    }

    /// The region of requests.
    pub(super) fn region(&self) -> Result<String, String> {
        if !self.region.is_empty() {
            return Ok(self.region.clone());
        }
        let found = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        let region = found.or_else(|| self.of_profile("AWS_CONFIG_FILE", ".aws/config", "region"));
        let valid = |region: &String| {
            region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        region.filter(valid).ok_or_else(|| {
            "no region is known; add sigv4: {region: …}, or set AWS_REGION".to_owned()
        })
    }

    /// What this process is known by.
    pub(super) fn credentials(&self) -> Result<Credentials, String> {
        if let Some(configured) = &self.configured {
            return Ok(configured.clone());
        }
        if self.profile.is_empty()
            && let (Some(access_key), Some(secret_key)) =
                (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"))
        {
            let token = variable("AWS_SESSION_TOKEN").map(Secret::new);
            return Ok(Credentials { access_key, secret_key: Secret::new(secret_key), token });
        }
        let part = |key| self.of_profile("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", key);
        let (Some(access_key), Some(secret_key)) =
            (part("aws_access_key_id"), part("aws_secret_access_key"))
        else {
            return Err("there are no credentials; add access_key and secret_key to sigv4, set \
                        AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write ~/.aws/credentials"
                .to_owned());
        };
        let token = part("aws_session_token").map(Secret::new);
        Ok(Credentials { access_key, secret_key: Secret::new(secret_key), token })
    }

    /// Where roles are taken.
    pub(super) fn sts_url(&self, region: &str) -> String {
        let other = variable("AWS_ENDPOINT_URL_STS");
        let url = other.map(|url| format!("{}/", url.trim_end_matches('/')));
        url.unwrap_or_else(|| format!("https://sts.{region}.{}/", amazon_domain(region)))
    }

    /// What was got for the role, if it is still good.
    pub(super) fn role(&self, now_ns: i64) -> Option<Credentials> {
        let role = self.role.lock();
        role.as_ref().filter(|(_, until_ns)| now_ns < *until_ns).map(|(role, _)| role.clone())
    }

    pub(super) fn keep_role(&self, role: &Credentials, now_ns: i64) {
        *self.role.lock() = Some((role.clone(), now_ns.saturating_add(ROLE_LIFE_NS)));
    }

    /// A value of the profile, in the file that a variable names or that is below the home.
    fn of_profile(&self, path: &str, below_home: &str, key: &str) -> Option<String> {
        let path = variable(path).map(PathBuf::from);
        let path = path.or_else(|| Some(PathBuf::from(variable("HOME")?).join(below_home)))?;
        if std::fs::metadata(&path).ok()?.len() > MAX_FILE_BYTES {
            return None;
        }
        let text = std::fs::read_to_string(path).ok()?;
        let profile = match self.profile.as_str() {
            "" => variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned()),
            profile => profile.to_owned(),
        };
        value_of(&text, &profile, key)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `key = value` below `[profile]` or `[profile profile]`.
fn value_of(text: &str, profile: &str, key: &str) -> Option<String> {
    let mut is_inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let name = name.trim();
            is_inside = name.strip_prefix("profile ").unwrap_or(name).trim() == profile;
        } else if is_inside && !line.starts_with(['#', ';']) {
            let Some((name, value)) = line.split_once('=') else { continue };
            if name.trim() == key && !value.trim().is_empty() {
                return Some(value.trim().to_owned());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_profiles() {
        let text = "# x\n[default]\nregion = a\n[profile dev]\n; region = no\nregion=b\nempty =\n";
        assert_eq!(value_of(text, "default", "region").as_deref(), Some("a"));
        assert_eq!(value_of(text, "dev", "region").as_deref(), Some("b"));
        assert_eq!(value_of(text, "dev", "empty"), None);
        assert_eq!(value_of(text, "other", "region"), None);
    }

    #[test]
    fn a_role_ends() {
        let source = Source {
            configured: None,
            profile: String::new(),
            region: "r".to_owned(),
            role: Mutex::default(),
        };
        let role =
            Credentials { access_key: "a".to_owned(), secret_key: Secret::new("s"), token: None };
        source.keep_role(&role, 0);
        assert_eq!(source.role(ROLE_LIFE_NS - 1), Some(role));
        assert_eq!(source.role(ROLE_LIFE_NS), None);
    }
}
