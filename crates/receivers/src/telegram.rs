//! Telegram bots. Source: Alertmanager, `notify/telegram/telegram.go`; `MessageEntity.cpp` of TDLib
//! for how long a text in HTML is.

use async_trait::async_trait;
use net::client::SecretText;
use serde::Deserialize;
use serde_json::json;
use settings::alertmanager::receivers::{Telegram as Settings, TelegramChat, TelegramParseMode};

use crate::courier::{Courier, excerpt};
use crate::message::{Channel, Failure, Kept, Message, secret_text};
use crate::shortened;

/// Largest text before its marks are read, in bytes.
const MAX_TEXT_BYTES: usize = 1 << 15;

/// Longest text once its marks are read.
const MAX_TEXT_CHARS: usize = 4_096;

/// What is told instead of a text in HTML that is too long: cut anywhere, its marks would not
/// close, and Telegram would refuse it.
const TOO_LONG: &str = "The notification could not be sent: its text is longer than Telegram \
                        allows. Please check the template of the message.";

/// A bot of Telegram.
pub(crate) struct Telegram {
    courier: Courier,
    token: Option<SecretText>,
    /// The file with the number of the chat, if it is in one.
    chat: Option<SecretText>,
    settings: Settings,
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    error_code: i64,
    #[serde(default)]
    description: String,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Deserialize, Default)]
struct Parameters {
    retry_after: Option<i64>,
}

impl Telegram {
    pub(crate) fn new(settings: &Settings, courier: Courier) -> Self {
        let chat = match &settings.chat {
            TelegramChat::Id(_) => None,
            TelegramChat::File(path) => {
                Some(SecretText::new(settings::Secret::default(), Some(path.clone())))
            }
        };
        Telegram {
            courier,
            token: secret_text(&settings.bot_token),
            chat,
            settings: settings.clone(),
        }
    }

    fn text(&self, message: &Message<'_>) -> Result<String, Failure> {
        if self.settings.parse_mode != TelegramParseMode::Html {
            let text = message.noted(message.text(&self.settings.message)?);
            return Ok(shortened::in_chars(text, MAX_TEXT_CHARS));
        }
        let mut text = message.html(&self.settings.message)?;
        if let Some(note) = message.note {
            let note = note.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            text = format!("{note} {text}");
        }
        if text.len() > MAX_TEXT_BYTES || visible_chars(&text) > MAX_TEXT_CHARS {
            return Ok(TOO_LONG.to_owned());
        }
        Ok(text)
    }

    async fn chat(&self, message: &Message<'_>) -> Result<i64, Failure> {
        let (file, id) = match (&self.chat, &self.settings.chat) {
            (Some(file), _) => (file, 0),
            (None, TelegramChat::Id(id)) => return Ok(*id),
            (None, TelegramChat::File(_)) => return Err(Failure::fatal("there is no chat_id")),
        };
        let text = message.secret(file).await?;
        let chat = text.parse().ok().filter(|chat| *chat != id);
        chat.ok_or_else(|| {
            Failure::retry("chat_id_file holds no number; write the chat's id into it")
        })
    }
}

#[async_trait]
impl Channel for Telegram {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let settings = &self.settings;
        let (Some(url), Some(token)) = (&settings.api_url, &self.token) else {
            return Err(Failure::fatal("there is no bot_token; add bot_token_file"));
        };
        let text = self.text(message)?;
        let token = message.secret(token).await?;
        let url = format!("{}/bot{token}/sendMessage", url.reveal().trim_end_matches('/'));
        message.conceal_url(&url);
        // Telegram takes all values as texts.
        let mut body = json!({
            "chat_id": self.chat(message).await?.to_string(),
            "text": text,
            "disable_web_page_preview": "true",
        });
        let parse_mode = match settings.parse_mode {
            TelegramParseMode::Plain => None,
            TelegramParseMode::Markdown => Some("Markdown"),
            TelegramParseMode::MarkdownV2 => Some("MarkdownV2"),
            TelegramParseMode::Html => Some("HTML"),
        };
        if let Some(mode) = parse_mode {
            body["parse_mode"] = mode.into();
        }
        if settings.disable_notifications {
            body["disable_notification"] = "true".into();
        }
        if settings.message_thread_id != 0 {
            body["message_thread_id"] = settings.message_thread_id.to_string().into();
        }
        let answer = self.courier.post_json(message, &url, body.to_string()).await?;
        // As in Alertmanager, everything but success is tried again.
        let told: Option<Answer> = answer.json(message).ok();
        let Some(told) = told else {
            let excerpt = answer.excerpt(message);
            return Err(Failure { retry: true, ..answer.failure(message, &[], &excerpt) });
        };
        if told.ok {
            return Ok(None);
        }
        let description = excerpt(message, &told.description);
        let after_ns = told.parameters.retry_after.and_then(|s| s.checked_mul(1_000_000_000));
        let after_ns = after_ns.or_else(|| answer.retry_after_ns(message.now_ns));
        let text = format!("Telegram answers {}: {description}", told.error_code);
        Err(Failure { after_ns, ..Failure::retry(text) })
    }
}

/// The characters of a text in HTML that are shown: tags are not, and an entity is one. Where the
/// tags make no sense, all characters count.
fn visible_chars(html: &str) -> usize {
    let mut count = 0;
    let mut rest = html;
    while let Some(c) = rest.chars().next() {
        if c == '<' && rest[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') {
            match tag_end(rest) {
                Some(end) => rest = &rest[end..],
                None => return html.chars().count(),
            }
            continue;
        }
        if rest.starts_with("<!") {
            return html.chars().count();
        }
        let entity = if c == '&' { entity_bytes(rest) } else { None };
        rest = &rest[entity.unwrap_or(c.len_utf8())..];
        count += 1;
    }
    count
}

/// The bytes of the tag that a text begins with; a `>` within quotes does not end it.
fn tag_end(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(mark), byte) if mark == byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'>') => return Some(at + 1),
            (None, _) => {}
        }
    }
    None
}

/// The bytes of the entity that a text begins with, of those that Telegram knows: four by name, and
/// numbers. The semicolon may be missing.
fn entity_bytes(text: &str) -> Option<usize> {
    let inner = &text[1..];
    let length = if let Some(number) = inner.strip_prefix('#') {
        let (radix, digits) = match number.strip_prefix('x') {
            Some(digits) => (16, digits),
            None => (10, number),
        };
        let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
        let code = u32::from_str_radix(&digits[..end], radix).ok()?;
        let length = text.len() - digits.len() + end;
        // Longer ones Telegram does not read.
        if code == 0 || code >= 0x0010_ffff || length >= 10 {
            return None;
        }
        length
    } else {
        let end = inner.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(inner.len());
        if !matches!(&inner[..end], "lt" | "gt" | "amp" | "quot") {
            return None;
        }
        1 + end
    };
    Some(length + usize::from(text[length..].starts_with(';')))
}

#[cfg(test)]
mod tests {
    use alerting::notify::Outcome;

    use super::*;
    use crate::test_peer::{
        NOW_NS, Peer, delivered, deliverer, json as said, notification, retried,
    };

    const OK: &str = r#"{"ok":true,"result":{"message_id":1,"chat":{"id":-7}}}"#;

    fn keys(peer: &Peer, more: &str) -> String {
        format!(
            "telegram_configs: [{{api_url: '{}', bot_token: '12:token-1234', chat_id: -7{more}}}]",
            peer.url("/")
        )
    }

    #[tokio::test]
    async fn a_message_in_html() {
        let peer = Peer::saying(said(200, OK)).await;
        let more = ", message: '<b>{{ .CommonAnnotations.summary }}</b>', message_thread_id: 5, \
                    disable_notifications: true";
        let deliverer = deliverer(&keys(&peer, more));
        let note = Some("<no majority>");
        let outcome = deliverer.deliver_noted(&notification("telegram"), NOW_NS, note).await;
        assert_eq!(outcome, delivered());
        let request = peer.request();
        assert_eq!(request.path, "/bot12:token-1234/sendMessage");
        assert_eq!(
            request.json(),
            json!({
                "chat_id": "-7",
                "text": "&lt;no majority&gt; <b>it &lt;is&gt; down</b>",
                "parse_mode": "HTML",
                "message_thread_id": "5",
                "disable_notification": "true",
                "disable_web_page_preview": "true",
            })
        );
    }

    #[tokio::test]
    async fn long_messages() {
        let peer = Peer::saying(said(200, OK)).await;
        let long = ", message: '{{ printf \"%05000d\" 7 }}'";
        for more in [long.to_owned(), format!("{long}, parse_mode: ''")] {
            let deliverer = deliverer(&keys(&peer, &more));
            assert_eq!(deliverer.deliver(&notification("telegram"), NOW_NS).await, delivered());
        }
        let requests = peer.requests();
        assert_eq!(requests[0].json()["text"], TOO_LONG);
        let text = requests[1].json()["text"].as_str().map(|text| text.chars().count());
        assert_eq!(text, Some(MAX_TEXT_CHARS));
        assert_eq!(requests[1].json().get("parse_mode"), None);
    }

    #[test]
    fn marks_are_not_counted() {
        for (html, count) in [
            ("<b>a</b>", 1),
            ("<a href=\"x>y\">ab</a>", 2),
            ("&lt;&amp;x", 3),
            ("&nbsp;", 6),
            ("&#65;&#x41", 2),
            ("&#0;", 4),
            ("a < b", 5),
            ("<b", 2),
            ("<!-- -->", 8),
            ("ä&", 2),
        ] {
            assert_eq!(visible_chars(html), count, "{html}");
        }
    }

    #[tokio::test]
    async fn refusals_are_tried_again() {
        let peer = Peer::start(|_, before| match before {
            0 => said(
                429,
                r#"{"ok":false,"error_code":429,"description":"Too Many Requests","parameters":{"retry_after":9}}"#,
            ),
            1 => said(401, r#"{"ok":false,"error_code":401,"description":"bot12:token-1234"}"#),
            _ => said(404, "<html>"),
        })
        .await;
        let deliverer = deliverer(&keys(&peer, ""));
        let outcome = deliverer.deliver(&notification("telegram"), NOW_NS).await;
        let Outcome::Retry { after_ns, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(after_ns, Some(9_000_000_000));
        let message = retried(deliverer.deliver(&notification("telegram"), NOW_NS).await);
        assert!(message.contains("401") && !message.contains("token-1234"), "{message}");
        retried(deliverer.deliver(&notification("telegram"), NOW_NS).await);
    }

    #[tokio::test]
    async fn the_chat_may_be_in_a_file() {
        let peer = Peer::saying(said(200, OK)).await;
        let file = tempfile::NamedTempFile::new().expect("a file");
        let keys = keys(&peer, "")
            .replace("chat_id: -7", &format!("chat_id_file: '{}'", file.path().display()));
        let deliverer = deliverer(&keys);
        let message = retried(deliverer.deliver(&notification("telegram"), NOW_NS).await);
        assert!(message.contains("chat_id_file holds no number"), "{message}");
        std::fs::write(file.path(), "-42\n").expect("written");
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        assert_eq!(deliverer.deliver(&notification("telegram"), NOW_NS).await, delivered());
        assert_eq!(peer.request().json()["chat_id"], "-42");
    }
}
