//! What a store of a cloud says when it does not do what it was asked.

use std::fmt;

use http::{HeaderMap, StatusCode};

use crate::{Refusal, StoreError};

/// A status above 299 with what the body says, in the words of S3, Azure or Google.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// `NoSuchKey` and the like; empty if there is none.
    pub(crate) code: String,
    message: String,
    /// Where the bucket is, if the store says so.
    region: Option<String>,
}

/// Longest piece of an answer that is shown.
const SHOWN_CHARS: usize = 300;

impl Answer {
    pub(crate) fn new(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Answer {
        let text = String::from_utf8_lossy(body);
        let header = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?;
            (!value.is_empty()).then(|| value.to_owned())
        };
        let code = element(&text, "Code").or_else(|| header("x-ms-error-code"));
        let message = element(&text, "Message").unwrap_or_else(|| match code {
            Some(_) => String::new(),
            None => text.split_whitespace().collect::<Vec<_>>().join(" "),
        });
        Answer {
            status,
            code: code.map(|code| shortened(&code)).unwrap_or_default(),
            message: shortened(&message),
            region: header("x-amz-bucket-region").or_else(|| element(&text, "Region")),
        }
    }

    /// What it means for somebody who tried to `action` the object `key`.
    pub(crate) fn meaning(&self, action: &'static str, key: &str) -> StoreError {
        let key = key.to_owned();
        let why = self.to_string();
        let status = self.status.as_u16();
        let is = |codes: &[&str]| codes.contains(&self.code.as_str());
        let refused =
            |refusal| StoreError::Refused { refusal, action, key: key.clone(), why: why.clone() };
        // Stores that have no code of their own for it use one of these words.
        let says = |word: &str| self.code.contains(word);
        if is(&["NoSuchBucket", "ContainerNotFound", "InvalidBucketName", "AccountNotFound"]) {
            refused(Refusal::Bucket)
        } else if is(&["RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"]) {
            refused(Refusal::Clock)
        } else if says("Token") && status < 500
            || is(&["InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthFailure"])
            || says("AuthenticationFailed")
            || status == 401
        {
            refused(Refusal::Credentials)
        } else if is(&["AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect"])
            || is(&["IllegalLocationConstraintException"])
            || (300..400).contains(&status)
        {
            refused(Refusal::Place)
        } else if status == 507
            || says("QuotaExceeded")
            || says("StorageFull")
            || says("InsufficientStorage")
        {
            refused(Refusal::Full)
        } else if says("ReadOnly") || is(&["AccountIsDisabled", "InvalidBucketState"]) {
            refused(Refusal::ReadOnly)
        } else if matches!(status, 429 | 503)
            || is(&["SlowDown", "ServerBusy", "RequestLimitExceeded"])
        {
            // A proxy may say 503 for a server that it has already asked.
            match self.code.is_empty() {
                true => StoreError::Failed { action, key, why },
                false => StoreError::Busy { action, key, why },
            }
        } else if status == 403 {
            refused(Refusal::Permission)
        } else if status == 416 {
            let why = "it ends before what was asked for begins".to_owned();
            StoreError::Damaged { key, why }
        } else if status == 404 && action != "write" {
            StoreError::NotFound { key }
        } else if matches!(status, 404 | 405) && self.code.is_empty() {
            // Whatever answers there is no store.
            refused(Refusal::Place)
        } else if status >= 500 || status == 408 {
            StoreError::Failed { action, key, why }
        } else {
            refused(Refusal::Other)
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        for part in [&self.code, &self.message] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        match &self.region {
            Some(region) => write!(f, " (the store names the region {region:?})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Answer {}

/// The text of the first element of a name. The answers are small and flat, and what is not
/// understood is only shown.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inside, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inside.trim().to_owned())
}

/// One line that can be shown.
fn shortened(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(SHOWN_CHARS).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(status: u16, body: &str) -> StoreError {
        let status = StatusCode::from_u16(status).expect("a status");
        Answer::new(status, &HeaderMap::new(), body.as_bytes()).meaning("write", "k")
    }

    #[test]
    fn every_answer_names_its_remedy() {
        for (status, code, kind, part) in [
            (403, "AccessDenied", "permission", "allow these credentials"),
            (400, "ExpiredToken", "credentials", "renew the credentials"),
            (403, "InvalidAccessKeyId", "credentials", "renew the credentials"),
            (403, "SignatureDoesNotMatch", "credentials", "renew the credentials"),
            (403, "AuthenticationFailed", "credentials", "renew the credentials"),
            (403, "RequestTimeTooSkewed", "clock", "clock of this machine"),
            (404, "NoSuchBucket", "bucket", "create the bucket"),
            (404, "ContainerNotFound", "bucket", "create the bucket"),
            (301, "PermanentRedirect", "place", "endpoint="),
            (400, "AuthorizationHeaderMalformed", "place", "region="),
            (404, "", "place", "path_style="),
            (507, "XMinioStorageFull", "full", "free space"),
            (403, "QuotaExceeded", "full", "free space"),
            (403, "AccountIsDisabled", "read_only", "take writes again"),
            (503, "SlowDown", "busy", "send it less"),
            (503, "", "failed", "own log"),
            (500, "InternalError", "failed", "own log"),
            (400, "InvalidRequest", "refused", "own log"),
        ] {
            let body = format!("<Error><Code>{code}</Code><Message>said</Message></Error>");
            let error = meaning(status, if code.is_empty() { "" } else { &body });
            assert_eq!(error.kind(), kind, "{status} {code}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn what_a_store_says_is_shown_in_one_short_line() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-bucket-region", "eu-west-1".parse().expect("a value"));
        let long = format!("<Code>A\nB</Code><Message>{}</Message>", "x".repeat(9_999));
        let answer = Answer::new(StatusCode::MOVED_PERMANENTLY, &headers, long.as_bytes());
        let shown = answer.to_string();
        assert!(shown.starts_with("301 Moved Permanently: A B: xxx"), "{shown}");
        assert!(
            shown.contains("eu-west-1") && shown.len() < 500 && !shown.contains('\n'),
            "{shown}"
        );
        let page = Answer::new(StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"<html>\n bad </html>");
        assert_eq!(page.to_string(), "502 Bad Gateway: <html> bad </html>");
    }
}
