//! What goes over the wire, against a server that says what it is told to say.

use std::sync::Arc;
use std::time::Duration;

use objects::{Credentials, Operation, Store, StoreOptions, StoreUrl};
use parking_lot::Mutex;
use settings::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers requests by their number and their head; keeps the heads.
struct Scripted {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    async fn start(answer: impl Fn(usize, &str) -> String + Send + 'static) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        tokio::spawn(async move {
            // One connection and one request at a time: a test asks one thing after the other.
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = Vec::new();
                let head = loop {
                    let mut more = [0; 4_096];
                    match stream.read(&mut more).await {
                        Ok(0) | Err(_) => break None,
                        Ok(len) => bytes.extend_from_slice(&more[..len]),
                    }
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    if let Some((head, body)) = text.split_once("\r\n\r\n") {
                        let header = |line: &str| -> Option<usize> {
                            let (name, value) = line.split_once(": ")?;
                            let is_it = name.eq_ignore_ascii_case("content-length");
                            is_it.then(|| value.parse().ok())?
                        };
                        let wanted = head.lines().find_map(header).unwrap_or(0);
                        if body.len() >= wanted {
                            break Some(head.to_owned());
                        }
                    }
                };
                let Some(head) = head else { continue };
                let number = {
                    let mut kept = kept.lock();
                    kept.push(head.clone());
                    kept.len() - 1
                };
                let answer = answer(number, &head);
                // A test may have hung up.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Scripted { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().clone()
    }
}

fn answer(status: &str, body: &str) -> String {
    let len = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}")
}

/// What a read of an object is answered with.
fn object(body: &str) -> String {
    let date = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: \"e\"";
    answer(&format!("200 OK\r\n{date}"), body)
}

fn known() -> Credentials {
    Credentials::none()
        .with("AWS_ACCESS_KEY_ID", Secret::new("AKID"))
        .with("AWS_SECRET_ACCESS_KEY", Secret::new("secret-canary"))
}

async fn open(url: &str, credentials: Credentials) -> Store {
    let deadline = Duration::from_secs(5);
    let options = StoreOptions {
        credentials,
        write_deadline: deadline,
        read_deadline: deadline,
        ..StoreOptions::truth()
    };
    let url = StoreUrl::parse(url).expect("a URL");
    Store::open(&url, options).await.expect("it can be opened")
}

#[tokio::test]
async fn requests_are_signed_and_go_where_the_url_says() {
    let server = Scripted::start(|_, _| answer("200 OK\r\nETag: \"e\"", "")).await;
    let url = format!("s3://bucket/a/b?region=eu-north-7&endpoint=http://{}", server.address);
    open(&url, known()).await.put("seg/1", "bytes".into()).await.expect("it is taken");
    let heads = server.heads();
    assert!(heads[0].starts_with("PUT /bucket/a/b/seg/1 HTTP/1.1\r\n"), "{heads:?}");
    let head = heads[0].to_ascii_lowercase();
    assert!(head.contains("credential=akid/") && head.contains("/eu-north-7/s3/"), "{head}");
    assert!(!head.contains("canary") && !head.contains("if-none-match"), "{head}");
}

#[tokio::test]
async fn an_object_that_breaks_off_is_read_again() {
    let server = Scripted::start(|number, _| {
        let whole = object("0123456789");
        if number == 0 { whole[..whole.len() - 5].to_owned() } else { whole }
    })
    .await;
    let store = open(&format!("s3://bucket?endpoint=http://{}", server.address), known()).await;
    assert_eq!(store.get("k").await.expect("the second is whole"), "0123456789");
    assert_eq!(store.counters().retries(Operation::Get), 1);
}

#[tokio::test]
async fn a_busy_store_is_asked_again_and_one_that_refuses_is_not() {
    let slow = "<Error><Code>SlowDown</Code><Message>slower</Message></Error>";
    let server = Scripted::start(move |number, _| match number {
        0 | 1 => answer("503 Slow Down", slow),
        _ => answer("200 OK\r\nETag: \"e\"", ""),
    })
    .await;
    let store = open(&format!("s3://bucket?endpoint=http://{}", server.address), known()).await;
    store.put("k", "v".into()).await.expect("the third is taken");
    assert_eq!(store.counters().retries(Operation::Put), 2);
    let ended = "<Error><Code>ExpiredToken</Code><Message>it ended</Message></Error>";
    let server = Scripted::start(move |_, _| answer("400 Bad Request", ended)).await;
    let store = open(&format!("s3://bucket?endpoint=http://{}", server.address), known()).await;
    let error = store.put("k", "v".into()).await.expect_err("it is refused");
    assert_eq!(error.kind(), "credentials", "{error}");
    assert!(error.to_string().contains("ExpiredToken: it ended"), "{error}");
    assert_eq!(server.heads().len(), 1);
}

/// Credentials of the machine, as EC2 hands them out.
#[tokio::test]
async fn credentials_come_from_the_metadata_service_if_there_are_no_others() {
    let machine = Scripted::start(|_, head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        match path.trim_end_matches('/') {
            "/latest/api/token" => answer("200 OK", "a-token"),
            "/latest/meta-data/iam/security-credentials" => answer("200 OK", "the-role"),
            _ => answer(
                "200 OK",
                r#"{"AccessKeyId":"AKROLE","SecretAccessKey":"s","Token":"session","Expiration":"2099-01-01T00:00:00Z"}"#,
            ),
        }
    })
    .await;
    let server = Scripted::start(|_, _| answer("200 OK\r\nETag: \"e\"", "")).await;
    let endpoint = Secret::new(format!("http://{}", machine.address));
    let credentials = Credentials::none().with("AWS_METADATA_ENDPOINT", endpoint);
    let store = open(&format!("s3://bucket?endpoint=http://{}", server.address), credentials).await;
    store.put("k", "v".into()).await.expect("it is taken");
    let asked = machine.heads();
    assert!(asked[0].starts_with("PUT /latest/api/token"), "{asked:?}");
    assert!(asked[2].contains("/security-credentials/the-role"), "{asked:?}");
    let head = server.heads()[0].to_ascii_lowercase();
    assert!(head.contains("credential=akrole/"), "{head}");
    assert!(head.contains("x-amz-security-token: session"), "{head}");
}

#[tokio::test]
async fn no_url_leads_to_a_metadata_service() {
    for host in
        ["169.254.169.254", "[fd00:ec2::254]", "Metadata.Google.Internal", "100.100.100.200"]
    {
        for url in [
            "s3://b?endpoint=http://",
            "gs://b?endpoint=http://",
            "az://c?account=a&endpoint=http://",
        ] {
            let url = StoreUrl::parse(&format!("{url}{host}")).expect("a URL");
            let options = StoreOptions { credentials: known(), ..StoreOptions::truth() };
            let error = Store::open(&url, options).await.expect_err(host).to_string();
            assert!(error.contains("metadata service"), "{error}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_is_no_store_is_told() {
    let server = Scripted::start(|_, _| answer("404 Not Found", "<html>nothing here</html>")).await;
    let store = open(&format!("s3://bucket?endpoint=http://{}", server.address), known()).await;
    let error = store.put("k", "v".into()).await.expect_err("it is no store");
    assert_eq!(error.kind(), "place", "{error}");
    assert!(error.to_string().contains("endpoint="), "{error}");
}

/// Google's service, as its emulators are spoken to.
#[tokio::test]
async fn google_is_spoken_to() {
    let server = Scripted::start(|_, head| match head.starts_with("PUT") {
        true => answer("200 OK\r\nETag: \"e\"\r\nx-goog-generation: 1", ""),
        false => object("0123456789"),
    })
    .await;
    let key = r#"{"private_key":"k","private_key_id":"i","client_email":"e","disable_oauth":true}"#;
    let credentials = Credentials::none().with("GOOGLE_SERVICE_ACCOUNT_KEY", Secret::new(key));
    let url = format!("gs://bucket/p?endpoint=http://{}", server.address);
    let store = open(&url, credentials).await;
    store.put("k", "0123456789".into()).await.expect("it is taken");
    assert_eq!(store.get("k").await.expect("it is there"), "0123456789");
    let heads = server.heads();
    assert!(heads[0].starts_with("PUT /bucket/p%2Fk"), "{heads:?}");
}
