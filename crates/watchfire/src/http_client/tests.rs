use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use settings::Secret;

use super::*;

/// A server that answers every request with its own head and body, at most `per_connection`
/// requests on each connection. Yields its address and the number of connections so far.
fn echo(per_connection: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut reader = BufReader::new(stream.expect("accept"));
            for _ in 0..per_connection {
                let Some(request) = read_request(&mut reader) else { break };
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.len());
                let stream = reader.get_mut();
                stream.write_all(head.as_bytes()).expect("answer");
                stream.write_all(request.as_bytes()).expect("answer");
            }
        }
    });
    (address, connections)
}

fn read_request(reader: &mut impl BufRead) -> Option<String> {
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if reader.read_line(&mut request).ok()? == 0 {
            return None;
        }
    }
    let length = request
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(request + &String::from_utf8_lossy(&body))
}

fn client(url: &str, credentials: &Credentials) -> HttpClient {
    HttpClient::new(url, credentials).expect("a client")
}

#[test]
fn requests_carry_what_they_should_and_share_a_connection() {
    let (address, connections) = echo(usize::MAX);
    let bearer = Credentials::Bearer(Secret::new("wf_1"));
    let mut client = client(&format!("http://{address}/prefix/"), &bearer);
    let get = client.get("/a?b=c").expect("answer");
    let said = get.text();
    assert!(said.starts_with("GET /prefix/a?b=c HTTP/1.1\r\n"), "{said}");
    assert!(said.contains(&format!("host: {address}\r\n")), "{said}");
    assert!(said.contains("authorization: Bearer wf_1\r\n"), "{said}");
    let form = [("query", "up{a=\"é\"}".to_owned()), ("time", "1".to_owned())];
    let post = client.post_form("/q", &form).expect("answer");
    assert!(post.text().ends_with("\r\n\r\nquery=up%7Ba%3D%22%C3%A9%22%7D&time=1"));
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_connection_closed_by_the_server_is_replaced() {
    let (address, connections) = echo(1);
    let mut client = client(&format!("http://{address}"), &Credentials::None);
    for _ in 0..3 {
        assert!(client.get("/").expect("answer").status.is_success());
        // The close must have come in before the next request, also on a busy machine.
        std::thread::sleep(Duration::from_millis(400));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[test]
fn urls_that_cannot_be_asked_are_refused_with_the_remedy() {
    let error = |url: &str| match HttpClient::new(url, &Credentials::None) {
        Ok(_) => panic!("{url} was taken"),
        Err(error) => format!("{error:#}"),
    };
    assert!(error("ftp://h").contains("https://HOST:PORT"));
    assert!(error("h:1").contains("http://HOST:PORT"));
    let with_password = error("http://me:secret@h");
    assert!(with_password.contains("--user") && !with_password.contains("secret"));
    assert!(error("http://h/?a=b").contains("query"));
}

#[test]
fn secrets_are_not_printed() {
    let bearer = Credentials::Bearer(Secret::new("canary"));
    let basic = Credentials::Basic { user: "me".to_owned(), password: Secret::new("canary") };
    for credentials in [&bearer, &basic] {
        let header = credentials.header().expect("a header").expect("some");
        assert!(!format!("{credentials:?} {header:?}").contains("canary"));
    }
    let split = Credentials::Bearer(Secret::new("a\nb")).header().expect_err("no header");
    assert!(split.to_string().contains("right file"), "{split}");
    assert_eq!(
        basic.header().ok().flatten().expect("a header"),
        "Basic bWU6Y2FuYXJ5" // printf me:canary | base64
    );
}

#[test]
fn refusals_say_what_the_server_said() {
    let refusal = |status: StatusCode, body: &str| {
        let answer = Answer {
            status,
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        answer.success().expect_err("a refusal").to_string()
    };
    let said =
        refusal(StatusCode::UNPROCESSABLE_ENTITY, r#"{"status":"error","error":"too many"}"#);
    assert_eq!(said, "answered 422 Unprocessable Entity: too many");
    assert!(refusal(StatusCode::UNAUTHORIZED, "").contains("--token-file"));
    assert_eq!(refusal(StatusCode::BAD_GATEWAY, "nginx\n\n"), "answered 502 Bad Gateway: nginx");
}

/// A TLS server with a certificate of its own authority for `localhost`. Yields its port and the
/// authority's certificate in PEM.
fn tls_server() -> (u16, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let authority_key = KeyPair::generate().expect("key");
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).expect("certificate").pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("key");
    let names = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let certificate = names.signed_by(&key, &issuer).expect("certificate");
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("certificate and key belong together");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).expect("session");
            let tls = rustls::StreamOwned::new(session, stream.expect("accept"));
            let mut reader = BufReader::new(tls);
            while let Some(request) = read_request(&mut reader) {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.len());
                let stream = reader.get_mut();
                stream.write_all((head + &request).as_bytes()).expect("answer");
            }
        }
    });
    (port, authority_pem)
}

#[test]
fn a_server_is_believed_only_with_its_authority() {
    let (port, authority) = tls_server();
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, &authority).expect("write");
    let ask = |url: String, trust: Trust| {
        client(&url, &Credentials::None).with_trust(trust).get("/x").map(|a| a.text().into_owned())
    };
    let localhost = format!("https://localhost:{port}");
    let answer = ask(localhost.clone(), Trust::Only(file.clone())).expect("trusted");
    assert!(answer.starts_with("GET /x HTTP/1.1"), "{answer}");
    let stranger = ask(localhost.clone(), Trust::System).expect_err("not trusted");
    assert!(format!("{stranger:#}").contains("--ca-file"), "{stranger:#}");
    let other_name = ask(format!("https://127.0.0.1:{port}"), Trust::Only(file.clone()));
    assert!(format!("{:#}", other_name.expect_err("another name")).contains("127.0.0.1"));
    let plain = ask(format!("http://localhost:{port}"), Trust::System).expect_err("no TLS");
    assert!(format!("{plain:#}").contains("https://"), "{plain:#}");
    std::fs::write(&file, "no PEM").expect("write");
    let empty = ask(localhost, Trust::Only(file)).expect_err("no certificate");
    assert!(format!("{empty:#}").contains("holds no certificate"), "{empty:#}");
}
