//! Mail against a server that speaks SMTP, in the clear and with TLS.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::mac::hmac_md5;
use crate::message::hex;
use crate::test_peer::{KEY_HASH, NOW_NS, delivered, deliverer, failed, notification, retried};

/// What the server offers and refuses.
#[derive(Clone, Default)]
struct Manners {
    extensions: &'static [&'static str],
    implicit_tls: bool,
    /// Answers that differ, by the beginning of the command.
    answers: &'static [(&'static str, &'static str)],
    /// What it says behind `220 go ahead`.
    smuggled: &'static str,
}

struct MailServer {
    port: u16,
    ca: String,
    /// Commands, and the mail as one entry.
    said: Arc<Mutex<Vec<String>>>,
}

impl MailServer {
    async fn start(manners: Manners) -> MailServer {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let ca = params.self_signed(&key).expect("signed").pem();
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth();
        let chain = vec![CertificateDer::from_pem_slice(ca.as_bytes()).expect("PEM")];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("PEM");
        let tls = builder.with_single_cert(chain, key).expect("a certificate");
        let tls = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("bound").port();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let all = Arc::clone(&said);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (manners, tls, all) = (manners.clone(), tls.clone(), Arc::clone(&all));
                tokio::spawn(async move {
                    if manners.implicit_tls {
                        let Ok(stream) = tls.accept(socket).await else { return };
                        speak(stream, &manners, &all, true).await;
                    } else if let Some(socket) = speak(socket, &manners, &all, true).await {
                        let Ok(stream) = tls.accept(socket).await else { return };
                        all.lock().push("TLS".to_owned());
                        speak(stream, &manners, &all, false).await;
                    }
                });
            }
        });
        MailServer { port, ca, said }
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().clone()
    }

    /// The receiver's keys.
    fn keys(&self, more: &str) -> String {
        let ca = self.ca.replace('\n', "\\n");
        format!(
            "email_configs: [{{to: 'c@d.example', from: 'a@b.example', smarthost: \
             'localhost:{}', hello: me, tls_config: {{ca: \"{ca}\"}}{more}}}]",
            self.port
        )
    }
}

/// Speaks until the end; yields the connection when TLS is to begin.
async fn speak<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    manners: &Manners,
    all: &Mutex<Vec<String>>,
    greets: bool,
) -> Option<S> {
    let mut stream = BufReader::new(stream);
    if greets {
        stream.write_all(b"220-welcome\r\n220 mail\r\n").await.ok()?;
    }
    let mut awaited: Vec<&str> = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        all.lock().push(line.clone());
        let different = manners.answers.iter().find(|(command, _)| line.starts_with(command));
        let answer = match line.split(' ').next().unwrap_or_default() {
            _ if different.is_some() => different.map_or("", |(_, answer)| answer).to_owned(),
            _ if !awaited.is_empty() => awaited.remove(0).to_owned(),
            "EHLO" => {
                let lines: String =
                    manners.extensions.iter().map(|line| format!("250-{line}\r\n")).collect();
                format!("250-mail\r\n{lines}250 OK")
            }
            "STARTTLS" => format!("220 go ahead{}", manners.smuggled),
            "AUTH" if line == "AUTH LOGIN" => {
                awaited = vec!["334 UGFzc3dvcmQ6", "235 in"];
                "334 VXNlcm5hbWU6".to_owned()
            }
            "AUTH" if line == "AUTH CRAM-MD5" => {
                awaited = vec!["235 in"];
                format!("334 {}", BASE64_STANDARD.encode("<1@mail>"))
            }
            "AUTH" => "235 in".to_owned(),
            "DATA" => "354 go on".to_owned(),
            "QUIT" => "221 bye".to_owned(),
            _ => "250 fine".to_owned(),
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
        if line == "STARTTLS" && answer.starts_with("220") {
            return Some(stream.into_inner());
        }
        if line == "DATA" && answer.starts_with("354") {
            let mut mail = String::new();
            while !mail.ends_with("\r\n.\r\n") {
                stream.read_line(&mut mail).await.ok()?;
            }
            all.lock().push(mail);
            let different = manners.answers.iter().find(|(command, _)| *command == ".");
            let answer = different.map_or("250 taken", |(_, answer)| answer);
            stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
        }
    }
}

#[tokio::test]
async fn a_mail_by_starttls() {
    let extensions = &["STARTTLS", "AUTH LOGIN PLAIN", "8BITMIME"];
    let server = MailServer::start(Manners { extensions, ..Manners::default() }).await;
    let more = ", to: 'Ännchen <c@d.example>, e@f.example', auth_username: u, auth_password: pass-word, \
                headers: {X-Team: ops, subject: 'S für {{ .Status }}'}, text: \"T.\\n.\\n\", html: '<b>{{ \
                .CommonAnnotations.summary }}</b>', threading: {enabled: true}";
    let keys = server.keys(more).replacen("to: 'c@d.example', ", "", 1);
    let note = Some("[no majority]");
    let outcome = deliverer(&keys).deliver_noted(&notification("email"), NOW_NS, note).await;
    assert_eq!(outcome, delivered());
    let said = server.said();
    let at = said.iter().position(|line| line == "DATA").expect("DATA");
    assert_eq!(
        said[..at],
        [
            "EHLO me",
            "STARTTLS",
            "TLS",
            "EHLO me",
            "AUTH LOGIN",
            "dQ==",
            &BASE64_STANDARD.encode("pass-word"),
            "MAIL FROM:<a@b.example> BODY=8BITMIME",
            "RCPT TO:<c@d.example>",
            "RCPT TO:<e@f.example>",
        ]
    );
    assert_eq!(said[at + 2], "QUIT");
    let mail = &said[at + 1];
    let (headers, body) = mail.split_once("\r\n\r\n").expect("a body");
    let headers: Vec<&str> = headers.split("\r\n").collect();
    assert_eq!(headers[0], "From: a@b.example");
    assert_eq!(headers[1], "Subject: =?utf-8?q?[no_majority]_S_f=C3=BCr_firing?=");
    assert_eq!(headers[2], "To: =?utf-8?q?=C3=84nnchen?= <c@d.example>,");
    assert_eq!(headers[3], " e@f.example");
    assert_eq!(headers[4], "X-Team: ops");
    assert!(headers[5].starts_with("Message-Id: <1700000000000000000."), "{headers:?}");
    let root = format!("<alert-{}-2023-11-14@alertmanager>", &KEY_HASH[..16]);
    assert_eq!(headers[6], format!("References: {root}"));
    assert_eq!(headers[7], format!("In-Reply-To: {root}"));
    assert_eq!(headers[8], "Date: Tue, 14 Nov 2023 22:13:20 +0000");
    let boundary = headers[9].strip_prefix("Content-Type: multipart/alternative;  boundary=");
    let boundary = boundary.expect("a boundary");
    assert_eq!(headers[10], "MIME-Version: 1.0");
    assert_eq!(
        body,
        format!(
            "--{boundary}\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Type: \
             text/plain; charset=UTF-8\r\n\r\nT.\r\n..\r\n\r\n--{boundary}\r\nContent-Transfer-\
             Encoding: quoted-printable\r\nContent-Type: text/html; charset=UTF-8\r\n\r\n<b>it &lt;\
             is&gt; down</b>\r\n--{boundary}--\r\n.\r\n"
        )
        .replace("Content-Transfer-\r\n", "")
    );
}

#[tokio::test]
async fn tls_from_the_beginning() {
    let extensions = &["AUTH CRAM-MD5 PLAIN"];
    let manners = Manners { extensions, implicit_tls: true, ..Manners::default() };
    let server = MailServer::start(manners).await;
    let more = ", force_implicit_tls: true, auth_username: u, auth_secret: s3cret";
    let outcome = deliverer(&server.keys(more)).deliver(&notification("email"), NOW_NS).await;
    assert_eq!(outcome, delivered());
    let digest = hex(&hmac_md5(b"s3cret", b"<1@mail>"));
    let said = server.said();
    assert_eq!(said[1], "AUTH CRAM-MD5");
    assert_eq!(said[2], BASE64_STANDARD.encode(format!("u {digest}")));
    let mail = said.iter().find(|line| line.contains("Subject: ")).expect("a mail");
    assert!(mail.contains("Subject: [FIRING:1] Down (critical)\r\n"), "{mail}");
    assert!(mail.contains("<!DOCTYPE html>"), "{mail}");
}

#[tokio::test]
async fn without_tls_only_who_may() {
    let server = MailServer::start(Manners::default()).await;
    let message =
        retried(deliverer(&server.keys("")).deliver(&notification("email"), NOW_NS).await);
    assert!(message.contains("does not offer STARTTLS"), "{message}");
    assert!(!server.said().iter().any(|line| line.starts_with("MAIL")));
    let deliverer = deliverer(&server.keys(", require_tls: false, auth_username: u"));
    assert_eq!(deliverer.deliver(&notification("email"), NOW_NS).await, delivered());
}

#[tokio::test]
async fn passwords_are_not_shown_to_whoever_listens() {
    let extensions = &["AUTH PLAIN"];
    let server = MailServer::start(Manners { extensions, ..Manners::default() }).await;
    let more = ", require_tls: false, auth_username: u, auth_password: pass-word";
    // To this host itself nobody listens.
    let outcome = deliverer(&server.keys(more)).deliver(&notification("email"), NOW_NS).await;
    assert_eq!(outcome, delivered());
    let keys = server.keys(more).replace("'localhost:", "'127.0.0.2:");
    let message = retried(deliverer(&keys).deliver(&notification("email"), NOW_NS).await);
    // 127.0.0.2 is not the listener's address on every system.
    assert!(message.contains("PLAIN shows") || message.contains("cannot connect"), "{message}");
}

#[tokio::test]
async fn what_is_put_behind_starttls_is_not_believed() {
    let extensions = &["STARTTLS"];
    let smuggled = "\r\n250-evil\r\n250 AUTH PLAIN";
    let server = MailServer::start(Manners { extensions, smuggled, ..Manners::default() }).await;
    let message =
        retried(deliverer(&server.keys("")).deliver(&notification("email"), NOW_NS).await);
    assert!(message.contains("more than it may before TLS"), "{message}");
}

#[tokio::test]
async fn an_authority_that_is_not_known_ends_it() {
    let extensions = &["STARTTLS"];
    let server = MailServer::start(Manners { extensions, ..Manners::default() }).await;
    let other = MailServer::start(Manners::default()).await;
    let keys =
        server.keys("").replace(&server.ca.replace('\n', "\\n"), &other.ca.replace('\n', "\\n"));
    let message = retried(deliverer(&keys).deliver(&notification("email"), NOW_NS).await);
    assert!(message.contains("TLS with \"localhost\" failed"), "{message}");
}

#[tokio::test]
async fn refusals_are_told_without_secrets() {
    for (answers, wanted) in [
        (
            &[("AUTH PLAIN", "535 bad pass-word AHUAcGFzcy13b3Jk")] as &'static [_],
            "AUTH PLAIN: the mail server answers 535: bad <secret> <secret>",
        ),
        (&[("MAIL", "550 no")], "MAIL: the mail server answers 550: no"),
        (
            &[("RCPT", "451-wait\r\n451 a bit")],
            "RCPT of c@d.example: the mail server answers 451: wait a bit",
        ),
        (&[("DATA", "554 no")], "DATA: the mail server answers 554: no"),
        (&[(".", "552 too big")], "the mail itself: the mail server answers 552: too big"),
        (&[("EHLO", "HTTP/1.1 400")], "what answers does not speak SMTP; check host and port"),
    ] {
        let extensions = &["AUTH PLAIN"];
        let server = MailServer::start(Manners { extensions, answers, ..Manners::default() }).await;
        let more = ", require_tls: false, auth_username: u, auth_password: pass-word";
        let outcome = deliverer(&server.keys(more)).deliver(&notification("email"), NOW_NS).await;
        assert_eq!(retried(outcome), format!("ops/email[0]: {wanted}"));
    }
}

#[tokio::test]
async fn old_servers_know_helo_only() {
    let answers = &[("EHLO", "502 what")];
    let server = MailServer::start(Manners { answers, ..Manners::default() }).await;
    let deliverer = deliverer(&server.keys(", require_tls: false"));
    assert_eq!(deliverer.deliver(&notification("email"), NOW_NS).await, delivered());
    assert_eq!(server.said()[1], "HELO me");
}

#[tokio::test]
async fn what_is_no_address_is_wrong_for_ever() {
    let server = MailServer::start(Manners::default()).await;
    for (keys, wanted) in [
        (server.keys("").replace("c@d.example", "nobody"), "to is no list of addresses"),
        (server.keys("").replace("a@b.example", "a@b, c@d"), "from has 2 addresses"),
        (server.keys("").replace("a@b.example", "{{ nope }}"), "from: template"),
    ] {
        let message = failed(deliverer(&keys).deliver(&notification("email"), NOW_NS).await);
        assert!(message.contains(wanted), "{message}");
    }
    assert!(server.said().is_empty());
}

#[tokio::test]
async fn the_same_notification_has_the_same_id() {
    let server = MailServer::start(Manners::default()).await;
    let deliverer = deliverer(&server.keys(", require_tls: false"));
    let mut again = notification("email");
    again.attempt = 2;
    let mut later = notification("email");
    later.now_ns += 1;
    for notification in [notification("email"), again, later] {
        assert_eq!(deliverer.deliver(&notification, NOW_NS).await, delivered());
    }
    let id = |line: &String| {
        let at = line.find("Message-Id: ")?;
        line[at..].lines().next().map(str::to_owned)
    };
    let ids: Vec<String> = server.said().iter().filter_map(id).collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
}
