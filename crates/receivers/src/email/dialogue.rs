//! The client's side of SMTP (RFC 5321), with STARTTLS (RFC 3207) and AUTH (RFC 4954).
//!
//! It is our own because connections have to go to addresses that were checked and to TLS by the
//! receiver's settings, and because CRAM-MD5, which configurations still ask for, is gone from
//! the libraries of today.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::courier::excerpt;
use crate::mac::hmac_md5;
use crate::message::{Failure, Message, hex};

/// Largest answer in bytes.
const MAX_REPLY_BYTES: usize = 64 << 10;

/// How long a server is waited for that has the mail already.
const FAREWELL: Duration = Duration::from_secs(1);

/// What bytes travel over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {
    /// The connection itself, if it is not encrypted.
    fn into_tcp(self: Box<Self>) -> Option<TcpStream>;
}

impl Stream for TcpStream {
    fn into_tcp(self: Box<Self>) -> Option<TcpStream> {
        Some(*self)
    }
}

impl Stream for net::client::EncryptedStream {
    fn into_tcp(self: Box<Self>) -> Option<TcpStream> {
        None
    }
}

/// Who we say we are.
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) identity: String,
    pub(super) password: Option<String>,
    pub(super) secret: Option<String>,
}

/// A connection to a server of mail.
pub(super) struct Dialogue {
    stream: Box<dyn Stream>,
    is_encrypted: bool,
    /// What came and was not looked at yet.
    buffer: Vec<u8>,
    /// Lines of the answer to EHLO, in capitals.
    extensions: Vec<String>,
}

/// What the server answered.
struct Reply {
    code: u16,
    /// Its lines without the code.
    lines: Vec<String>,
}

impl Dialogue {
    pub(super) fn over(stream: Box<dyn Stream>, is_encrypted: bool) -> Self {
        Dialogue { stream, is_encrypted, buffer: Vec::new(), extensions: Vec::new() }
    }

    /// Waits for the server's greeting and introduces us.
    pub(super) async fn greet(
        &mut self,
        message: &Message<'_>,
        hello: &str,
    ) -> Result<(), Failure> {
        let reply = self.reply().await.map_err(|failure| failure.while_doing("greeting"))?;
        expect(message, "greeting", reply, &[220])?;
        self.introduce(message, hello).await
    }

    /// Says who we are: EHLO, or HELO to servers that do not know the former.
    pub(super) async fn introduce(
        &mut self,
        message: &Message<'_>,
        hello: &str,
    ) -> Result<(), Failure> {
        if hello.chars().any(|c| c.is_control() || c == ' ') {
            return Err(Failure::fatal("hello holds spaces or line breaks; write a host's name"));
        }
        let reply = self.ask(&format!("EHLO {hello}")).await?;
        if reply.code == 250 {
            let offers = reply.lines.into_iter().skip(1);
            self.extensions = offers.map(|line| line.to_ascii_uppercase()).collect();
            return Ok(());
        }
        self.extensions.clear();
        let reply = self.ask(&format!("HELO {hello}")).await?;
        expect(message, "HELO", reply, &[250]).map(drop)
    }

    /// Whether the server offers something.
    pub(super) fn offers(&self, extension: &str) -> bool {
        self.parameters(extension).is_some()
    }

    fn parameters(&self, extension: &str) -> Option<&str> {
        self.extensions.iter().find_map(|line| {
            let (name, parameters) = line.split_once([' ', '=']).unwrap_or((line, ""));
            (name == extension).then_some(parameters)
        })
    }

    /// Asks the server to go on encrypted. Yields the connection on which TLS has to begin now.
    pub(super) async fn start_tls(mut self, message: &Message<'_>) -> Result<TcpStream, Failure> {
        let reply = self.ask("STARTTLS").await?;
        expect(message, "STARTTLS", reply, &[220])?;
        // What somebody on the way put behind the answer must not count as said under TLS.
        if !self.buffer.is_empty() {
            return Err(Failure::retry(
                "the server says more than it may before TLS; somebody may be in between",
            ));
        }
        let tcp = self.stream.into_tcp();
        tcp.ok_or_else(|| Failure::retry("the server offers STARTTLS within TLS"))
    }

    /// Says who we are by the first mechanism of the server's for which there are credentials; not
    /// at all if it offers none.
    pub(super) async fn authenticate(
        &mut self,
        message: &Message<'_>,
        credentials: &Credentials,
        host: &str,
    ) -> Result<(), Failure> {
        let Some(offered) = self.parameters("AUTH").map(str::to_owned) else { return Ok(()) };
        let mut reasons: Vec<String> = Vec::new();
        for mechanism in offered.split_ascii_whitespace() {
            match (mechanism, &credentials.password, &credentials.secret) {
                ("CRAM-MD5", _, Some(secret)) if !secret.is_empty() => {
                    return self.cram_md5(message, &credentials.username, secret).await;
                }
                ("CRAM-MD5", ..) => reasons.push("CRAM-MD5 needs auth_secret".to_owned()),
                ("PLAIN", Some(password), _) if !password.is_empty() => {
                    // Whoever listens could read the password.
                    if !self.is_encrypted && !is_local(host) {
                        return Err(Failure::retry(
                            "PLAIN shows the password to everybody on the way, so it is used over \
                             TLS only; set require_tls: true",
                        ));
                    }
                    return self.plain(message, credentials, password).await;
                }
                ("LOGIN", Some(password), _) if !password.is_empty() => {
                    return self.login(message, &credentials.username, password).await;
                }
                ("PLAIN" | "LOGIN", ..) => {
                    reasons.push(format!("{mechanism} needs auth_password"));
                }
                _ => reasons.push(format!("{mechanism:?} is not known")),
            }
        }
        Err(Failure::retry(format!(
            "no mechanism of the server's can be used: {}",
            reasons.join(", ")
        )))
    }

    async fn plain(
        &mut self,
        message: &Message<'_>,
        credentials: &Credentials,
        password: &str,
    ) -> Result<(), Failure> {
        let Credentials { identity, username, .. } = credentials;
        let answer = BASE64_STANDARD.encode(format!("{identity}\0{username}\0{password}"));
        message.conceal(&answer);
        let reply = self.ask(&format!("AUTH PLAIN {answer}")).await?;
        expect(message, "AUTH PLAIN", reply, &[235]).map(drop)
    }

    async fn login(
        &mut self,
        message: &Message<'_>,
        username: &str,
        password: &str,
    ) -> Result<(), Failure> {
        let mut reply = self.ask("AUTH LOGIN").await?;
        for _ in 0..2 {
            if reply.code != 334 {
                break;
            }
            let asked = BASE64_STANDARD.decode(reply.text().trim()).unwrap_or_default();
            let asked = String::from_utf8_lossy(&asked).to_lowercase();
            let answer = match asked.trim_end_matches('\0').trim() {
                "username:" | "user name" => username,
                "password:" | "password" => password,
                _ => {
                    let asked = excerpt(message, &asked);
                    let text = format!("AUTH LOGIN: the server asks {asked:?}, which is not known");
                    return Err(Failure::retry(text));
                }
            };
            let answer = BASE64_STANDARD.encode(answer);
            message.conceal(&answer);
            reply = self.ask(&answer).await?;
        }
        expect(message, "AUTH LOGIN", reply, &[235]).map(drop)
    }

    /// RFC 2195.
    async fn cram_md5(
        &mut self,
        message: &Message<'_>,
        username: &str,
        secret: &str,
    ) -> Result<(), Failure> {
        let reply = self.ask("AUTH CRAM-MD5").await?;
        let reply = expect(message, "AUTH CRAM-MD5", reply, &[334])?;
        let challenge = BASE64_STANDARD.decode(reply.text().trim()).map_err(|_| {
            Failure::retry("AUTH CRAM-MD5: the server's challenge is not in base64")
        })?;
        let digest = hex(&hmac_md5(secret.as_bytes(), &challenge));
        let answer = BASE64_STANDARD.encode(format!("{username} {digest}"));
        let reply = self.ask(&answer).await?;
        expect(message, "AUTH CRAM-MD5", reply, &[235]).map(drop)
    }

    /// Hands over a mail. One recipient that is refused is a failure for all, as in Alertmanager.
    pub(super) async fn deliver(
        mut self,
        message: &Message<'_>,
        from: &str,
        to: &[String],
        letter: &[u8],
    ) -> Result<(), Failure> {
        let is_ascii = from.is_ascii() && to.iter().all(|address| address.is_ascii());
        if !is_ascii && !self.offers("SMTPUTF8") {
            return Err(Failure::fatal(
                "an address is not ASCII, and the server does not offer SMTPUTF8; use another \
                 address or server",
            ));
        }
        let mut mail = format!("MAIL FROM:<{from}>");
        if self.offers("8BITMIME") {
            mail.push_str(" BODY=8BITMIME");
        }
        if self.offers("SMTPUTF8") {
            mail.push_str(" SMTPUTF8");
        }
        let reply = self.ask(&mail).await?;
        expect(message, "MAIL", reply, &[250])?;
        for address in to {
            let reply = self.ask(&format!("RCPT TO:<{address}>")).await?;
            expect(message, &format!("RCPT of {address}"), reply, &[250, 251, 252])?;
        }
        let reply = self.ask("DATA").await?;
        expect(message, "DATA", reply, &[354])?;
        self.write(&dotted(letter)).await?;
        let reply = self.reply().await?;
        expect(message, "the mail itself", reply, &[250])?;
        // The server has the mail. What comes of this changes nothing.
        let _ = tokio::time::timeout(FAREWELL, self.ask("QUIT")).await;
        Ok(())
    }

    async fn ask(&mut self, line: &str) -> Result<Reply, Failure> {
        self.write(format!("{line}\r\n").as_bytes()).await?;
        self.reply().await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let broken = |error: std::io::Error| {
            Failure::retry(format!("the connection to the mail server broke: {error}"))
        };
        self.stream.write_all(bytes).await.map_err(broken)?;
        self.stream.flush().await.map_err(broken)
    }

    /// Reads an answer, which may have several lines.
    async fn reply(&mut self) -> Result<Reply, Failure> {
        let mut lines = Vec::new();
        let mut read = 0;
        loop {
            let line = self.line(MAX_REPLY_BYTES - read).await?;
            read = (read + line.len() + 1).min(MAX_REPLY_BYTES);
            let code = line.get(..3).and_then(|code| code.parse::<u16>().ok());
            let Some(code) = code.filter(|code| (200..600).contains(code)) else {
                return Err(Failure::retry(
                    "what answers does not speak SMTP; check host and port",
                ));
            };
            let rest = line.get(3..).unwrap_or_default();
            let is_last = !rest.starts_with('-');
            lines.push(rest.get(1..).unwrap_or_default().to_owned());
            if is_last {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// Reads a line of an answer of which so many bytes may come.
    async fn line(&mut self, most: usize) -> Result<String, Failure> {
        loop {
            if most == 0 || self.buffer.len() > MAX_REPLY_BYTES {
                return Err(Failure::retry(format!(
                    "the mail server's answer has more than {MAX_REPLY_BYTES} bytes"
                )));
            }
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                let line = String::from_utf8_lossy(&line);
                return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
            }
            let read = self.stream.read_buf(&mut self.buffer).await.map_err(|error| {
                Failure::retry(format!("the connection to the mail server broke: {error}"))
            })?;
            if read == 0 {
                return Err(Failure::retry(
                    "the mail server closed the connection; if the port speaks TLS from the \
                     beginning, set force_implicit_tls: true",
                ));
            }
        }
    }
}

impl Reply {
    fn text(&self) -> String {
        self.lines.join(" ")
    }
}

/// The answer, if it is one of those that are wanted. All others may be different later: servers
/// answer 5xx as well when they only do not trust somebody yet.
fn expect(
    message: &Message<'_>,
    step: &str,
    reply: Reply,
    wanted: &[u16],
) -> Result<Reply, Failure> {
    if wanted.contains(&reply.code) {
        return Ok(reply);
    }
    let text = excerpt(message, &reply.text());
    Err(Failure::retry(format!("{step}: the mail server answers {}: {text}", reply.code)))
}

fn is_local(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "::1")
}

/// The mail with its end: lines end with CRLF, and a dot at the beginning of one is doubled
/// (RFC 5321, section 4.5.2).
fn dotted(letter: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(letter.len() + 16);
    let letter = letter.strip_suffix(b"\n").unwrap_or(letter);
    for line in letter.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_mail_ends_it() {
        assert_eq!(dotted(b"a\n.\r\n..b\r\n"), b"a\r\n..\r\n...b\r\n.\r\n");
        assert_eq!(dotted(b""), b"\r\n.\r\n");
    }
}
