//! How requests to Aliyun's Simple Log Service are signed.
//!
//! Source: "Request signatures" of the API reference of SLS, version 0.6.0: HMAC-SHA1 over the method,
//! the MD5 of the body, the content type, the date, the headers `x-log-…` and `x-acs-…` by their names,
//! and the path.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE};
use http::{HeaderMap, HeaderName, HeaderValue};
use md5::{Digest as _, Md5};
use model::go_time::GoTime;
use settings::Secret;
use settings::logs::SlsTarget;
use sha1::Sha1;

const API_VERSION: &str = "0.6.0";
const PROTOBUF: &str = "application/x-protobuf";
/// HTTP's form of a time.
pub(super) const HTTP_DATE: &str = "Mon, 02 Jan 2006 15:04:05 GMT";
/// Where the SDKs of Aliyun look for credentials.
const VARIABLES: [&str; 3] = [
    "ALIBABA_CLOUD_ACCESS_KEY_ID",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
    "ALIBABA_CLOUD_SECURITY_TOKEN",
];

/// Who asks.
pub(super) struct Credentials {
    pub(super) id: String,
    pub(super) secret: Secret,
    /// Of credentials that were lent for some time.
    pub(super) token: Option<String>,
}

impl Credentials {
    /// Those of the configuration, of the files it names, which may change, or of the environment.
    ///
    /// # Errors
    /// What is missing, in words.
    pub(super) fn of(target: &SlsTarget) -> Result<Credentials, String> {
        let of = |value: &Secret, file: &Option<PathBuf>, key: &str, variable: &str| match file {
            Some(path) => read(path),
            None if !value.is_empty() => Ok(value.reveal().to_owned()),
            None => {
                std::env::var(variable).ok().filter(|value| !value.is_empty()).ok_or_else(|| {
                    format!(
                        "there are no credentials; set {key}, {key}_file or the variable {variable}"
                    )
                })
            }
        };
        let [id, secret, token] = VARIABLES;
        let (own, file) = (&target.access_key_id, &target.access_key_id_file);
        let id = of(own, file, "access_key_id", id)?;
        let is_of_environment =
            target.access_key_secret_file.is_none() && target.access_key_secret.is_empty();
        let (own, file) = (&target.access_key_secret, &target.access_key_secret_file);
        let secret = Secret::new(of(own, file, "access_key_secret", secret)?);
        let token = match &target.security_token_file {
            Some(path) => Some(read(path)?),
            // A token belongs to the keys beside it.
            None if is_of_environment => std::env::var(token).ok(),
            None => None,
        };
        Ok(Credentials { id, secret, token: token.filter(|token| !token.is_empty()) })
    }
}

fn read(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// The headers of a `POST` to `path` with a body that was `raw_bytes` long before it was packed by LZ4,
/// at a time since 1970.
///
/// # Errors
/// Credentials that no header can hold.
pub(super) fn signed(
    credentials: &Credentials,
    path: &str,
    body: &[u8],
    raw_bytes: usize,
    now: Duration,
) -> Result<HeaderMap, String> {
    let mut date = String::new();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    GoTime::from_unix(seconds, 0).format_into(&mut date, HTTP_DATE);
    let md5: String = Md5::digest(body).iter().map(|byte| format!("{byte:02X}")).collect();
    let mut signed = vec![
        ("x-log-apiversion", API_VERSION.to_owned()),
        ("x-log-bodyrawsize", raw_bytes.to_string()),
        ("x-log-compresstype", "lz4".to_owned()),
        ("x-log-signaturemethod", "hmac-sha1".to_owned()),
    ];
    if let Some(token) = &credentials.token {
        signed.insert(0, ("x-acs-security-token", token.clone()));
    }
    let mut text = format!("POST\n{md5}\n{PROTOBUF}\n{date}\n");
    for (name, value) in &signed {
        text.push_str(&format!("{name}:{value}\n"));
    }
    text.push_str(path);
    let signature = hmac_sha1(credentials.secret.reveal().as_bytes(), text.as_bytes());
    let authorization = format!("LOG {}:{}", credentials.id, STANDARD.encode(signature));
    signed.push(("content-md5", md5));
    let mut headers = HeaderMap::new();
    for (name, value) in signed {
        headers.insert(HeaderName::from_static(name), value_of(&value)?);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
    headers.insert(DATE, value_of(&date)?);
    headers.insert(AUTHORIZATION, value_of(&authorization)?);
    Ok(headers)
}

fn value_of(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::try_from(text)
        .map_err(|_| "credentials have characters that cannot be sent".into())
}

/// RFC 2104.
fn hmac_sha1(key: &[u8], text: &[u8]) -> [u8; 20] {
    const BLOCK: usize = 64;
    let mut padded = [0_u8; BLOCK];
    if key.len() > BLOCK {
        padded[..20].copy_from_slice(&Sha1::digest(key));
    } else {
        padded[..key.len()].copy_from_slice(key);
    }
    let keyed = |pad: u8| Sha1::new().chain_update(padded.map(|byte| byte ^ pad));
    let inner = keyed(0x36).chain_update(text).finalize();
    keyed(0x5c).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `AuthV1` of Aliyun's SDK for Python (0.9.52) yields for the same request.
    #[test]
    fn signatures_are_those_of_the_sdk() {
        let mut credentials = Credentials {
            id: "LTAItest".to_owned(),
            secret: Secret::new("s3cr3t/key+of=30-characters-00"),
            token: None,
        };
        let now = Duration::from_secs(1_700_000_000);
        let path = "/logstores/app/shards/lb";
        let headers = signed(&credentials, path, b"body", 17, now).expect("text");
        let of = |headers: &HeaderMap, name: &str| {
            headers.get(name).map(|value| value.to_str().expect("text").to_owned())
        };
        assert_eq!(of(&headers, "date").as_deref(), Some("Tue, 14 Nov 2023 22:13:20 GMT"));
        assert_eq!(
            of(&headers, "content-md5").as_deref(),
            Some("841A2D689AD86BD1611447453C22C6FC")
        );
        assert_eq!(
            of(&headers, "authorization").as_deref(),
            Some("LOG LTAItest:UyZkXZ+laq0jOcOn3IEWrsbJztE=")
        );
        credentials.token = Some("CAIS+token/=".to_owned());
        let headers = signed(&credentials, path, b"body", 17, now).expect("text");
        assert_eq!(of(&headers, "x-acs-security-token").as_deref(), Some("CAIS+token/="));
        assert_eq!(
            of(&headers, "authorization").as_deref(),
            Some("LOG LTAItest:OjGEGjFWotCUNSFhXVIflBKAO/A=")
        );
    }

    /// RFC 2202, test cases 1 and 6.
    #[test]
    fn hmac_is_that_of_the_rfc() {
        let hex = |mac: [u8; 20]| mac.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mac = hmac_sha1(&[0x0b; 20], b"Hi There");
        assert_eq!(hex(mac), "b617318655057264e28bc0b6fb378c8ef146be00");
        let mac = hmac_sha1(&[0xaa; 80], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(mac), "aa4ae5e15272d00e95705637ce8a3b55ed402112");
    }

    #[test]
    fn credentials_are_read_when_they_are_needed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("secret");
        let mut target = SlsTarget {
            access_key_id: Secret::new("id"),
            access_key_secret_file: Some(path.clone()),
            ..SlsTarget::default()
        };
        let error = Credentials::of(&target).err().expect("it is not there");
        assert!(error.contains("secret"), "{error}");
        std::fs::write(&path, "one\n").expect("writable");
        assert_eq!(Credentials::of(&target).expect("there").secret.reveal(), "one");
        std::fs::write(&path, "two").expect("writable");
        assert_eq!(Credentials::of(&target).expect("there").secret.reveal(), "two");
        (target.access_key_secret_file, target.access_key_id) = (None, Secret::default());
        let error = Credentials::of(&target).err().expect("there are none");
        assert!(error.contains("ALIBABA_CLOUD_ACCESS_KEY_ID"), "{error}");
    }
}
