//! Amazon's Simple Notification Service. Source: Alertmanager, `notify/sns/sns.go`; Amazon's
//! manual of the API, version 2010-03-31.

mod credentials;
mod signature;

use async_trait::async_trait;
use form_urlencoded::Serializer;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use settings::Secret;
use settings::alertmanager::receivers::{Sns as Settings, SnsTarget};

use crate::courier::{Answer, Courier, excerpt};
use crate::message::{Channel, Failure, Kept, Message};
use credentials::{Credentials, Own, Session, Source};
use signature::{AMZ_DATE, AMZ_TOKEN, Signed, sign};

/// Largest message, and the largest to phones.
const MAX_MESSAGE_BYTES: usize = 256 << 10;
const MAX_SMS_BYTES: usize = 1_600;

/// Longest subject; Amazon refuses longer ones, and line breaks.
const MAX_SUBJECT_CHARS: usize = 100;

/// A topic, a phone or an application.
pub(crate) struct Sns {
    courier: Courier,
    source: Source,
    settings: Settings,
}

impl Sns {
    pub(crate) fn new(settings: &Settings, courier: Courier) -> Self {
        Sns { courier, source: Source::new(settings), settings: settings.clone() }
    }

    fn fields(&self, message: &Message<'_>) -> Result<Vec<(String, String)>, Failure> {
        let settings = &self.settings;
        let text = |template: &String| message.text(template);
        let mut fields = vec![
            ("Action".to_owned(), "Publish".to_owned()),
            ("Version".to_owned(), "2010-03-31".to_owned()),
        ];
        let mut most = MAX_MESSAGE_BYTES;
        match &settings.target {
            SnsTarget::Topic(template) => {
                let topic = text(template)?;
                // Topics that keep the order ask what is the same.
                if topic.ends_with(".fifo") {
                    for name in ["MessageDeduplicationId", "MessageGroupId"] {
                        fields.push((name.to_owned(), message.key_hash()));
                    }
                }
                fields.push(("TopicArn".to_owned(), topic));
            }
            SnsTarget::Target(template) => fields.push(("TargetArn".to_owned(), text(template)?)),
            SnsTarget::Phone(template) => {
                most = MAX_SMS_BYTES;
                fields.push(("PhoneNumber".to_owned(), text(template)?));
            }
        }
        let mut told = text(&settings.message)?;
        let has_subject = !settings.subject.is_empty();
        if has_subject {
            let subject = message.noted(text(&settings.subject)?).replace(['\r', '\n'], " ");
            let subject = crate::shortened::in_chars(subject, MAX_SUBJECT_CHARS);
            fields.push(("Subject".to_owned(), subject));
        }
        if !has_subject || matches!(settings.target, SnsTarget::Phone(_)) {
            told = message.noted(told);
        }
        let mut attributes = Vec::with_capacity(settings.attributes.len() + 1);
        for (name, value) in &settings.attributes {
            attributes.push((text(name)?, text(value)?));
        }
        if told.len() > most {
            told.truncate(told.floor_char_boundary(most));
            attributes.push(("truncated".to_owned(), "true".to_owned()));
        }
        fields.push(("Message".to_owned(), told));
        for (n, (name, value)) in attributes.into_iter().enumerate() {
            let entry = format!("MessageAttributes.entry.{}", n + 1);
            fields.push((format!("{entry}.Name"), name));
            fields.push((format!("{entry}.Value.DataType"), "String".to_owned()));
            fields.push((format!("{entry}.Value.StringValue"), value));
        }
        Ok(fields)
    }

    /// Sends a request to one of Amazon's services, signed if there are credentials.
    async fn call(
        &self,
        message: &Message<'_>,
        place: Place<'_>,
        credentials: Option<&Credentials>,
        fields: &[(String, String)],
    ) -> Result<Answer, Failure> {
        const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
        let body = Serializer::new(String::new()).extend_pairs(fields).finish();
        let Place { service, region, url } = place;
        let signed = credentials
            .map(|known| (known, sign(known, service, region, url, FORM, &body, message.now_ns)));
        let mut headers = vec![(CONTENT_TYPE, FORM)];
        if let Some((known, Signed { authorization, date })) = &signed {
            message.conceal(authorization);
            headers.extend([(AMZ_DATE, date.as_str()), (AUTHORIZATION, authorization)]);
            headers.extend(known.token.iter().map(|token| (AMZ_TOKEN, token.reveal())));
        }
        let answer =
            self.courier.exchange(message, Method::POST, url, &headers, body.into()).await?;
        if answer.status / 100 == 2 {
            return Ok(answer);
        }
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let details = match (element(&text, "Code"), element(&text, "Message")) {
            (Some(code), Some(told)) => excerpt(message, &format!("{code}: {told}")),
            _ => answer.excerpt(message),
        };
        // Amazon tells with 400 as well that it was asked too often.
        let retried = if details.starts_with("Throttl") { answer.status } else { 0 };
        Err(answer.failure(message, &[retried], &details))
    }

    async fn credentials(
        &self,
        message: &Message<'_>,
        region: &str,
    ) -> Result<Credentials, Failure> {
        let own = match self.source.own().map_err(Failure::retry)? {
            Own::Keys(keys) => keys,
            Own::WebIdentity { role_arn, token } => {
                message.conceal(token.reveal());
                let fields = [
                    ("Action", "AssumeRoleWithWebIdentity"),
                    ("RoleArn", role_arn.as_str()),
                    ("WebIdentityToken", token.reveal()),
                ];
                self.session(message, region, Session::WebIdentity, None, &fields).await?
            }
        };
        message.conceal(own.secret_key.reveal());
        if let Some(token) = &own.token {
            message.conceal(token.reveal());
        }
        let Settings { role_arn, external_id, .. } = &self.settings;
        if role_arn.is_empty() {
            return Ok(own);
        }
        let mut fields = vec![("Action", "AssumeRole"), ("RoleArn", role_arn)];
        if !external_id.is_empty() {
            fields.push(("ExternalId", external_id));
        }
        self.session(message, region, Session::Role, Some(&own), &fields).await
    }

    /// Credentials of a session, fetched if there are none that are still good.
    async fn session(
        &self,
        message: &Message<'_>,
        region: &str,
        session: Session,
        own: Option<&Credentials>,
        fields: &[(&str, &str)],
    ) -> Result<Credentials, Failure> {
        let taking = |failure: Failure| failure.while_doing("take the role");
        if let Some(known) = self.source.session(session, message.now_ns) {
            message.conceal(known.secret_key.reveal());
            known.token.iter().for_each(|token| message.conceal(token.reveal()));
            return Ok(known);
        }
        let always = [("Version", "2011-06-15"), ("RoleSessionName", "watchfire")];
        let fields = always.iter().chain(fields);
        let fields: Vec<(String, String)> =
            fields.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let url = self.source.sts_url(region);
        let place = Place { service: "sts", region, url: &url };
        let answer = self.call(message, place, own, &fields).await.map_err(taking)?;
        let text = String::from_utf8_lossy(&answer.body);
        let part = |name| element(&text, name);
        let (Some(access_key), Some(secret_key), Some(token)) =
            (part("AccessKeyId"), part("SecretAccessKey"), part("SessionToken"))
        else {
            return Err(taking(Failure::retry("the answer holds no credentials")));
        };
        message.conceal(&secret_key);
        message.conceal(&token);
        let (secret_key, token) = (Secret::new(secret_key), Some(Secret::new(token)));
        let fetched = Credentials { access_key, secret_key, token };
        self.source.keep(session, &fetched, message.now_ns);
        Ok(fetched)
    }
}

/// Where a request goes.
#[derive(Clone, Copy)]
struct Place<'p> {
    service: &'p str,
    region: &'p str,
    url: &'p str,
}

#[async_trait]
impl Channel for Sns {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let fields = self.fields(message)?;
        let region = self.source.region().map_err(Failure::fatal)?;
        let url = message.text(&self.settings.api_url)?;
        let url = match url.trim_end_matches('/') {
            "" => format!("https://sns.{region}.{}/", amazon_domain(&region)),
            url => format!("{url}/"),
        };
        let credentials = self.credentials(message, &region).await?;
        let place = Place { service: "sns", region: &region, url: &url };
        self.call(message, place, Some(&credentials), &fields).await?;
        Ok(None)
    }
}

/// Where the services of a region are.
fn amazon_domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// The text of the first element of a name, in the XML that Amazon answers.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    Some(text.replace("&apos;", "'").replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use settings::alertmanager::IntegrationSettings;

    use super::*;
    use crate::test_peer::{
        KEY_HASH, NOW_NS, Peer, Seen, config, courier, delivered, deliverer, failed, notification,
        retried, send,
    };

    fn keys(peer: &Peer, more: &str) -> String {
        format!(
            "sns_configs: [{{api_url: '{}', sigv4: {{region: eu-west-1, access_key: AKID, secret_key: \
             secret-12345}}{more}}}]",
            peer.url("")
        )
    }

    const OK: &str = "<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>";

    fn fields(seen: &Seen) -> BTreeMap<String, String> {
        Seen::pairs(seen.text()).into_iter().collect()
    }

    #[tokio::test]
    async fn a_signed_message_to_a_topic() {
        let peer = Peer::saying((200, "text/xml", OK.to_owned())).await;
        let more = ", topic_arn: 'arn:aws:sns:eu-west-1:1:t.fifo', message: M, attributes: {a: '{{ .Status \
                    }}'}";
        let deliverer = deliverer(&keys(&peer, more));
        let note = Some("[no majority]");
        let outcome = deliverer.deliver_noted(&notification("sns"), NOW_NS, note).await;
        assert_eq!(outcome, delivered());
        let request = peer.request();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/"));
        assert_eq!(request.header("x-amz-date"), "20231114T221320Z");
        let authorization = request.header("authorization");
        assert!(
            authorization.starts_with(
                "AWS4-HMAC-SHA256 Credential=AKID/20231114/eu-west-1/sns/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date, Signature="
            ),
            "{authorization}"
        );
        let wanted = [
            ("Action", "Publish"),
            ("Message", "M"),
            ("MessageAttributes.entry.1.Name", "a"),
            ("MessageAttributes.entry.1.Value.DataType", "String"),
            ("MessageAttributes.entry.1.Value.StringValue", "firing"),
            ("MessageDeduplicationId", KEY_HASH),
            ("MessageGroupId", KEY_HASH),
            ("Subject", "[no majority] [FIRING:1] Down (critical)"),
            ("TopicArn", "arn:aws:sns:eu-west-1:1:t.fifo"),
            ("Version", "2010-03-31"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fields(&request), BTreeMap::from(wanted));
    }

    #[tokio::test]
    async fn phones_take_less() {
        let peer = Peer::saying((200, "text/xml", OK.to_owned())).await;
        let more = ", phone_number: '+49', message: '{{ printf \"%02000d\" 7 }}', subject: ''";
        let outcome = deliverer(&keys(&peer, more)).deliver(&notification("sns"), NOW_NS).await;
        assert_eq!(outcome, delivered());
        let fields = fields(&peer.request());
        assert_eq!(fields["Message"].len(), MAX_SMS_BYTES);
        assert_eq!(fields["MessageAttributes.entry.1.Name"], "truncated");
        assert_eq!(fields.get("Subject"), None);
    }

    #[tokio::test]
    async fn refusals() {
        let peer = Peer::start(|_, before| {
            let error = |code: &str, text: &str| {
                format!(
                    "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{text}\
                     </Message></Error></ErrorResponse>"
                )
            };
            match before {
                0 => (403, "text/xml", error("SignatureDoesNotMatch", "&lt;secret-12345&gt;")),
                1 => (400, "text/xml", error("Throttling", "Rate exceeded")),
                _ => (500, "text/xml", String::new()),
            }
        })
        .await;
        let deliverer = deliverer(&keys(&peer, ", target_arn: arn"));
        let message = failed(deliverer.deliver(&notification("sns"), NOW_NS).await);
        assert!(message.ends_with("403: SignatureDoesNotMatch: <<secret>>"), "{message}");
        retried(deliverer.deliver(&notification("sns"), NOW_NS).await);
        retried(deliverer.deliver(&notification("sns"), NOW_NS).await);
    }

    #[tokio::test]
    async fn a_role_is_taken_once() {
        let session = |key: &str| {
            format!(
                "<C><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>role-secret</SecretAccessKey>\
                 <SessionToken>session-1234</SessionToken></C>"
            )
        };
        let peer = Peer::start(move |seen, before| match seen.text().contains("AssumeRole") {
            true => (200, "text/xml", session("ASIA")),
            false if before > 2 => (400, "text/plain", "bad session-1234 role-secret".to_owned()),
            false => (200, "text/xml", OK.to_owned()),
        })
        .await;
        let config = config(&keys(&peer, ", topic_arn: t"));
        let IntegrationSettings::Sns(settings) = &config.receivers[0].integrations[0].settings
        else {
            panic!("sns")
        };
        let mut settings = settings.clone();
        settings.role_arn = "arn:role".to_owned();
        settings.external_id = "ext".to_owned();
        let sns = Sns {
            source: Source::new(&settings).with_sts(peer.url("")),
            courier: courier(),
            settings: *settings,
        };
        assert_eq!(send(&sns, &notification("sns")).await, delivered());
        assert_eq!(send(&sns, &notification("sns")).await, delivered());
        let requests = peer.requests();
        assert_eq!(requests.len(), 3);
        let asked = fields(&requests[0]);
        assert_eq!((asked["RoleArn"].as_str(), asked["ExternalId"].as_str()), ("arn:role", "ext"));
        assert!(requests[0].header("authorization").contains("/eu-west-1/sts/aws4_request"));
        let authorization = requests[1].header("authorization");
        assert!(authorization.contains("Credential=ASIA/"), "{authorization}");
        assert!(authorization.contains("host;x-amz-date;x-amz-security-token"), "{authorization}");
        assert_eq!(requests[1].header("x-amz-security-token"), "session-1234");
        let message = failed(send(&sns, &notification("sns")).await);
        assert!(message.ends_with("400: bad <secret> <secret>"), "{message}");
    }

    #[test]
    fn elements_are_found() {
        assert_eq!(element("<a><b>x &amp;lt; y</b></a>", "b").as_deref(), Some("x &lt; y"));
        assert_eq!(element("<b>", "b"), None);
    }
}
