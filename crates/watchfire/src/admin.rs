//! `watchfire admin`: what the administrator of the server's own host can always do.
//!
//! The running server does it; that the caller is its administrator is proven by a file in the
//! data directory that only the server's user (and root) can read.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use http::Method;
use net::auth::LocalAccess;
use serde_json::{Value, json};

use crate::about::now_ms;
use crate::token::{aligned, span};
use crate::words::elsewhere;

/// What a console that runs apart says about joining.
pub(crate) const NO_AUTHORITY: &str = "this server has no authority: run this on the broker's host";
/// Data directory of a plain start.
const DEFAULT_DATA: &str = "watchfire-data";
/// Data directory of the packaged services.
const PACKAGED_DATA: &str = "/var/lib/watchfire";
/// Letters and digits of a password that is made here: 119 bits.
const PASSWORD_LETTERS: usize = 20;

/// Which server on this host.
#[derive(Debug, Clone, Args)]
pub(crate) struct LocalArguments {
    /// Data directory of the running server [default: the first of watchfire-data and
    /// /var/lib/watchfire in which one has run]
    #[arg(long, value_name = "DIR", env = "WATCHFIRE_DATA", global = true)]
    pub(crate) data: Option<PathBuf>,
}

impl LocalArguments {
    /// A server to ask.
    ///
    /// # Errors
    /// When none has run with the directory, or its file cannot be read.
    pub(crate) fn server(&self) -> Result<LocalServer> {
        let access = match &self.data {
            Some(data) => LocalAccess::read(data)?,
            None => [DEFAULT_DATA, PACKAGED_DATA]
                .iter()
                .find_map(|data| LocalAccess::read(Path::new(data)).ok())
                .map_or_else(|| LocalAccess::read(Path::new(DEFAULT_DATA)), Ok)?,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime")?;
        Ok(LocalServer { access, runtime, flag: data_flag(self.data.as_deref()) })
    }
}

/// The flag that names a data directory, behind a blank, for commands that are to be copied; nothing
/// for the one that is found without it.
pub(crate) fn data_flag(data: Option<&Path>) -> String {
    let Some(data) = data.filter(|data| *data != Path::new(DEFAULT_DATA)) else {
        return String::new();
    };
    let text = data.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:@%,".contains(c);
    match text.chars().all(is_plain) {
        true => format!(" --data {text}"),
        false => format!(" --data '{}'", text.replace('\'', r"'\''")),
    }
}

/// The running server of a data directory.
pub(crate) struct LocalServer {
    access: LocalAccess,
    runtime: tokio::runtime::Runtime,
    flag: String,
}

impl LocalServer {
    /// What a command needs to find it again, see [`data_flag`].
    pub(crate) fn flag(&self) -> &str {
        &self.flag
    }

    /// Where it is, as a URL.
    pub(crate) fn url(&self) -> &str {
        self.access.url()
    }

    /// Asks, and yields `data` of the answer; `None` where there is no such thing (404).
    ///
    /// # Errors
    /// When the server does not answer, and with its words when it refuses.
    pub(crate) fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Option<Value>> {
        let answer = self.runtime.block_on(self.access.request(method, path, body));
        let (status, body) = answer?;
        let parsed: Option<Value> = serde_json::from_slice(&body).ok();
        if status == http::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let parsed =
            parsed.with_context(|| format!("the server answered {status} without JSON"))?;
        if !status.is_success() {
            bail!("{}", parsed["error"].as_str().unwrap_or("the server refused without a reason"));
        }
        Ok(Some(parsed["data"].clone()))
    }
}

/// Administration from the server's own host.
#[derive(Debug, Args)]
pub(crate) struct AdminArguments {
    #[command(flatten)]
    local: LocalArguments,

    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Give a user another password and end their sessions; prints a new one unless --stdin
    ResetPassword {
        /// Name of the user
        user: String,

        /// Read the password from standard input instead of making one
        #[arg(long)]
        stdin: bool,
    },
    /// Print the link with which the first user is made
    SetupLink,
    /// List the hosts that have joined, with the end of their certificates
    Certificates,
    /// Send a host away: its connections are cut, and it has to join again
    RevokeCertificate {
        /// Name of the host, as `watchfire admin certificates` shows it
        name: String,
    },
}

/// Does what `arguments` say.
///
/// # Errors
/// See [`LocalServer::ask`].
pub(crate) fn run(arguments: &AdminArguments) -> Result<()> {
    let server = arguments.local.server()?;
    match &arguments.command {
        AdminCommand::ResetPassword { user, stdin } => reset_password(&server, user, *stdin),
        AdminCommand::SetupLink => {
            println!("{}", setup_link(&server)?);
            Ok(())
        }
        AdminCommand::Certificates => {
            let list = server.ask(Method::GET, "/api/v1/certificates", None)?;
            let list = list.context(NO_AUTHORITY)?;
            print!("{}", certificates(&list, now_ms(), server.flag()));
            Ok(())
        }
        AdminCommand::RevokeCertificate { name } => {
            let path = format!("/api/v1/certificates/{}", path_segment(name)?);
            ensure!(
                server.ask(Method::DELETE, &path, None)?.is_some(),
                "no host {name} has joined; `watchfire admin{} certificates` shows who has",
                server.flag()
            );
            eprintln!("{name} is sent away; it can join again with a new token.");
            Ok(())
        }
    }
}

fn reset_password(server: &LocalServer, user: &str, stdin: bool) -> Result<()> {
    let password =
        if stdin { read_password()? } else { net::auth::generate_password(PASSWORD_LETTERS) };
    let path = format!("/api/v1/users/{}/password", path_segment(user)?);
    let body = json!({ "password": password });
    if server.ask(Method::PUT, &path, Some(&body))?.is_none() {
        let users = server.ask(Method::GET, "/api/v1/users", None)?.unwrap_or_default();
        let names: Vec<_> = users["users"].as_array().into_iter().flatten().collect();
        let names: Vec<_> = names.iter().filter_map(|user| user["name"].as_str()).collect();
        if names.is_empty() {
            bail!(
                "there is no user yet; `watchfire admin{} setup-link` prints the link to make one",
                server.flag()
            );
        }
        bail!("there is no user {user:?}; there are {}", names.join(", "));
    }
    if stdin {
        eprintln!("The password of {user} is changed and their sessions are ended.");
    } else {
        eprintln!("The new password of {user}; their sessions are ended:");
        println!("{password}");
    }
    Ok(())
}

/// One line, without its end.
fn read_password() -> Result<String> {
    const MOST: u64 = 4 << 10;
    let mut text = String::new();
    std::io::stdin().take(MOST).read_to_string(&mut text).context("read standard input")?;
    let password = text.lines().next().unwrap_or_default().to_owned();
    ensure!(!password.is_empty(), "standard input holds no password");
    Ok(password)
}

fn setup_link(server: &LocalServer) -> Result<String> {
    let answer = server.ask(Method::GET, "/api/v1/setup", None)?.unwrap_or_default();
    match answer["token"].as_str() {
        Some(token) => Ok(format!("{}/setup#{token}", from_elsewhere(server))),
        None => bail!(
            "this installation is set up already: log in at {}, or use `watchfire admin{} \
             reset-password USER`",
            from_elsewhere(server),
            server.flag()
        ),
    }
}

/// The server's URL as a browser elsewhere has to open it. What this host reaches it by is a loopback address also
/// where it listens on all: then the name of this host is of more use.
fn from_elsewhere(server: &LocalServer) -> String {
    let flags = server.ask(Method::GET, "/api/v1/status/flags", None).ok().flatten();
    let listen = flags.and_then(|flags| flags["listen"].as_str()?.parse().ok());
    named(server.url(), listen)
}

fn named(url: &str, listen: Option<SocketAddr>) -> String {
    let port = url.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let (Some(listen), Some(port), Some((scheme, _))) = (listen, port, url.split_once("://"))
    else {
        return url.to_owned();
    };
    if !listen.ip().is_unspecified() {
        return url.to_owned();
    }
    format!("{scheme}://{}", elsewhere(SocketAddr::new(listen.ip(), port)))
}

fn certificates(list: &Value, now_ms: i64, flag: &str) -> String {
    let mut rows = vec![["HOST", "ROLE", "JOINED", "ENDS IN"].map(str::to_owned)];
    for peer in list["certificates"].as_array().into_iter().flatten() {
        let text = |key: &str| peer[key].as_str().unwrap_or_default().to_owned();
        let ms = |key: &str| peer[key].as_i64().unwrap_or_default();
        rows.push([
            text("name"),
            text("role"),
            format!("{} ago", span(now_ms - ms("joined_ms"))),
            span(ms("expires_ms") - now_ms),
        ]);
    }
    if rows.len() == 1 {
        return format!(
            "No host has joined; `watchfire token{flag} create` prints the command for one.\n"
        );
    }
    aligned(&rows)
}

/// `text` as one segment of a path; names that need escapes cannot exist.
///
/// # Errors
/// It is no name of anything here.
pub(crate) fn path_segment(text: &str) -> Result<&str> {
    let fits = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._@-+".contains(&byte))
        && !matches!(text, "." | "..");
    ensure!(fits, "{text:?} is no name here: names have letters, digits or . _ @ - +");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: AdminArguments,
    }

    #[test]
    fn a_link_names_the_host_where_it_listens_on_all_addresses() {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let url = "https://127.0.0.1:9595";
        let listen = |address: &str| Some(address.parse().expect("an address"));
        assert_eq!(named(url, listen("0.0.0.0:0")), format!("https://{host}:9595"));
        assert_eq!(named("https://[::1]:1", listen("[::]:1")), format!("https://{host}:1"));
        for as_it_is in [listen("127.0.0.1:9595"), listen("10.0.0.1:9595"), None] {
            assert_eq!(named(url, as_it_is), url);
        }
    }

    #[test]
    fn the_directory_can_stand_anywhere_and_names_cannot_escape() {
        for line in [
            &["admin", "--data", "/d", "reset-password", "ann", "--stdin"][..],
            &["admin", "reset-password", "--data", "/d", "ann"],
            &["admin", "setup-link", "--data", "/d"],
        ] {
            let line = Line::try_parse_from(line).expect("valid");
            assert_eq!(line.arguments.local.data.as_deref(), Some(Path::new("/d")));
        }
        let day = 86_400_000_i64;
        let list = json!({ "certificates": [
            { "name": "web-1", "role": "agent", "joined_ms": day, "expires_ms": 31 * day },
        ] });
        assert_eq!(
            certificates(&list, 3 * day, ""),
            "HOST   ROLE   JOINED   ENDS IN\nweb-1  agent  2 d ago  28 d\n"
        );
        for bad in ["", "..", "a/b", "a?b", "a%2Fb", "ä"] {
            assert!(path_segment(bad).is_err(), "{bad}");
        }
        let missing = LocalArguments { data: Some("/nonexistent".into()) }.server();
        let error = missing.err().expect("nothing there").to_string();
        assert!(error.contains("--data"), "{error}");
    }
}
