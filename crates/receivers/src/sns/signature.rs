//! Amazon's signature, version 4, of requests without a query whose body is all there is.

use http::HeaderName;
use model::go_time::GoTime;
use sha2::{Digest, Sha256};

use super::credentials::Credentials;
use crate::mac::hmac_sha256;
use crate::message::hex;

/// When the request was signed.
pub(super) const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");

/// The session of credentials that end.
pub(super) const AMZ_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Headers that a signature adds.
pub(super) struct Signed {
    pub(super) authorization: String,
    pub(super) date: String,
}

/// Signs a POST of a form to `url`.
pub(super) fn sign(
    credentials: &Credentials,
    service: &str,
    region: &str,
    url: &str,
    content_type: &str,
    body: &str,
    now_ns: i64,
) -> Signed {
    let mut date = String::new();
    GoTime::from_unix_ns(now_ns).format_into(&mut date, "20060102T150405Z");
    let day = &date[..date.len().min(8)];
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host).to_ascii_lowercase();
    // Clients do not name the port that goes without saying.
    let usual = if url.starts_with("https:") { ":443" } else { ":80" };
    let host = host.strip_suffix(usual).unwrap_or(&host);
    let path = if path.is_empty() { "/" } else { path };
    let mut headers = format!("content-type:{content_type}\nhost:{host}\nx-amz-date:{date}\n");
    let mut names = "content-type;host;x-amz-date".to_owned();
    if let Some(token) = &credentials.token {
        headers.push_str(&format!("x-amz-security-token:{}\n", token.reveal()));
        names.push_str(";x-amz-security-token");
    }
    let payload = hex(&Sha256::digest(body.as_bytes()));
    let request = format!("POST\n{path}\n\n{headers}\n{names}\n{payload}");
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let hashed = hex(&Sha256::digest(request.as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}");
    let secret = format!("AWS4{}", credentials.secret_key.reveal());
    let mut key = hmac_sha256(secret.as_bytes(), day.as_bytes());
    for part in [region, service, "aws4_request"] {
        key = hmac_sha256(&key, part.as_bytes());
    }
    let signature = hex(&hmac_sha256(&key, text.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        credentials.access_key
    );
    Signed { authorization, date }
}

#[cfg(test)]
mod tests {
    use settings::Secret;

    use super::*;

    #[test]
    fn the_example_of_amazon_holds() {
        // `post-x-www-form-urlencoded` of Amazon's test suite.
        let credentials = Credentials {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            token: None,
        };
        let now_ns = 1_440_938_160_000_000_000;
        let signed = sign(
            &credentials,
            "service",
            "us-east-1",
            "https://example.amazonaws.com/",
            "application/x-www-form-urlencoded",
            "Param1=value1",
            now_ns,
        );
        assert_eq!(signed.date, "20150830T123600Z");
        assert_eq!(
            signed.authorization,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
    }
}
