//! Mail. Source: Alertmanager, `notify/email/email.go`.

mod address;
mod dialogue;
mod encoding;
mod letter;

use async_trait::async_trait;
use net::client::{ClientError, ClientOptions, Dialer, SecretText};
use settings::alertmanager::receivers::Email as Settings;

use crate::message::{Channel, Failure, Kept, Message, secret_text};
use dialogue::{Credentials, Dialogue};
use letter::Letter;

/// Most recipients of one mail; servers are free to refuse more than a hundred (RFC 5321, section
/// 4.5.3.1.8).
const MAX_RECIPIENTS: usize = 1_000;

/// A server of mail.
pub(crate) struct Email {
    dialer: Dialer,
    password: Option<SecretText>,
    secret: Option<SecretText>,
    settings: Settings,
}

impl Email {
    pub(crate) fn new(settings: &Settings, options: &ClientOptions) -> Result<Self, ClientError> {
        let tls = settings.tls.clone().unwrap_or_default();
        Ok(Email {
            dialer: Dialer::new(&tls, options)?,
            password: secret_text(&settings.auth_password),
            secret: secret_text(&settings.auth_secret),
            settings: settings.clone(),
        })
    }

    async fn credentials(&self, message: &Message<'_>) -> Result<Option<Credentials>, Failure> {
        if self.settings.auth_username.is_empty() {
            return Ok(None);
        }
        let mut credentials = Credentials {
            username: self.settings.auth_username.clone(),
            identity: self.settings.auth_identity.clone(),
            password: None,
            secret: None,
        };
        if let Some(password) = &self.password {
            credentials.password = Some(message.secret(password).await?);
        }
        if let Some(secret) = &self.secret {
            credentials.secret = Some(message.secret(secret).await?);
        }
        Ok(Some(credentials))
    }
}

#[async_trait]
impl Channel for Email {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let settings = &self.settings;
        let Some(smarthost) = &settings.smarthost else {
            return Err(Failure::fatal("there is no smarthost; add smarthost: HOST:PORT"));
        };
        // The mail is made before anybody is connected to: what is wrong with it is wrong for ever.
        let from = addresses(message, "from", &settings.from)?;
        let [from] = from.as_slice() else {
            return Err(Failure::fatal(format!(
                "from has {} addresses; write exactly one",
                from.len()
            )));
        };
        let to = addresses(message, "to", &settings.to)?;
        if to.len() > MAX_RECIPIENTS {
            return Err(Failure::fatal(format!(
                "to has {} addresses, and {MAX_RECIPIENTS} are told at most; use a list of the mail \
                 server",
                to.len()
            )));
        }
        let letter = Letter::write(settings, message, &hostname())?;
        let credentials = self.credentials(message).await?;

        let port = port_number(&smarthost.port)?;
        let implicit = settings.force_implicit_tls.unwrap_or(port == 465);
        // As in Go, no host is this one.
        let host = if smarthost.host.is_empty() { "localhost" } else { smarthost.host.as_str() };
        let broken = |error: ClientError| Failure::retry(error.to_string());
        let tcp = self.dialer.connect(host, port).await.map_err(broken)?;
        let mut dialogue = if implicit {
            Dialogue::over(Box::new(self.dialer.encrypt(host, tcp).await.map_err(broken)?), true)
        } else {
            Dialogue::over(Box::new(tcp), false)
        };
        let hello = if settings.hello.is_empty() { "localhost" } else { settings.hello.as_str() };
        dialogue.greet(message, hello).await?;
        if !implicit && settings.require_tls.unwrap_or(true) {
            if !dialogue.offers("STARTTLS") {
                return Err(Failure::retry(format!(
                    "require_tls is true, as it is unless said otherwise, but {smarthost} does not \
                     offer STARTTLS; set force_implicit_tls: true if the port speaks TLS from the \
                     beginning"
                )));
            }
            let tcp = dialogue.start_tls(message).await?;
            let encrypted = self.dialer.encrypt(host, tcp).await.map_err(broken)?;
            dialogue = Dialogue::over(Box::new(encrypted), true);
            dialogue.introduce(message, hello).await?;
        }
        if let Some(credentials) = &credentials {
            dialogue.authenticate(message, credentials, host).await?;
        }
        dialogue.deliver(message, from, &to, &letter.bytes).await?;
        Ok(None)
    }
}

fn addresses(message: &Message<'_>, key: &str, template: &str) -> Result<Vec<String>, Failure> {
    let text = message.text(template).map_err(|failure| failure.while_doing(key))?;
    let mailboxes = address::parse_list(&text).map_err(|reason| {
        Failure::fatal(format!("{key} is no list of addresses: {reason}; write name@example.org"))
    })?;
    Ok(mailboxes.into_iter().map(|mailbox| mailbox.address).collect())
}

/// The number of a port that may be given by its name.
fn port_number(port: &str) -> Result<u16, Failure> {
    match port {
        "smtp" | "mail" => Ok(25),
        "submission" => Ok(587),
        "smtps" | "submissions" | "urd" => Ok(465),
        _ => port.parse().map_err(|_| {
            Failure::fatal(format!("{port:?} is no port; write a number, such as 587"))
        }),
    }
}

/// The name of this host, for `Message-Id`.
fn hostname() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || !name.chars().all(valid) {
        return "localhost.localdomain".to_owned();
    }
    name.into_owned()
}

#[cfg(test)]
mod tests;
