//! WeChat Work (企业微信) applications. Source: Alertmanager, `notify/wechat/wechat.go`; the manual
//! of WeChat Work.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use net::client::SecretText;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use settings::Secret;
use settings::alertmanager::receivers::{WeChat as Settings, WeChatMessage};

use crate::courier::{Courier, excerpt, with_path, with_query};
use crate::filled::filled;
use crate::message::{Channel, Failure, Kept, Message, secret_text};
use crate::shortened;

/// Longest text in bytes, for both kinds of messages.
const MAX_TEXT_BYTES: usize = 2_048;

/// A token is good for two hours; a little before, another one is fetched.
const TOKEN_LIFE: Duration = Duration::from_secs(7_200 - 300);

/// The token is none, or is none any more.
const NO_TOKEN: [i64; 2] = [40_014, 42_001];

/// Busy; too many requests of an application, of all, to one member.
const LATER: [i64; 4] = [-1, 45_009, 45_033, 45_047];

/// An application of WeChat Work.
pub(crate) struct WeChat {
    courier: Courier,
    secret: Option<SecretText>,
    settings: Settings,
    token: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    token: Secret,
    /// What it was fetched with; a new secret ends it.
    secret: Secret,
    good_until: Instant,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    errcode: i64,
    #[serde(default)]
    errmsg: String,
    #[serde(default)]
    access_token: String,
}

impl WeChat {
    pub(crate) fn new(settings: &Settings, courier: Courier) -> Self {
        let secret = secret_text(&settings.api_secret);
        WeChat { courier, secret, settings: settings.clone(), token: Mutex::default() }
    }

    fn api_url(&self) -> Result<&str, Failure> {
        let url = self.settings.api_url.as_ref().map(|url| url.reveal());
        url.ok_or_else(|| Failure::fatal("there is no api_url; add api_url"))
    }

    async fn token(&self, message: &Message<'_>) -> Result<String, Failure> {
        let Some(secret) = &self.secret else {
            return Err(Failure::fatal("there is no api_secret; add api_secret_file"));
        };
        let secret = message.secret(secret).await?;
        let secret = message.text(&secret)?;
        message.conceal(&secret);
        let known = self.token.lock().clone();
        let known = known
            .filter(|token| token.secret.reveal() == secret && Instant::now() < token.good_until);
        if let Some(token) = known {
            message.conceal(token.token.reveal());
            return Ok(token.token.reveal().to_owned());
        }
        let corp_id = message.text(&self.settings.corp_id)?;
        let url = with_path(self.api_url()?, "gettoken");
        let url = with_query(&url, &[("corpid", &corp_id), ("corpsecret", &secret)]);
        let asked = Instant::now();
        let answer = self.courier.exchange(message, Method::GET, &url, &[], Bytes::new()).await?;
        answer.check(message, &[])?;
        let told: Answer = answer.json(message)?;
        if told.access_token.is_empty() {
            let failure = refusal(message, &told).while_doing("there is no token");
            return Err(Failure {
                message: format!("{}; check corp_id and api_secret", failure.message),
                ..failure
            });
        }
        message.conceal(&told.access_token);
        *self.token.lock() = Some(Token {
            token: Secret::new(told.access_token.clone()),
            secret: Secret::new(secret),
            good_until: asked + TOKEN_LIFE,
        });
        Ok(told.access_token)
    }

    fn body(&self, message: &Message<'_>) -> Result<Value, Failure> {
        let settings = &self.settings;
        let text = message.noted(message.text(&settings.message)?);
        let content = json!({"content": shortened::in_bytes(text, MAX_TEXT_BYTES)});
        let text = |template: &String| message.text(template).map(Value::from);
        let (kind, name) = match settings.message_type {
            WeChatMessage::Text => ("text", "text"),
            WeChatMessage::Markdown => ("markdown", "markdown"),
        };
        Ok(filled([
            ("touser", text(&settings.to_user)?),
            ("toparty", text(&settings.to_party)?),
            ("totag", text(&settings.to_tag)?),
            ("agentid", text(&settings.agent_id)?),
            ("safe", "0".into()),
            ("msgtype", kind.into()),
            (name, content),
        ]))
    }
}

#[async_trait]
impl Channel for WeChat {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let body = self.body(message)?.to_string();
        // A token may end before its time. Then another one is fetched at once, but only once.
        let mut attempts = 0;
        loop {
            attempts += 1;
            let token = self.token(message).await?;
            let url = with_path(self.api_url()?, "message/send");
            let url = with_query(&url, &[("access_token", &token)]);
            let answer = self.courier.post_json(message, &url, body.clone()).await?;
            if answer.status != 200 {
                let excerpt = answer.excerpt(message);
                return Err(Failure { retry: true, ..answer.failure(message, &[], &excerpt) });
            }
            let told: Answer = answer.json(message)?;
            if told.errcode == 0 {
                return Ok(None);
            }
            if NO_TOKEN.contains(&told.errcode) {
                *self.token.lock() = None;
                if attempts == 1 {
                    continue;
                }
                return Err(Failure { retry: true, ..refusal(message, &told) });
            }
            return Err(refusal(message, &told));
        }
    }
}

fn refusal(message: &Message<'_>, told: &Answer) -> Failure {
    let errmsg = excerpt(message, &told.errmsg);
    let text = format!("WeChat answers {}: {errmsg}", told.errcode);
    if LATER.contains(&told.errcode) { Failure::retry(text) } else { Failure::fatal(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_peer::{
        NOW_NS, Peer, delivered, deliverer, failed, json as said, notification, retried,
    };

    fn keys(peer: &Peer, more: &str) -> String {
        format!(
            "wechat_configs: [{{api_url: '{}', corp_id: corp, api_secret: secret-1234, agent_id: '7', \
             to_user: '@all'{more}}}]",
            peer.url("/cgi-bin")
        )
    }

    const TOKEN: &str = r#"{"errcode":0,"errmsg":"ok","access_token":"token-1","expires_in":7200}"#;

    #[tokio::test]
    async fn a_token_serves_many_messages() {
        let peer = Peer::start(|seen, _| match seen.path.contains("gettoken") {
            true => said(200, TOKEN),
            false => said(200, r#"{"errcode":0,"errmsg":"ok"}"#),
        })
        .await;
        let long = deliverer(&keys(&peer, ", message: '{{ printf \"%04000d\" 7 }}'"));
        assert_eq!(long.deliver(&notification("wechat"), NOW_NS).await, delivered());
        assert_eq!(long.deliver(&notification("wechat"), NOW_NS).await, delivered());
        let requests = peer.requests();
        assert_eq!(requests.len(), 3);
        assert_eq!(
            (requests[0].method.as_str(), requests[0].path.as_str()),
            ("GET", "/cgi-bin/gettoken?corpid=corp&corpsecret=secret-1234")
        );
        assert_eq!(requests[1].path, "/cgi-bin/message/send?access_token=token-1");
        let mut body = requests[1].json();
        let text = body["text"]["content"].as_str().map(str::len);
        assert_eq!(text, Some(MAX_TEXT_BYTES));
        body["text"] = Value::Null;
        assert_eq!(
            body,
            json!({"touser": "@all", "agentid": "7", "safe": "0", "msgtype": "text", "text": null})
        );
        let markdown = deliverer(&keys(&peer, ", message_type: markdown, message: M"));
        assert_eq!(markdown.deliver(&notification("wechat"), NOW_NS).await, delivered());
        assert_eq!(peer.requests()[4].json()["markdown"], json!({"content": "M"}));
    }

    #[tokio::test]
    async fn a_token_that_ended_is_fetched_anew() {
        let peer = Peer::start(|seen, before| match seen.path.contains("gettoken") {
            true => said(200, TOKEN),
            false if before < 2 => said(200, r#"{"errcode":42001,"errmsg":"expired"}"#),
            false if before < 4 => said(200, r#"{"errcode":0}"#),
            false => said(200, r#"{"errcode":40014,"errmsg":"invalid token-1"}"#),
        })
        .await;
        let deliverer = deliverer(&keys(&peer, ""));
        assert_eq!(deliverer.deliver(&notification("wechat"), NOW_NS).await, delivered());
        assert_eq!(peer.requests().len(), 4);
        let message = retried(deliverer.deliver(&notification("wechat"), NOW_NS).await);
        assert_eq!(message, "ops/wechat[0]: WeChat answers 40014: invalid <secret>");
        assert_eq!(peer.requests().len(), 7);
    }

    #[tokio::test]
    async fn refusals() {
        let peer = Peer::start(|seen, before| match (seen.path.contains("gettoken"), before) {
            (true, 0) => said(200, r#"{"errcode":40001,"errmsg":"invalid secret-1234"}"#),
            (true, _) => said(200, TOKEN),
            (false, 2) => said(200, r#"{"errcode":81013,"errmsg":"nobody"}"#),
            (false, 3) => said(200, r#"{"errcode":45009,"errmsg":"too many"}"#),
            _ => said(404, "not here"),
        })
        .await;
        let deliverer = deliverer(&keys(&peer, ""));
        let message = failed(deliverer.deliver(&notification("wechat"), NOW_NS).await);
        assert!(message.contains("40001: invalid <secret>; check corp_id"), "{message}");
        let message = failed(deliverer.deliver(&notification("wechat"), NOW_NS).await);
        assert!(message.contains("81013: nobody"), "{message}");
        retried(deliverer.deliver(&notification("wechat"), NOW_NS).await);
        let message = retried(deliverer.deliver(&notification("wechat"), NOW_NS).await);
        assert!(message.contains("404: not here"), "{message}");
    }
}
