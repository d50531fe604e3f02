//! One delivery: what is told, until when, and what must not be shown.

use std::collections::BTreeMap;
use std::time::Instant;

use alerting::notify::{Notification, NotifiedAlert};
use alerting::templates::TemplateError;
use alerting::templates::notice::{Data, DataAlert, Kv, Templates};
use async_trait::async_trait;
use model::go_time::GoTime;
use net::client::SecretText;
use parking_lot::Mutex;
use settings::alertmanager::Credential;
use sha2::{Digest, Sha256};

use crate::secrets::Secrets;

/// One integration, ready to tell.
#[async_trait]
pub(crate) trait Channel: Send + Sync {
    /// Tells. Yields what is to be kept for the next message about the group, if anything.
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure>;
}

/// What an integration keeps for its next message about the group; what it kept before if `None`.
pub(crate) type Kept = Option<BTreeMap<String, String>>;

/// Why a receiver was not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Whether it may work later.
    pub(crate) retry: bool,
    /// How long to wait at least, in nanoseconds.
    pub(crate) after_ns: Option<i64>,
    /// What went wrong; secrets are taken out of it later.
    pub(crate) message: String,
}

impl Failure {
    /// It may work later.
    pub(crate) fn retry(message: impl Into<String>) -> Self {
        Failure { retry: true, after_ns: None, message: message.into() }
    }

    /// It will never work.
    pub(crate) fn fatal(message: impl Into<String>) -> Self {
        Failure { retry: false, after_ns: None, message: message.into() }
    }

    /// The same, behind what was being done.
    pub(crate) fn while_doing(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

/// What one delivery works with.
pub(crate) struct Message<'a> {
    pub(crate) notification: &'a Notification,
    pub(crate) data: Data,
    pub(crate) now_ns: i64,
    pub(crate) deadline: Instant,
    /// A text for people that stands before the others.
    pub(crate) note: Option<&'a str>,
    templates: &'a Templates,
    secrets: Mutex<Secrets>,
}

/// What is the same for all messages of a configuration.
pub(crate) struct Surroundings<'a> {
    pub(crate) templates: &'a Templates,
    pub(crate) external_url: &'a str,
    /// Labels of the route.
    pub(crate) route_labels: Kv,
}

impl<'a> Message<'a> {
    pub(crate) fn new(
        notification: &'a Notification,
        surroundings: Surroundings<'a>,
        now_ns: i64,
        deadline: Instant,
        note: Option<&'a str>,
    ) -> Self {
        let group_labels = kv(notification.group_labels.iter());
        let alerts = notification.alerts.iter().map(data_alert).collect();
        let data = Data {
            notification_reason: notification.reason.as_str().to_owned(),
            route_labels: surroundings.route_labels,
            external_url: surroundings.external_url.to_owned(),
            now_ns,
            ..Data::of(&notification.receiver, group_labels, alerts)
        };
        let Surroundings { templates, .. } = surroundings;
        let secrets = Mutex::new(Secrets::default());
        Message { notification, data, now_ns, deadline, note, templates, secrets }
    }

    /// The data of the first `most` alerts, all of them if 0, and how many are left out.
    pub(crate) fn first_alerts(&self, most: u64) -> (Data, usize) {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if most == 0 || self.data.alerts.len() <= most {
            return (self.data.clone(), 0);
        }
        let alerts = self.data.alerts[..most].to_vec();
        let cut = Data::of(&self.notification.receiver, self.data.group_labels.clone(), alerts);
        let data = Data {
            notification_reason: self.data.notification_reason.clone(),
            route_labels: self.data.route_labels.clone(),
            external_url: self.data.external_url.clone(),
            now_ns: self.now_ns,
            ..cut
        };
        (data, self.data.alerts.len() - most)
    }

    /// What a text of the configuration makes of the notification.
    pub(crate) fn text(&self, text: &str) -> Result<String, Failure> {
        self.text_of(text, &self.data)
    }

    /// What a text of the configuration makes of other data.
    pub(crate) fn text_of(&self, text: &str, data: &Data) -> Result<String, Failure> {
        self.templates.text(text, data).map_err(unusable)
    }

    /// What a text of the configuration makes of the notification as HTML.
    pub(crate) fn html(&self, text: &str) -> Result<String, Failure> {
        self.templates.html(text, &self.data).map_err(unusable)
    }

    /// A text with the note in front of it, if there is one.
    pub(crate) fn noted(&self, text: String) -> String {
        match self.note {
            Some(note) if text.is_empty() => note.to_owned(),
            Some(note) => format!("{note} {text}"),
            None => text,
        }
    }

    /// Whether one of the alerts fires.
    pub(crate) fn fires(&self) -> bool {
        self.data.status == "firing"
    }

    /// What tells the group from others in few characters: SHA-256 of its key, in hexadecimal.
    pub(crate) fn key_hash(&self) -> String {
        hex(&Sha256::digest(self.notification.group_key.as_bytes()))
    }

    /// Reads a secret; from then on it is not shown.
    pub(crate) async fn secret(&self, secret: &SecretText) -> Result<String, Failure> {
        let text = secret.read().await.map_err(|error| Failure::retry(error.to_string()))?;
        self.conceal(&text);
        Ok(text.to_string())
    }

    /// Reads a secret that is a URL; from then on nothing of it is shown but its host.
    pub(crate) async fn secret_url(&self, secret: &SecretText) -> Result<String, Failure> {
        let text = secret.read().await.map_err(|error| Failure::retry(error.to_string()))?;
        self.conceal_url(&text);
        Ok(text.to_string())
    }

    /// Does not show this text from now on.
    pub(crate) fn conceal(&self, text: &str) {
        self.secrets.lock().add(text);
    }

    /// Does not show this URL from now on, nor the parts of it that may be secret.
    pub(crate) fn conceal_url(&self, url: &str) {
        self.secrets.lock().add_url(url);
    }

    /// Does not show a name and password in this URL from now on.
    pub(crate) fn conceal_userinfo(&self, url: &str) {
        self.secrets.lock().add_userinfo(url);
    }

    /// A text without the secrets that are known.
    pub(crate) fn redacted(&self, text: &str) -> String {
        self.secrets.lock().redacted(text)
    }
}

/// A secret of the configuration; `None` if it is not set.
pub(crate) fn secret_text(credential: &Credential) -> Option<SecretText> {
    match credential {
        Credential::None => None,
        Credential::Inline(secret) => Some(SecretText::new(secret.clone(), None)),
        Credential::File(path) => {
            Some(SecretText::new(settings::Secret::default(), Some(path.clone())))
        }
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |byte: u8| char::from(DIGITS[usize::from(byte & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn unusable(error: TemplateError) -> Failure {
    Failure::fatal(format!("{error}; correct the template of the receiver's configuration"))
}

fn kv<'l>(labels: impl Iterator<Item = (&'l str, &'l str)>) -> Kv {
    labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn data_alert(notified: &NotifiedAlert) -> DataAlert {
    let alert = &notified.alert;
    // While an alert fires, its end is when it would be forgotten, which tells nobody anything.
    let ends_at = match notified.resolved {
        true => GoTime::from_unix_ns(alert.ends_at_ns),
        false => GoTime::zero(),
    };
    DataAlert {
        status: if notified.resolved { "resolved" } else { "firing" }.to_owned(),
        labels: kv(alert.labels.iter()),
        annotations: alert.annotations.clone(),
        starts_at: GoTime::from_unix_ns(alert.starts_at_ns),
        ends_at,
        generator_url: alert.generator_url.clone(),
        fingerprint: notified.fingerprint.to_string(),
    }
}

/// The labels of a route as templates see them.
pub(crate) fn route_labels(labels: &model::Labels) -> Kv {
    kv(labels.iter())
}
