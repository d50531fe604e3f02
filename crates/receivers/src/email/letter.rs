//! What a mail looks like: headers, then the plain text and the HTML as alternatives.

use model::go_time::GoTime;
use settings::alertmanager::receivers::{Email as Settings, ThreadByDate};
use sha2::{Digest, Sha256};

use super::address;
use super::encoding::{header_value, quoted_printable};
use crate::message::{Failure, Message, hex};

/// The subject, unless the configuration has another.
const SUBJECT: &str = "{{ template \"email.default.subject\" . }}";

/// Headers whose values are addresses.
const ADDRESS_HEADERS: [&str; 7] = ["Bcc", "Cc", "From", "Reply-To", "Return-Path", "Sender", "To"];

/// A mail as it goes over the wire, except for the dots.
pub(super) struct Letter {
    pub(super) bytes: Vec<u8>,
}

impl Letter {
    /// Writes a mail: the headers of the configuration by name, then `Message-Id`, those of
    /// threads, `Date`, `Content-Type` and `MIME-Version`.
    pub(super) fn write(
        settings: &Settings,
        message: &Message<'_>,
        hostname: &str,
    ) -> Result<Letter, Failure> {
        let mut headers = settings.headers.clone();
        for (name, text) in [("Subject", SUBJECT), ("To", &settings.to), ("From", &settings.from)] {
            if !headers.iter().any(|(known, _)| known == name) {
                headers.push((name.to_owned(), text.to_owned()));
            }
        }
        headers.sort();
        let mut out = Vec::new();
        for (name, template) in &headers {
            let of_header = |failure: Failure| failure.while_doing(&format!("header {name:?}"));
            let mut value = message.text(template).map_err(of_header)?;
            if name == "Subject" {
                value = message.noted(value);
            }
            let valid = |c: char| c.is_ascii_graphic() && c != ':';
            if name.is_empty() || !name.chars().all(valid) {
                return Err(Failure::fatal(format!(
                    "{name:?} is no name of a header; use letters, digits and hyphens"
                )));
            }
            append_header(&mut out, name, &encoded(name, &value));
        }
        let identity = identity(message);
        if !headers.iter().any(|(name, _)| name == "Message-Id") {
            let id = format!("<{}.{}@{hostname}>", message.notification.now_ns, &identity[..32]);
            append_header(&mut out, "Message-Id", &id);
        }
        let now = GoTime::from_unix_ns(message.now_ns);
        if settings.threading.enabled {
            let mut day = String::new();
            if settings.threading.by_date == ThreadByDate::Daily {
                now.format_into(&mut day, "2006-01-02");
            }
            // No mail has this id. Programs that show threads put what refers to it together.
            let root = format!("<alert-{}-{day}@alertmanager>", &message.key_hash()[..16]);
            append_header(&mut out, "References", &root);
            append_header(&mut out, "In-Reply-To", &root);
        }
        let mut date = String::new();
        now.format_into(&mut date, "Mon, 02 Jan 2006 15:04:05 -0700");
        append_header(&mut out, "Date", &date);
        let boundary = &identity[4..64];
        let content_type = format!("multipart/alternative;  boundary={boundary}");
        append_header(&mut out, "Content-Type", &content_type);
        append_header(&mut out, "MIME-Version", "1.0");
        out.extend_from_slice(b"\r\n");

        // The best alternative comes last (RFC 2046, section 5.1.4). One without any is no mail.
        let mut parts = Vec::new();
        if !settings.text.is_empty() || settings.html.is_empty() {
            parts.push(("text/plain", message.text(&settings.text)));
        }
        if !settings.html.is_empty() {
            parts.push(("text/html", message.html(&settings.html)));
        }
        for (n, (kind, body)) in parts.into_iter().enumerate() {
            let body = body.map_err(|failure| failure.while_doing(kind))?;
            let break_before = if n == 0 { "" } else { "\r\n" };
            out.extend_from_slice(
                format!(
                    "{break_before}--{boundary}\r\nContent-Transfer-Encoding: quoted-printable\r\n\
                     Content-Type: {kind}; charset=UTF-8\r\n\r\n"
                )
                .as_bytes(),
            );
            quoted_printable(&body, &mut out);
        }
        out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        Ok(Letter { bytes: out })
    }
}

fn append_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
}

/// A header's value. Of addresses only the names are encoded: an address within an encoded word is
/// none.
fn encoded(name: &str, value: &str) -> String {
    let mailboxes = if value.is_ascii() || !ADDRESS_HEADERS.contains(&name) {
        None
    } else {
        address::parse_list(value).ok()
    };
    let Some(mailboxes) = mailboxes else { return header_value(value) };
    let shown: Vec<String> = mailboxes
        .into_iter()
        .map(|mailbox| match mailbox.name.as_str() {
            "" => mailbox.address,
            name if name.is_ascii() => format!(
                "\"{}\" <{}>",
                name.replace('\\', "\\\\").replace('"', "\\\""),
                mailbox.address
            ),
            name => format!("{} <{}>", header_value(name), mailbox.address),
        })
        .collect();
    shown.join(",\r\n ")
}

/// The same for all attempts at a notification and different for any other, so that who gets a mail
/// twice can tell: 64 hexadecimal digits.
fn identity(message: &Message<'_>) -> String {
    let notification = message.notification;
    let mut hash = Sha256::new();
    for text in [&notification.group_key, &notification.receiver] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.update((notification.index as u64).to_le_bytes());
    hash.update(notification.id.0.to_le_bytes());
    hash.update(notification.now_ns.to_le_bytes());
    hex(&hash.finalize())
}
