//! Robots of Feishu (飞书) and Lark groups. Source: Feishu's manual, "自定义机器人使用指南".

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use net::client::SecretText;
use serde::Deserialize;
use serde_json::{Value, json};
use settings::alertmanager::receivers::{Feishu as Settings, FeishuMessage};

use crate::courier::{Courier, excerpt};
use crate::mac::hmac_sha256;
use crate::message::{Channel, Failure, Kept, Message, secret_text};
use crate::shortened;
use crate::throttle::{Allowance, Marks};

/// Largest request in bytes: the manual says 20 K, which either way is not less than this.
const MAX_BYTES: usize = 20_000;

/// Longest title; the manual names no limit, but only the beginning is shown.
const MAX_TITLE_CHARS: usize = 256;

const ALLOWANCES: [Allowance; 2] = [
    Allowance { messages: 5, window_ns: 1_000_000_000 },
    Allowance { messages: 100, window_ns: 60_000_000_000 },
];

/// Too many messages: of the robot, of the group, of the application.
const TOO_FAST: [i64; 3] = [11_232, 230_020, 99_991_400];

/// A robot of Feishu.
pub(crate) struct Feishu {
    courier: Courier,
    marks: Arc<Marks>,
    url: Option<SecretText>,
    secret: Option<SecretText>,
    settings: Settings,
}

/// Robots answer `code`, older ones `StatusCode`, many both.
#[derive(Deserialize)]
struct Answer {
    code: Option<i64>,
    #[serde(rename = "StatusCode")]
    old_code: Option<i64>,
    #[serde(default)]
    msg: String,
}

impl Feishu {
    pub(crate) fn new(settings: &Settings, courier: Courier, marks: Arc<Marks>) -> Self {
        let (url, secret) = (secret_text(&settings.url), secret_text(&settings.secret));
        Feishu { courier, marks, url, secret, settings: settings.clone() }
    }

    fn body(&self, message: &Message<'_>, secret: Option<&str>) -> Result<String, Failure> {
        let settings = &self.settings;
        let title =
            shortened::in_chars(message.noted(message.text(&settings.title)?), MAX_TITLE_CHARS);
        let mut text = message.text(&settings.message)?;
        if settings.message_type == FeishuMessage::Text {
            text = message.noted(text);
        }
        if !settings.keyword.is_empty() && !text.contains(&settings.keyword) {
            // In front, so that it is not cut off.
            text = format!("{}\n{text}", settings.keyword);
        }
        let signature = secret.map(|secret| {
            let timestamp = (message.now_ns / 1_000_000_000).to_string();
            // The text to sign is the key, and what is signed is empty.
            let sign = BASE64_STANDARD
                .encode(hmac_sha256(format!("{timestamp}\n{secret}").as_bytes(), b""));
            message.conceal(&sign);
            (timestamp, sign)
        });
        let body = |text: &str| {
            let mut body = self.wrapped(&title, text, message.fires());
            if let (Some((timestamp, sign)), Some(fields)) = (&signature, body.as_object_mut()) {
                fields.insert("timestamp".to_owned(), timestamp.as_str().into());
                fields.insert("sign".to_owned(), sign.as_str().into());
            }
            body.to_string()
        };
        let text = shortened::to_fit(text, MAX_BYTES, |text| body(text).len());
        let body = body(&text);
        if body.len() > MAX_BYTES {
            return Err(Failure::fatal(format!(
                "the message has {} bytes even without its text, and Feishu takes {MAX_BYTES}; call \
                 fewer people, or shorten the title",
                body.len()
            )));
        }
        Ok(body)
    }

    fn wrapped(&self, title: &str, text: &str, fires: bool) -> Value {
        let everybody = self.settings.at_all.then_some("all");
        let called = self.settings.at_user_ids.iter().map(String::as_str).chain(everybody);
        match self.settings.message_type {
            FeishuMessage::Text => {
                let calls: String =
                    called.map(|id| format!("\n<at user_id=\"{id}\"></at>")).collect();
                json!({"msg_type": "text", "content": {"text": format!("{text}{calls}")}})
            }
            FeishuMessage::Post => {
                let mut lines = vec![json!([{"tag": "text", "text": text}])];
                let calls: Vec<Value> =
                    called.map(|id| json!({"tag": "at", "user_id": id})).collect();
                if !calls.is_empty() {
                    lines.push(Value::Array(calls));
                }
                let post = json!({"zh_cn": {"title": title, "content": lines}});
                json!({"msg_type": "post", "content": {"post": post}})
            }
            FeishuMessage::Interactive => {
                let calls: String = called.map(|id| format!("\n<at id={id}></at>")).collect();
                json!({"msg_type": "interactive", "card": {
                    "config": {"wide_screen_mode": true},
                    "header": {
                        "title": {"tag": "plain_text", "content": title},
                        "template": if fires { "red" } else { "green" },
                    },
                    "elements": [{"tag": "markdown", "content": format!("{text}{calls}")}],
                }})
            }
        }
    }
}

#[async_trait]
impl Channel for Feishu {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let Some(url) = &self.url else {
            return Err(Failure::fatal("there is no url; add url or url_file"));
        };
        let url = message.secret_url(url).await?;
        let secret = match &self.secret {
            Some(secret) => Some(message.secret(secret).await?),
            None => None,
        };
        let body = self.body(message, secret.as_deref())?;
        if let Err(wait_ns) = self.marks.pass(&url, &ALLOWANCES, message.now_ns) {
            return Err(Failure {
                after_ns: Some(wait_ns),
                ..Failure::retry(
                    "the robot had 5 messages within a second or 100 within a minute already, which \
                     is all it takes; it waits. Group by fewer labels, or add a robot",
                )
            });
        }
        let answer = self.courier.post_json(message, &url, body).await?;
        // What is wrong with a request it tells with status 400, that there were too many as well.
        let told: Option<Answer> = answer.json(message).ok();
        let code = told.as_ref().and_then(|told| told.code.or(told.old_code));
        match (code, &told) {
            (Some(0), _) if answer.status / 100 == 2 => Ok(None),
            (Some(code), Some(told)) if code != 0 => {
                let text = format!("Feishu answers {code}: {}", excerpt(message, &told.msg));
                let after_ns = answer.retry_after_ns(message.now_ns);
                let retry =
                    TOO_FAST.contains(&code) || answer.status == 429 || answer.status / 100 == 5;
                Err(Failure { retry, after_ns, message: text })
            }
            _ => {
                answer.check(message, &[])?;
                let excerpt = answer.excerpt(message);
                Err(Failure::retry(format!("the answer is not one of Feishu: {excerpt:?}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alerting::notify::Outcome;
    use serde_json::json;

    use super::*;
    use crate::test_peer::{
        NOW_NS, Peer, delivered, deliverer, failed, json as said, notification, resolved, retried,
    };

    const OK: &str =
        r#"{"StatusCode":0,"StatusMessage":"success","code":0,"data":{},"msg":"success"}"#;

    fn keys(peer: &Peer, more: &str) -> String {
        let url = peer.url("/open-apis/bot/v2/hook/hook-1234");
        format!("feishu_configs: [{{url: '{url}'{more}}}]")
    }

    #[tokio::test]
    async fn a_signed_card() {
        let peer = Peer::saying(said(200, OK)).await;
        let more = ", secret: abc, title: T, message: M, keyword: alarm, at: {user_ids: [ou_1], all: true}";
        let deliverer = deliverer(&keys(&peer, more));
        let note = Some("[no majority]");
        let outcome = deliverer.deliver_noted(&notification("feishu"), NOW_NS, note).await;
        assert_eq!(outcome, delivered());
        assert_eq!(deliverer.deliver(&resolved("feishu"), NOW_NS).await, delivered());
        let requests = peer.requests();
        assert_eq!(requests[0].path, "/open-apis/bot/v2/hook/hook-1234");
        let sign = BASE64_STANDARD.encode(hmac_sha256(b"1700000000\nabc", b""));
        assert_eq!(
            requests[0].json(),
            json!({
                "timestamp": "1700000000",
                "sign": sign,
                "msg_type": "interactive",
                "card": {
                    "config": {"wide_screen_mode": true},
                    "header": {
                        "title": {"tag": "plain_text", "content": "[no majority] T"},
                        "template": "red",
                    },
                    "elements": [{
                        "tag": "markdown",
                        "content": "alarm\nM\n<at id=ou_1></at>\n<at id=all></at>",
                    }],
                },
            })
        );
        assert_eq!(requests[1].json()["card"]["header"]["template"], "green");
    }

    #[tokio::test]
    async fn texts_and_posts() {
        let peer = Peer::saying(said(200, OK)).await;
        for kind in ["text", "post"] {
            let more =
                format!(", message_type: {kind}, title: T, message: M, at: {{user_ids: [ou_1]}}");
            let outcome =
                deliverer(&keys(&peer, &more)).deliver(&notification("feishu"), NOW_NS).await;
            assert_eq!(outcome, delivered());
        }
        let requests = peer.requests();
        assert_eq!(
            requests[0].json(),
            json!({"msg_type": "text", "content": {"text": "M\n<at user_id=\"ou_1\"></at>"}})
        );
        assert_eq!(
            requests[1].json()["content"]["post"]["zh_cn"],
            json!({"title": "T", "content": [
                [{"tag": "text", "text": "M"}],
                [{"tag": "at", "user_id": "ou_1"}],
            ]})
        );
    }

    #[tokio::test]
    async fn a_long_message_is_cut() {
        let peer = Peer::saying(said(200, OK)).await;
        let more = ", message: '{{ printf \"%030000d\" 7 }}'";
        let outcome = deliverer(&keys(&peer, more)).deliver(&notification("feishu"), NOW_NS).await;
        assert_eq!(outcome, delivered());
        assert!(peer.request().body.len() <= MAX_BYTES);
    }

    #[tokio::test]
    async fn errors_have_codes() {
        let peer = Peer::start(|_, before| match before {
            0 => said(200, r#"{"code":19024,"msg":"Key Words Not Found hook-1234"}"#),
            1 => said(400, r#"{"code":11232,"msg":"frequency limited"}"#),
            2 => said(502, "bad gateway"),
            _ => said(200, r#"{"StatusCode":0}"#),
        })
        .await;
        let deliverer = deliverer(&keys(&peer, ""));
        let message = failed(deliverer.deliver(&notification("feishu"), NOW_NS).await);
        assert_eq!(message, "ops/feishu[0]: Feishu answers 19024: Key Words Not Found <secret>");
        let message = retried(deliverer.deliver(&notification("feishu"), NOW_NS).await);
        assert!(message.contains("11232"), "{message}");
        let message = retried(deliverer.deliver(&notification("feishu"), NOW_NS).await);
        assert!(message.contains("502: bad gateway"), "{message}");
        assert_eq!(deliverer.deliver(&notification("feishu"), NOW_NS).await, delivered());
    }

    #[tokio::test]
    async fn the_sixth_message_of_a_second_waits() {
        let peer = Peer::saying(said(200, OK)).await;
        let deliverer = deliverer(&keys(&peer, ""));
        for _ in 0..5 {
            assert_eq!(deliverer.deliver(&notification("feishu"), NOW_NS).await, delivered());
        }
        let outcome = deliverer.deliver(&notification("feishu"), NOW_NS).await;
        let Outcome::Retry { after_ns, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(after_ns, Some(1_000_000_000));
        assert_eq!(peer.requests().len(), 5);
    }
}
