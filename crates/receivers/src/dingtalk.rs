//! Robots of DingTalk (钉钉) groups. Source: DingTalk's manual, "自定义机器人接入".
//!
//! A robot takes 20 messages a minute and then, for ten minutes, none: what would be one too many
//! waits here instead.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use net::client::SecretText;
use serde::Deserialize;
use serde_json::{Value, json};
use settings::alertmanager::receivers::{DingTalk as Settings, DingTalkMessage};

use crate::courier::{Courier, excerpt, with_query};
use crate::mac::hmac_sha256;
use crate::message::{Channel, Failure, Kept, Message, secret_text};
use crate::shortened;
use crate::throttle::{Allowance, Marks};

/// Largest request in bytes.
const MAX_BYTES: usize = 20_000;

/// Longest title; the manual names no limit, but only the beginning is shown.
const MAX_TITLE_CHARS: usize = 256;

const ALLOWANCES: [Allowance; 1] = [Allowance { messages: 20, window_ns: 60_000_000_000 }];

/// How long a robot is silent that was told too much.
const PENALTY_NS: i64 = 600_000_000_000;

/// `send too fast, exceed 20 times per minute`, and the same of newer robots.
const TOO_FAST: [i64; 2] = [130_101, 410_100];

/// `系统繁忙`: busy.
const BUSY: i64 = -1;

/// A robot of DingTalk.
pub(crate) struct DingTalk {
    courier: Courier,
    marks: Arc<Marks>,
    url: Option<SecretText>,
    secret: Option<SecretText>,
    settings: Settings,
}

#[derive(Deserialize)]
struct Answer {
    errcode: i64,
    #[serde(default)]
    errmsg: String,
}

impl DingTalk {
    pub(crate) fn new(settings: &Settings, courier: Courier, marks: Arc<Marks>) -> Self {
        let (url, secret) = (secret_text(&settings.url), secret_text(&settings.secret));
        DingTalk { courier, marks, url, secret, settings: settings.clone() }
    }

    fn body(&self, message: &Message<'_>) -> Result<String, Failure> {
        let settings = &self.settings;
        let title =
            shortened::in_chars(message.noted(message.text(&settings.title)?), MAX_TITLE_CHARS);
        let mut text = message.text(&settings.message)?;
        if settings.message_type == DingTalkMessage::Text {
            text = message.noted(text);
        }
        if !settings.keyword.is_empty() && !text.contains(&settings.keyword) {
            // In front, so that it is not cut off.
            text = format!("{}\n\n{text}", settings.keyword);
        }
        let calls = self.calls(&text);
        let body =
            |text: &str| self.wrapped(&title, &format!("{text}{calls}"), message).to_string();
        let text = shortened::to_fit(text, MAX_BYTES, |text| body(text).len());
        let body = body(&text);
        if body.len() > MAX_BYTES {
            return Err(Failure::fatal(format!(
                "the message has {} bytes even without its text, and DingTalk takes {MAX_BYTES}; \
                 call fewer people, or shorten the title",
                body.len()
            )));
        }
        Ok(body)
    }

    /// Whoever is called in Markdown has to stand in the text too.
    fn calls(&self, text: &str) -> String {
        let settings = &self.settings;
        if settings.message_type == DingTalkMessage::Text {
            return String::new();
        }
        let all = settings.at_mobiles.iter().chain(&settings.at_user_ids);
        let calls: Vec<String> = all
            .map(|name| format!("@{name}"))
            .filter(|call| !text.contains(call.as_str()))
            .collect();
        if calls.is_empty() { String::new() } else { format!("\n\n{}", calls.join(" ")) }
    }

    fn wrapped(&self, title: &str, text: &str, message: &Message<'_>) -> Value {
        let settings = &self.settings;
        let at = json!({
            "atMobiles": settings.at_mobiles,
            "atUserIds": settings.at_user_ids,
            "isAtAll": settings.at_all,
        });
        match settings.message_type {
            DingTalkMessage::Text => {
                json!({"msgtype": "text", "text": {"content": text}, "at": at})
            }
            DingTalkMessage::Markdown => {
                json!({"msgtype": "markdown", "markdown": {"title": title, "text": text}, "at": at})
            }
            DingTalkMessage::ActionCard => json!({
                "msgtype": "actionCard",
                "actionCard": {
                    "title": title,
                    "text": text,
                    "singleTitle": "Watchfire",
                    "singleURL": message.data.external_url,
                    "btnOrientation": "0",
                },
                "at": at,
            }),
        }
    }
}

#[async_trait]
impl Channel for DingTalk {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let Some(url) = &self.url else {
            return Err(Failure::fatal("there is no url; add url or url_file"));
        };
        let address = message.secret_url(url).await?;
        let mut url = address.clone();
        if let Some(secret) = &self.secret {
            let secret = message.secret(secret).await?;
            let timestamp = (message.now_ns / 1_000_000).to_string();
            let signed = format!("{timestamp}\n{secret}");
            let sign = BASE64_STANDARD.encode(hmac_sha256(secret.as_bytes(), signed.as_bytes()));
            message.conceal(&sign);
            url = with_query(&url, &[("timestamp", &timestamp), ("sign", &sign)]);
        }
        let body = self.body(message)?;
        if let Err(wait_ns) = self.marks.pass(&address, &ALLOWANCES, message.now_ns) {
            return Err(Failure {
                after_ns: Some(wait_ns),
                ..Failure::retry(
                    "the robot had 20 messages within a minute already, and one more would silence \
                     it for ten; it waits. Group by fewer labels, or add a robot",
                )
            });
        }
        let answer = self.courier.post_json(message, &url, body).await?;
        answer.check(message, &[])?;
        let told: Answer = answer.json(message)?;
        if told.errcode == 0 {
            return Ok(None);
        }
        let text = format!("DingTalk answers {}: {}", told.errcode, excerpt(message, &told.errmsg));
        if TOO_FAST.contains(&told.errcode) {
            self.marks.block(&address, message.now_ns, PENALTY_NS);
            return Err(Failure { after_ns: Some(PENALTY_NS), ..Failure::retry(text) });
        }
        Err(if told.errcode == BUSY { Failure::retry(text) } else { Failure::fatal(text) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alerting::notify::Outcome;
    use serde_json::json;

    use super::*;
    use crate::DeliveryOptions;
    use crate::test_peer::{
        NOW_NS, Peer, Seen, delivered, deliverer, deliverer_with, failed, json as said,
        notification, retried,
    };

    const OK: &str = r#"{"errcode":0,"errmsg":"ok"}"#;

    fn keys(peer: &Peer, more: &str) -> String {
        let url = peer.url("/robot/send?access_token=token-1234");
        format!("dingtalk_configs: [{{url: '{url}'{more}}}]")
    }

    #[tokio::test]
    async fn a_signed_message_in_markdown() {
        let peer = Peer::saying(said(200, OK)).await;
        let more = ", secret: SECabc, title: T, message: M, keyword: alarm, at: {mobiles: \
                    ['13800000000'], user_ids: [u1], all: true}";
        let deliverer = deliverer(&keys(&peer, more));
        let note = Some("[no majority]");
        let outcome = deliverer.deliver_noted(&notification("dingtalk"), NOW_NS, note).await;
        assert_eq!(outcome, delivered());
        let request = peer.request();
        let (path, query) = request.path.split_once('?').expect("a query");
        assert_eq!((request.method.as_str(), path), ("POST", "/robot/send"));
        let pairs = Seen::pairs(query);
        let sign = BASE64_STANDARD.encode(hmac_sha256(b"SECabc", b"1700000000000\nSECabc"));
        let expected =
            [("access_token", "token-1234"), ("timestamp", "1700000000000"), ("sign", &sign)];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(pairs, expected);
        assert_eq!(
            request.json(),
            json!({
                "msgtype": "markdown",
                "markdown": {
                    "title": "[no majority] T",
                    "text": "alarm\n\nM\n\n@13800000000 @u1",
                },
                "at": {"atMobiles": ["13800000000"], "atUserIds": ["u1"], "isAtAll": true},
            })
        );
    }

    #[tokio::test]
    async fn texts_and_cards() {
        let peer = Peer::saying(said(200, OK)).await;
        for kind in ["text", "actionCard"] {
            let more = format!(", message_type: {kind}, title: T, message: M");
            let outcome =
                deliverer(&keys(&peer, &more)).deliver(&notification("dingtalk"), NOW_NS).await;
            assert_eq!(outcome, delivered());
        }
        let requests = peer.requests();
        assert_eq!(requests[0].json()["text"], json!({"content": "M"}));
        assert_eq!(requests[1].json()["actionCard"]["singleURL"], "http://w.example");
    }

    #[tokio::test]
    async fn a_long_message_is_cut() {
        let peer = Peer::saying(said(200, OK)).await;
        let more = ", message: '{{ printf \"%030000d\" 7 }}\"'";
        let outcome =
            deliverer(&keys(&peer, more)).deliver(&notification("dingtalk"), NOW_NS).await;
        assert_eq!(outcome, delivered());
        let request = peer.request();
        assert!(request.body.len() <= MAX_BYTES && request.body.len() > MAX_BYTES - 10);
        let text = request.json()["markdown"]["text"].as_str().expect("a text").to_owned();
        assert!(text.ends_with("0…"), "{}", text.len());
    }

    #[tokio::test]
    async fn errors_come_with_status_200() {
        let peer = Peer::start(|_, before| match before {
            0 => said(200, r#"{"errcode":310000,"errmsg":"sign not match token-1234"}"#),
            1 => said(200, r#"{"errcode":-1,"errmsg":"busy"}"#),
            2 => said(200, "<html>"),
            _ => said(200, r#"{"errcode":130101,"errmsg":"send too fast"}"#),
        })
        .await;
        let deliverer = deliverer(&keys(&peer, ""));
        let message = failed(deliverer.deliver(&notification("dingtalk"), NOW_NS).await);
        assert_eq!(message, "ops/dingtalk[0]: DingTalk answers 310000: sign not match <secret>");
        retried(deliverer.deliver(&notification("dingtalk"), NOW_NS).await);
        retried(deliverer.deliver(&notification("dingtalk"), NOW_NS).await);
        for _ in 0..2 {
            let outcome = deliverer.deliver(&notification("dingtalk"), NOW_NS).await;
            let Outcome::Retry { after_ns, .. } = outcome else { panic!("{outcome:?}") };
            assert_eq!(after_ns, Some(PENALTY_NS));
        }
        // The last one did not reach the robot.
        assert_eq!(peer.requests().len(), 4);
    }

    #[tokio::test]
    async fn the_twenty_first_message_of_a_minute_waits_even_after_a_reload() {
        let peer = Peer::saying(said(200, OK)).await;
        let options = DeliveryOptions::operator("");
        let first = deliverer_with(&keys(&peer, ""), options.clone());
        let mut late = notification("dingtalk");
        late.deadline_ns += 100_000_000_000;
        for second in 0..20 {
            let now_ns = NOW_NS + second * 1_000_000_000;
            let outcome = first.deliver(&late, now_ns).await;
            assert_eq!(outcome, delivered());
        }
        let marks = Arc::clone(&options.marks);
        let second = deliverer_with(&keys(&peer, ""), DeliveryOptions { marks, ..options });
        let outcome = second.deliver(&late, NOW_NS + 20_000_000_000).await;
        let Outcome::Retry { after_ns, message } = outcome else { panic!("{outcome:?}") };
        assert_eq!(after_ns, Some(40_000_000_000));
        assert!(message.contains("20 messages"), "{message}");
        assert_eq!(peer.requests().len(), 20);
        let outcome = second.deliver(&late, NOW_NS + 60_000_000_000).await;
        assert_eq!(outcome, delivered());
    }
}
