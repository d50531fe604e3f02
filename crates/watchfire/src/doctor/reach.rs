//! What must be reached over the network: the server, the brokers, proxies.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::clock;
use super::finding::{Check, Finding, Level, text};
use crate::http_client::HttpClient;

/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the server, and compares clocks. A server that was not named need not run.
pub(super) fn server(client: &mut HttpClient, is_named: bool) -> Vec<Finding> {
    let check = Check::Server;
    let url = client.url("/-/ready");
    let began = Instant::now();
    let answer = match client.get("/-/ready") {
        Ok(answer) => answer,
        Err(_) if !is_named => {
            let none = text(format!("none answers at {url}"), format!("{url} 没有应答"));
            return vec![Finding::skip(check, none)];
        }
        Err(error) => {
            let cause = error.root_cause();
            return vec![
                Finding::fail(
                    check,
                    text(format!("{url}: {cause}"), format!("{url}：{cause}")),
                    text("It cannot be asked.", "无法访问。"),
                )
                .fix(text(
                    "Check address, firewall and, with https, --ca-file.",
                    "请检查地址、防火墙；使用 https 时检查 --ca-file。",
                ))
                .command(format!("curl -v {url}")),
            ];
        }
    };
    let took = began.elapsed();
    let mut findings = vec![if answer.status.is_success() {
        Finding::ok(
            check,
            text(
                format!("{url} is ready, answered in {} ms", took.as_millis()),
                format!("{url} 就绪，{} 毫秒应答", took.as_millis()),
            ),
        )
    } else {
        let status = answer.status;
        let said = answer.text().lines().next().unwrap_or_default().to_owned();
        Finding::warn(
            check,
            text(format!("{url} answers {status}: {said}"), format!("{url} 应答 {status}：{said}")),
            text("It does not take writes and queries yet.", "暂不接受写入与查询。"),
        )
    }];
    let now_s = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs().cast_signed());
    let date = answer.headers.get(http::header::DATE).and_then(|date| date.to_str().ok());
    if let Some(date_s) = date.and_then(clock::date_s) {
        findings.push(clock::offset(date_s, now_s, took));
    }
    findings
}

/// Where an agent keeps what it joined with, below its data directory.
const AGENT_TLS: &str = "tls";
/// Data directories of agents: of a plain start and of the packaged service.
const AGENT_DATA: [&str; 2] = ["watchfire-agent-data", "/var/lib/watchfire-agent"];

/// Connects to each broker, given as `HOST:PORT` or a URL. Where this host has joined as an agent
/// (in `data`, or where agents keep it), each must also be of the installation it joined.
pub(super) fn brokers(brokers: &[String], data: Option<&Path>) -> Vec<Finding> {
    if brokers.is_empty() {
        let none = text("none named with --broker", "未用 --broker 指定");
        return vec![Finding::skip(Check::Brokers, none)];
    }
    let named = data.map(Path::to_owned).into_iter();
    let directories = named.chain(AGENT_DATA.map(Into::into));
    let joined = directories.map(|data| data.join(AGENT_TLS)).find_map(|tls| {
        // One that cannot be read may be another user's.
        net::Identity::open(&tls).ok().flatten()
    });
    brokers
        .iter()
        .map(|broker| {
            let reached = target(Check::Brokers, broker, 9_596);
            let wrong = joined.as_ref().filter(|_| reached.level == Level::Ok);
            wrong.and_then(|identity| foreign(broker, identity)).unwrap_or(reached)
        })
        .collect()
}

/// Says so if what listens there is a broker of another installation than the one this host joined.
fn foreign(broker: &str, identity: &Arc<net::Identity>) -> Option<Finding> {
    let (host, port) = host_and_port(broker, 9_596);
    let tls = identity.tls().ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let fault = runtime.block_on(net::try_broker(&format!("{host}:{port}"), &tls)).err()?;
    fault.get_ref()?.downcast_ref::<net::ForeignBroker>()?;
    let finding = Finding::fail(
        Check::Brokers,
        text(
            format!("{host}:{port} belongs to another installation than the one this host joined"),
            format!("{host}:{port} 属于另一个安装，与本机加入的不同"),
        ),
        text(
            "It does not let this host's agent in; what the agent collects stays on its disk.",
            "它不接受本机的 agent；采集的数据保留在本机磁盘上。",
        ),
    )
    .fix(text(
        "If the broker was set up anew, make a token there and start the agent once with --join.",
        "如果 broker 是重新安装的，请在其上创建令牌，并用 --join 启动一次 agent。",
    ))
    .command("watchfire token create".to_owned());
    Some(finding)
}

/// Connects to each proxy of the environment.
pub(super) fn proxies() -> Vec<Finding> {
    let mut named: Vec<String> =
        ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
            .into_iter()
            .filter_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
            .collect();
    named.sort();
    named.dedup();
    if named.is_empty() {
        let none = text("none in the environment", "环境变量中没有代理");
        return vec![Finding::ok(Check::Proxies, none)];
    }
    named.iter().map(|proxy| target(Check::Proxies, proxy, 80)).collect()
}

/// Host and port of `host`, `host:port` or a URL, without what stands before an `@`.
fn host_and_port(target: &str, default_port: u16) -> (String, u16) {
    let rest = target.split_once("://").map_or(target, |(_, rest)| rest);
    let rest = rest.split(['/', '?']).next().unwrap_or(rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    // A bare IPv6 address has colons and no port.
    let is_bare_v6 = rest.parse::<std::net::Ipv6Addr>().is_ok();
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !is_bare_v6 => (host, port.parse().unwrap_or(default_port)),
        _ => (rest, default_port),
    };
    (host.trim_matches(['[', ']']).to_owned(), port)
}

fn target(check: Check, target: &str, default_port: u16) -> Finding {
    let (host, port) = host_and_port(target, default_port);
    let addresses: Vec<SocketAddr> = match (host.as_str(), port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            return Finding::fail(
                check,
                text(
                    format!("{host} has no address: {error}"),
                    format!("{host} 无法解析：{error}"),
                ),
                text("The name cannot be looked up.", "域名解析失败。"),
            )
            .fix(text("Check the name and /etc/resolv.conf.", "请检查名称与 /etc/resolv.conf。"))
            .command(format!("getent hosts {}", super::machine::shell_word(&host)));
        }
    };
    let mut last = String::new();
    for address in &addresses {
        let began = Instant::now();
        match TcpStream::connect_timeout(address, PATIENCE) {
            Ok(_) => {
                let ms = began.elapsed().as_millis();
                return Finding::ok(
                    check,
                    text(
                        format!("{host}:{port} reached in {ms} ms"),
                        format!("{host}:{port} 可达，{ms} 毫秒"),
                    ),
                );
            }
            Err(error) => last = error.to_string(),
        }
    }
    Finding::fail(
        check,
        text(format!("{host}:{port}: {last}"), format!("{host}:{port}：{last}")),
        text(
            "Nothing can be sent there; agents keep it on disk until then.",
            "无法发送数据；在此期间 agent 会把数据保存在磁盘上。",
        ),
    )
    .fix(text(
        "Check that it runs and listens there, and what firewalls let through.",
        "请检查对端是否在运行并监听，以及防火墙规则。",
    ))
    .command(format!("nc -vz {} {port}", super::machine::shell_word(&host)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_client::Credentials;

    #[test]
    fn targets_are_read_in_all_their_forms() {
        for (text, host, port) in [
            ("b1", "b1", 9_596),
            ("b1:1", "b1", 1),
            ("https://b1:1/path", "b1", 1),
            ("http://user:pa@ss@proxy:3128", "proxy", 3_128),
            ("[::1]:7", "::1", 7),
            ("::1", "::1", 9_596),
        ] {
            assert_eq!(host_and_port(text, 9_596), (host.to_owned(), port), "{text}");
        }
    }

    #[test]
    fn what_listens_is_reached() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        assert_eq!(brokers(std::slice::from_ref(&address), None)[0].level, Level::Ok);
        let nothing = ["127.0.0.1:1".to_owned()];
        assert_eq!(brokers(&nothing, None)[0].level, Level::Fail);
        assert_eq!(brokers(&[], None)[0].level, Level::Skip);
        let nobody = ["no-such-host.invalid".to_owned()];
        assert_eq!(brokers(&nobody, None)[0].level, Level::Fail);
        let mut client = HttpClient::new("http://127.0.0.1:1", &Credentials::None).expect("client");
        assert_eq!(server(&mut client, false)[0].level, Level::Skip);
        assert_eq!(server(&mut client, true)[0].level, Level::Fail);
    }
}
