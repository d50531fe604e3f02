//! Who we are to Amazon: the configuration, else the environment, else the token by which a cluster
//! vouches for its pods, else the file of credentials that Amazon's tools share.
//!
//! Metadata services are not asked: requests to them are refused
//! (`net::client::operator_addresses`).

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use settings::Secret;
use settings::alertmanager::receivers::Sns as Settings;

use super::amazon_domain;

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Credentials that were fetched are fetched anew before they end: they hold for an hour, of which
/// five minutes are left.
const SESSION_LIFE_NS: i64 = 55 * 60 * 1_000_000_000;

/// What requests are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) access_key: String,
    pub(super) secret_key: Secret,
    pub(super) token: Option<Secret>,
}

/// What this process is known by.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// Keys.
    Keys(Credentials),
    /// A token, which is exchanged for keys of a role.
    WebIdentity {
        /// The role.
        role_arn: String,
        /// The token.
        token: Secret,
    },
}

/// Credentials that were fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Session {
    /// For a token.
    WebIdentity,
    /// For the role of the configuration.
    Role,
}

/// The value of a variable of the environment; `None` if it is empty.
type Variable = fn(&str) -> Option<String>;

/// Where credentials come from.
pub(super) struct Source {
    configured: Option<Credentials>,
    profile: String,
    region: String,
    variable: Variable,
    /// Where roles are taken, if not where the region says.
    sts_url: Option<String>,
    /// What was fetched for a token and for the role, and until when it is good.
    sessions: Mutex<[Option<(Credentials, i64)>; 2]>,
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
            variable,
            sts_url: variable("AWS_ENDPOINT_URL_STS"),
            sessions: Mutex::default(),
        }
    }

    /// The same, which takes roles elsewhere.
    #[cfg(test)]
    pub(super) fn with_sts(mut self, url: String) -> Self {
        self.sts_url = Some(url);
        self
    }

    /// The region of requests.
    pub(super) fn region(&self) -> Result<String, String> {
        if !self.region.is_empty() {
            return Ok(self.region.clone());
        }
        let variable = self.variable;
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
    pub(super) fn own(&self) -> Result<Own, String> {
        let variable = self.variable;
        if let Some(configured) = &self.configured {
            return Ok(Own::Keys(configured.clone()));
        }
        if self.profile.is_empty()
            && let (Some(access_key), Some(secret_key)) =
                (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"))
        {
            let token = variable("AWS_SESSION_TOKEN").map(Secret::new);
            let secret_key = Secret::new(secret_key);
            return Ok(Own::Keys(Credentials { access_key, secret_key, token }));
        }
        if self.profile.is_empty()
            && let (Some(role_arn), Some(path)) =
                (variable("AWS_ROLE_ARN"), variable("AWS_WEB_IDENTITY_TOKEN_FILE"))
        {
            let token = read(&PathBuf::from(path))?;
            return Ok(Own::WebIdentity { role_arn, token: Secret::new(token.trim()) });
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
        let secret_key = Secret::new(secret_key);
        Ok(Own::Keys(Credentials { access_key, secret_key, token }))
    }

    /// Where roles are taken.
    pub(super) fn sts_url(&self, region: &str) -> String {
        let other = self.sts_url.as_ref();
        let url = other.map(|url| format!("{}/", url.trim_end_matches('/')));
        url.unwrap_or_else(|| format!("https://sts.{region}.{}/", amazon_domain(region)))
    }

    /// What was fetched, if it is still good.
    pub(super) fn session(&self, session: Session, now_ns: i64) -> Option<Credentials> {
        let sessions = self.sessions.lock();
        let known = sessions[session as usize].as_ref();
        known.filter(|(_, until_ns)| now_ns < *until_ns).map(|(known, _)| known.clone())
    }

    pub(super) fn keep(&self, session: Session, credentials: &Credentials, now_ns: i64) {
        let until_ns = now_ns.saturating_add(SESSION_LIFE_NS);
        self.sessions.lock()[session as usize] = Some((credentials.clone(), until_ns));
    }

    /// A value of the profile, in the file that a variable names or that is below the home.
    fn of_profile(&self, path: &str, below_home: &str, key: &str) -> Option<String> {
        let variable = self.variable;
        let path = variable(path).map(PathBuf::from);
        let path = path.or_else(|| Some(PathBuf::from(variable("HOME")?).join(below_home)))?;
        let text = read(&path).ok()?;
        let profile = match self.profile.as_str() {
            "" => variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned()),
            profile => profile.to_owned(),
        };
        value_of(&text, &profile, key)
    }
}

/// Reads a small file.
fn read(path: &Path) -> Result<String, String> {
    let told = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let bytes = std::fs::metadata(path).map_err(|error| told(&error))?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(told(&format!("it has {bytes} bytes, and {MAX_FILE_BYTES} are read at most")));
    }
    std::fs::read_to_string(path).map_err(|error| told(&error))
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

    fn source(variable: Variable) -> Source {
        Source {
            configured: None,
            profile: String::new(),
            region: String::new(),
            variable,
            sts_url: variable("AWS_ENDPOINT_URL_STS"),
            sessions: Mutex::default(),
        }
    }

    #[test]
    fn what_was_fetched_ends() {
        let source = source(|_| None);
        let role =
            Credentials { access_key: "a".to_owned(), secret_key: Secret::new("s"), token: None };
        source.keep(Session::Role, &role, 0);
        assert_eq!(source.session(Session::Role, SESSION_LIFE_NS - 1), Some(role));
        assert_eq!(source.session(Session::Role, SESSION_LIFE_NS), None);
        assert_eq!(source.session(Session::WebIdentity, 0), None);
    }

    #[test]
    fn the_environment_says_who_we_are() {
        let keys = source(|name| match name {
            "AWS_ACCESS_KEY_ID" => Some("a".to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some("s".to_owned()),
            "AWS_REGION" => Some("eu-west-1".to_owned()),
            "AWS_ROLE_ARN" => Some("arn".to_owned()),
            _ => None,
        });
        let secret_key = Secret::new("s");
        let wanted = Credentials { access_key: "a".to_owned(), secret_key, token: None };
        assert_eq!(keys.own(), Ok(Own::Keys(wanted)));
        assert_eq!(keys.region().as_deref(), Ok("eu-west-1"));
        assert_eq!(keys.sts_url("cn-north-1"), "https://sts.cn-north-1.amazonaws.com.cn/");
        let pod = source(|name| match name {
            "AWS_ROLE_ARN" => Some("arn".to_owned()),
            "AWS_WEB_IDENTITY_TOKEN_FILE" => Some("/nowhere/token".to_owned()),
            _ => None,
        });
        let error = pod.own().expect_err("no file");
        assert!(error.contains("cannot read /nowhere/token"), "{error}");
        let nobody = source(|_| None);
        assert!(nobody.own().is_err() && nobody.region().is_err());
    }
}
