//! `email_configs`: mail.

use super::{Common, missing, template};
use crate::alertmanager::credential::{self, Credential};
use crate::alertmanager::global::read_address;
use crate::alertmanager::{Global, HostPort};
use crate::prometheus::TlsConfig;
use crate::prometheus::read::http_client::{canonical_header, read_tls_keys};
use crate::yaml::{FromNode, Section, pairs_of};

/// Mail.
#[derive(Debug, Clone, PartialEq)]
pub struct Email {
    /// The recipients, a template; never empty.
    pub to: String,
    /// The sender, a template.
    pub from: String,
    /// The name this host gives itself.
    pub hello: String,
    /// The server; present in a configuration that was loaded.
    pub smarthost: Option<HostPort>,
    /// The user, for PLAIN, LOGIN and CRAM-MD5.
    pub auth_username: String,
    /// The password, for PLAIN and LOGIN.
    pub auth_password: Credential,
    /// The secret, for CRAM-MD5.
    pub auth_secret: Credential,
    /// The identity, for PLAIN.
    pub auth_identity: String,
    /// Headers by ascending canonical name, templates. A subject is added if there is none.
    pub headers: Vec<(String, String)>,
    /// The HTML body, a template; empty for none.
    pub html: String,
    /// The plain body, a template; empty for none.
    pub text: String,
    /// Whether mail is only sent over TLS.
    pub require_tls: Option<bool>,
    /// TLS towards the server.
    pub tls: Option<TlsConfig>,
    /// Whether TLS begins with the connection; by the port if not said.
    pub force_implicit_tls: Option<bool>,
    /// How mails about one group are tied together.
    pub threading: EmailThreading,
}

/// How mails about one group are tied together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EmailThreading {
    /// Whether they are.
    pub enabled: bool,
    /// When a new thread begins.
    pub by_date: ThreadByDate,
}

/// When a new thread begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ThreadByDate {
    /// Each day.
    #[default]
    Daily,
    /// Never.
    None,
}

pub(super) fn read(section: &mut Section<'_>, _: &mut Common) -> Email {
    let email = Email {
        to: section.value("to"),
        from: section.value("from"),
        hello: section.value("hello"),
        smarthost: read_address(section, "smarthost"),
        auth_username: section.value("auth_username"),
        auth_password: credential::read(section, "auth_password", "auth_password_file"),
        auth_secret: credential::read(section, "auth_secret", "auth_secret_file"),
        auth_identity: section.value("auth_identity"),
        headers: read_headers(section),
        html: template(section, "html", "email.default.html"),
        text: section.value("text"),
        require_tls: section.read::<Option<bool>>("require_tls").flatten(),
        tls: section.section("tls_config", "config.plain").map(read_tls_keys),
        force_implicit_tls: section.read::<Option<bool>>("force_implicit_tls").flatten(),
        threading: read_threading(section),
    };
    if email.to.is_empty() {
        missing(section, "to", "missing to address in email config");
    }
    if email.threading.enabled {
        for name in ["References", "In-Reply-To"] {
            if email.headers.iter().any(|(header, _)| header == name) {
                let message = format!(
                    "conflicting configuration: threading.enabled conflicts with custom {name} \
                     header"
                );
                section.fault("headers", message, Some("remove the header, or threading"));
            }
        }
    }
    email
}

/// Names of headers do not depend on case.
fn read_headers(section: &mut Section<'_>) -> Vec<(String, String)> {
    let context = section.context;
    let Some(node) = section.node("headers") else { return Vec::new() };
    let mut headers: Vec<(String, String)> = Vec::new();
    for (key, value) in pairs_of(context, node) {
        let Some(name) = String::from_node(context, key) else { continue };
        let name = canonical_header(&name);
        let text =
            if value.is_null() { Some(String::new()) } else { String::from_node(context, value) };
        if headers.iter().any(|(other, _)| *other == name) {
            let message = format!("duplicate header {name:?} in email config");
            context.fault(key.span, message, Some("keep one of them".to_owned()));
            continue;
        }
        headers.extend(text.map(|text| (name, text)));
    }
    headers.sort();
    headers
}

fn read_threading(section: &mut Section<'_>) -> EmailThreading {
    let Some(mut inner) = section.section("threading", "email.ThreadingConfig") else {
        return EmailThreading::default();
    };
    let enabled = inner.value("enabled");
    let text: String = inner.or("thread_by_date", "daily".to_owned());
    let by_date = if text == "none" { ThreadByDate::None } else { ThreadByDate::Daily };
    if enabled && !matches!(text.as_str(), "none" | "daily") {
        let message = "threading.thread_by_date must be either 'none' or 'daily'";
        inner.fault("thread_by_date", message, Some("write none or daily"));
    }
    inner.finish();
    EmailThreading { enabled, by_date }
}

impl Email {
    pub(super) fn inherit(&mut self, section: &Section<'_>, _: &mut Common, global: &Global) {
        let smtp = &global.smtp;
        let or = |own: &mut String, inherited: &String| {
            if own.is_empty() {
                own.clone_from(inherited);
            }
        };
        or(&mut self.from, &smtp.from);
        or(&mut self.hello, &smtp.hello);
        or(&mut self.auth_username, &smtp.auth_username);
        or(&mut self.auth_identity, &smtp.auth_identity);
        let own = |own: &mut Credential, inherited| *own = std::mem::take(own).or(inherited);
        own(&mut self.auth_password, &smtp.auth_password);
        own(&mut self.auth_secret, &smtp.auth_secret);
        self.smarthost = self.smarthost.take().or_else(|| smtp.smarthost.clone());
        self.require_tls = self.require_tls.or(Some(smtp.require_tls));
        self.tls = self.tls.take().or_else(|| Some(smtp.tls.clone()));
        self.force_implicit_tls = self.force_implicit_tls.or(smtp.force_implicit_tls);
        if self.smarthost.is_none() {
            let help = "add smarthost: host:port, or smtp_smarthost to global";
            section.fault("smarthost", "no global SMTP smarthost set", Some(help));
        }
        if self.from.is_empty() {
            let help = "add from: …, or smtp_from to global";
            section.fault("from", "no global SMTP from set", Some(help));
        }
    }
}
