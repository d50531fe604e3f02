//! `watchfire token`: what a host joins with, and what a program asks or sends with.

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use model::TenantName;
use serde_json::{Value, json};

use crate::about::now_ms;
use crate::admin::{LocalArguments, LocalServer, NO_AUTHORITY, path_segment};

/// Tokens of the running server.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct TokenArguments {
    #[command(flatten)]
    local: LocalArguments,

    #[command(subcommand)]
    command: TokenCommand,
}

const EXAMPLES: &str = "\
Examples:
  watchfire token create
      print the command that lets the next host join, once, within 15 minutes
  watchfire token create --role console
      the same for a console in a process of its own
  watchfire token create --uses 50 --expires 12h
      one token for a whole rack
  watchfire token create --scope read --name grafana
      print an API token, for Authorization: Bearer or as the password of basic auth
  watchfire token create --scope write --name prometheus --expires 365d
  watchfire token create --scope read,write --name acme --tenant acme
      the same, for the data of one tenant only
  watchfire token list
  watchfire token revoke 1f0c9a2e";

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token: for a host that joins, or with --scope for a program
    Create(CreateArguments),
    /// List tokens that count, without their secrets
    List,
    /// End a token at once
    Revoke {
        /// As `watchfire token list` shows it
        id: String,
    },
}

#[derive(Debug, Args)]
struct CreateArguments {
    /// What the host becomes
    #[arg(long, value_enum, default_value_t = JoinRole::Agent, conflicts_with = "scope")]
    role: JoinRole,

    /// How many hosts may use it
    #[arg(long, value_name = "COUNT", default_value_t = 1, conflicts_with = "scope")]
    uses: u32,

    /// Make an API token that may do this; can be given more than once
    #[arg(long, value_enum, value_name = "SCOPE", value_delimiter = ',')]
    scope: Vec<TokenScope>,

    /// What the API token is for
    #[arg(long, value_name = "NAME", requires = "scope", default_value = "unnamed")]
    name: String,

    /// The one tenant whose data the API token reaches [default: all tenants]
    #[arg(long, value_name = "NAME", requires = "scope")]
    tenant: Option<TenantName>,

    /// How long it counts, such as 15m, 12h or 90d [default: 15m for a host, no end for a program]
    #[arg(long, value_name = "DURATION")]
    expires: Option<String>,
}

/// What a host can become with a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum JoinRole {
    /// Collects its host and sends
    Agent,
    /// Shows what brokers have
    Console,
    /// Stores, together with the brokers there are
    Broker,
}

/// What an API token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TokenScope {
    /// Query
    Read,
    /// Send
    Write,
    /// Everything
    Admin,
}

/// Does what `arguments` say.
///
/// # Errors
/// See [`LocalServer::ask`].
pub(crate) fn run(arguments: &TokenArguments) -> Result<()> {
    let server = arguments.local.server()?;
    match &arguments.command {
        TokenCommand::Create(create) if create.scope.is_empty() => create_join(&server, create),
        TokenCommand::Create(create) => create_api(&server, create),
        TokenCommand::List => list(&server),
        TokenCommand::Revoke { id } => revoke(&server, id),
    }
}

/// The value's name on the command line, which is also its name in the API.
fn word<V: ValueEnum>(value: V) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Explains on standard error, so that standard output holds the command and nothing else.
fn create_join(server: &LocalServer, create: &CreateArguments) -> Result<()> {
    let mut body = json!({ "role": word(create.role), "uses": create.uses });
    if let Some(expires) = &create.expires {
        body["expires_in"] = json!(expires);
    }
    let made = server.ask(Method::POST, "/api/v1/join-tokens", Some(&body))?;
    let made = made.context(NO_AUTHORITY)?;
    let hosts =
        if create.uses == 1 { "one host".to_owned() } else { format!("{} hosts", create.uses) };
    eprintln!("Run this on the next host. It counts for {hosts}, for {}:", left(&made, now_ms()));
    let command = made["command"].as_str().unwrap_or_default();
    println!("{command}");
    if create.role == JoinRole::Broker {
        eprintln!("\nURL is that of the store, as this broker was started with it.");
    }
    if let Some(address) = only_here(command) {
        if create.role == JoinRole::Broker {
            eprintln!(
                "One more on this host needs a directory and ports of its own: --data DIR --listen \
                 127.0.0.1:PORT --peer-listen 127.0.0.1:PORT."
            );
        }
        eprintln!(
            "\nOnly processes on this host reach {address}. For others, start the server with --listen \
             0.0.0.0:9595, or peers alone with --peer-listen 0.0.0.0:9596, and make a token then."
        );
    }
    Ok(())
}

/// The broker's address in a command to join, if other hosts cannot reach it.
fn only_here(command: &str) -> Option<&str> {
    let mut words = command.split_whitespace();
    // Of an agent or console the one, of a broker the other.
    words.find(|word| ["--broker", "--join"].contains(word))?;
    let address = words.next()?;
    let host = address.rsplit_once(':')?.0.trim_matches(['[', ']']);
    let is_loopback = host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    (is_loopback || host == "localhost").then_some(address)
}

fn create_api(server: &LocalServer, create: &CreateArguments) -> Result<()> {
    let scopes: Vec<_> = create.scope.iter().copied().map(word).collect();
    let mut body = json!({ "name": create.name, "scopes": scopes });
    if let Some(tenant) = create.tenant {
        body["tenant"] = json!(tenant.as_str());
    }
    if let Some(expires) = &create.expires {
        body["expires_in"] = json!(expires);
    }
    let made = server.ask(Method::POST, "/api/v1/tokens", Some(&body))?.unwrap_or_default();
    eprintln!(
        "API token {:?} [{}] for {}, shown only now; it counts for {}:",
        create.name,
        scopes.join(","),
        create.tenant.map_or("all tenants".to_owned(), |tenant| format!("the tenant {tenant}")),
        left(&made, now_ms())
    );
    println!("{}", made["token"].as_str().unwrap_or_default());
    Ok(())
}

fn list(server: &LocalServer) -> Result<()> {
    let api = server.ask(Method::GET, "/api/v1/tokens", None)?.unwrap_or_default();
    // A console that runs apart from its brokers has no join tokens.
    let joins = server.ask(Method::GET, "/api/v1/join-tokens", None)?.unwrap_or_default();
    print!("{}", table(&api, &joins, now_ms(), server.flag()));
    Ok(())
}

fn table(api: &Value, joins: &Value, now_ms: i64, flag: &str) -> String {
    let mut rows =
        vec![["ID", "KIND", "FOR", "TENANT", "ENDS IN", "LAST USED", "MADE BY"].map(str::to_owned)];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for token in api["tokens"].as_array().into_iter().flatten() {
        let scopes = token["scopes"].as_array().into_iter().flatten();
        let scopes: Vec<_> = scopes.filter_map(Value::as_str).collect();
        let used = token["last_used_ms"].as_i64();
        rows.push([
            text(&token["id"]),
            "api".to_owned(),
            format!("{} [{}]", text(&token["name"]), scopes.join(",")),
            text(&token["tenant"]),
            left(token, now_ms),
            used.map_or("never".to_owned(), |ms| format!("{} ago", span(now_ms - ms))),
            text(&token["created_by"]),
        ]);
    }
    for token in joins["tokens"].as_array().into_iter().flatten() {
        let uses = token["uses_left"].as_u64().unwrap_or_default();
        rows.push([
            text(&token["id"]),
            "join".to_owned(),
            format!("{} × {uses}", text(&token["role"])),
            String::new(),
            left(token, now_ms),
            String::new(),
            text(&token["created_by"]),
        ]);
    }
    if rows.len() == 1 {
        return format!("There are no tokens; `watchfire token{flag} create` makes one.\n");
    }
    aligned(&rows)
}

/// Columns as wide as their widest cell, two blanks between.
pub(crate) fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let cells: Vec<_> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn revoke(server: &LocalServer, id: &str) -> Result<()> {
    let id = path_segment(id)?;
    for kind in ["tokens", "join-tokens"] {
        if server.ask(Method::DELETE, &format!("/api/v1/{kind}/{id}"), None)?.is_some() {
            eprintln!("The token {id} does not count any more.");
            return Ok(());
        }
    }
    bail!("there is no token {id}; `watchfire token{} list` shows what there is", server.flag())
}

/// How long something still counts.
fn left(token: &Value, now_ms: i64) -> String {
    token["expires_ms"].as_i64().map_or("ever".to_owned(), |ends_ms| span(ends_ms - now_ms))
}

/// The largest unit of which there are two, or seconds.
pub(crate) fn span(ms: i64) -> String {
    // A token of 15 minutes that was made a moment ago counts for 15 minutes.
    let seconds = (ms.max(0) + 500) / 1_000;
    for (unit, name) in [(86_400, "d"), (3_600, "h"), (60, "min")] {
        if seconds >= 2 * unit {
            return format!("{} {name}", (seconds + unit / 2) / unit);
        }
    }
    format!("{seconds} s")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: TokenArguments,
    }

    #[test]
    fn a_token_is_for_a_host_or_for_a_program() {
        let parse = |line: &str| Line::try_parse_from(line.split(' '));
        for good in [
            "token create",
            "token create --role console --uses 3 --expires 1h",
            "token create --role broker",
            "token create --scope read,write --name grafana",
            "token create --scope read --scope admin --data /d",
            "token create --scope read --tenant acme",
            "token list",
            "token revoke 1f0c9a2e",
        ] {
            parse(good).expect(good);
        }
        for bad in [
            "token create --role king",
            "token create --scope root",
            "token create --scope read --uses 2",
            "token create --scope read --role agent",
            "token create --name x",
            "token create --tenant acme",
            "token create --scope read --tenant a|b",
            "token revoke",
        ] {
            parse(bad).expect_err(bad);
        }
    }

    #[test]
    fn a_command_that_serves_on_this_host_only_is_told() {
        let address = |broker: &str| format!("watchfire agent --broker {broker} --join wfj_x");
        for here in ["127.0.0.1:9596", "[::1]:9596", "localhost:1", "127.0.0.2:9"] {
            assert_eq!(only_here(&address(here)), Some(here));
        }
        for elsewhere in ["web-01:9596", "10.0.0.1:9596", "[fe80::1]:9596"] {
            assert_eq!(only_here(&address(elsewhere)), None);
        }
        assert_eq!(only_here("watchfire agent"), None);
        let broker = "watchfire broker --store URL --join 127.0.0.1:1 --join-token wfj_x";
        assert_eq!(only_here(broker), Some("127.0.0.1:1"));
    }

    #[test]
    fn the_list_fits_its_columns() {
        let now_ms = 1_000_000_000_000;
        let api = json!({ "tokens": [{
            "id": "00000001", "name": "grafana", "scopes": ["read"], "tenant": "*", "created_by": "root",
            "created_ms": now_ms, "expires_ms": now_ms + 90 * 86_400_000_i64,
            "last_used_ms": now_ms - 180_000,
        }, {
            "id": "00000002", "name": "ci", "scopes": ["read", "write"], "tenant": "acme", "created_by": "local",
            "created_ms": now_ms, "expires_ms": null, "last_used_ms": null,
        }] });
        let joins = json!({ "tokens": [{
            "id": "00000003", "role": "agent", "uses_left": 3, "created_by": "root",
            "created_ms": now_ms, "expires_ms": now_ms + 900_000,
        }] });
        assert_eq!(
            table(&api, &joins, now_ms, ""),
            "ID        KIND  FOR              TENANT  ENDS IN  LAST USED  MADE BY\n\
             00000001  api   grafana [read]   *       90 d     3 min ago  root\n\
             00000002  api   ci [read,write]  acme    ever     never      local\n\
             00000003  join  agent × 3                15 min              root\n"
        );
        let empty = table(&json!({}), &json!({}), now_ms, " --data /d");
        assert!(empty.contains("`watchfire token --data /d create`"), "{empty}");
    }
}
