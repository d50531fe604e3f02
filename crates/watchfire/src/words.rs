//! What a start tells its user.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use agent::Agent;
use agent::logs::LogsConfig;

use crate::admin::data_flag;
use crate::config::{AgentRole, ConsoleRole, ShownCluster};

/// The lines printed when the server listens. The commands among them work as they stand, wherever
/// the program lies.
pub(crate) fn banner(
    scheme: &str,
    address: SocketAddr,
    data: &Path,
    found: &[String],
    setup: Option<&str>,
) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "watchfire".to_owned());
    let address = reachable(address);
    let mut text = format!(
        "Watchfire {} is listening\n\n  console     {scheme}://{address}\n  data        {}\n",
        env!("CARGO_PKG_VERSION"),
        data.display()
    );
    for (index, line) in found.iter().enumerate() {
        let label = if index == 0 { "found" } else { "" };
        text.push_str(&format!("  {label:<11} {line}\n"));
    }
    if let Some(link) = setup {
        text.push_str(&format!(
            "\n  There is no user yet. Open this link to make the first one, an administrator:\n\n  \
             {link}\n"
        ));
    }
    // Where there is a login, every program needs a token, and the built-in authority's file to
    // know the server by.
    if scheme == "https" {
        let (ca_file, flag) = (data.join("tls/ca.pem"), data_flag(Some(data)));
        text.push_str(&format!(
            "\n  other programs need a token, which `{program} token{flag} create --scope read,write` \
             makes,\n  and know this server by {}\n",
            ca_file.display()
        ));
    }
    text.push_str(&format!(
        "\n  query       {program} query --url {scheme}://{address} 'node_load1'\n  \
         Prometheus  remote_write: [{{url: {scheme}://{address}/api/v1/write}}]\n  \
         Promtail    clients: [{{url: {scheme}://{address}/loki/api/v1/push}}]\n  \
         Grafana     Prometheus and Loki data sources, URL {scheme}://{address}\n"
    ));
    text
}

/// The same for an agent.
pub(crate) fn agent_banner(
    address: SocketAddr,
    name: &str,
    role: &AgentRole,
    agent: &Agent,
) -> String {
    let mut text = format!(
        "Watchfire {} collects this host as {name}\n\n  brokers     {}\n  data        {}\n  \
         metrics     http://{}/metrics\n",
        env!("CARGO_PKG_VERSION"),
        role.brokers.join(", "),
        role.data.display(),
        reachable(address)
    );
    if role.logs.lines.is_some() {
        text.push_str(&format!("  logs        http://{}/collection\n", reachable(address)));
    }
    let mut found = agent.host().map(|host| host.found().to_vec()).unwrap_or_default();
    found.extend(role.logs.lines.as_ref().and_then(LogsConfig::found));
    for (index, line) in found.iter().enumerate() {
        let label = if index == 0 { "found" } else { "" };
        text.push_str(&format!("  {label:<11} {line}\n"));
    }
    text
}

/// The same for a console in a process of its own.
pub(crate) fn console_banner(
    scheme: &str,
    address: SocketAddr,
    name: &str,
    role: &ConsoleRole,
    setup: Option<&str>,
) -> String {
    let address = reachable(address);
    let brokers: Vec<String> = role.clusters.iter().map(ShownCluster::words).collect();
    let mut text = format!(
        "Watchfire {} shows what its brokers have, as the console {name}\n\n  \
         console     {scheme}://{address}\n  brokers     {}\n  data        {}\n",
        env!("CARGO_PKG_VERSION"),
        brokers.join("\n              "),
        role.config.data.display()
    );
    if let Some(link) = setup {
        text.push_str(&format!(
            "\n  There is no user yet. Open this link to make the first one, an administrator:\n\n  \
             {link}\n"
        ));
    }
    text
}

/// Where other hosts reach a listener: by this host's name, if it listens on all its addresses.
pub(crate) fn elsewhere(address: SocketAddr) -> String {
    if !address.ip().is_unspecified() {
        return address.to_string();
    }
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{name}:{}", address.port())
}

/// Where this host reaches a listener on all its addresses; any other address as it is.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banner_names_addresses_that_can_be_opened() {
        let banner = |address: &str| {
            let found = ["host a".to_owned()];
            banner("http", address.parse().expect("address"), Path::new("/d"), &found, None)
        };
        assert!(banner("127.0.0.1:1").contains("console     http://127.0.0.1:1\n"));
        assert!(banner("0.0.0.0:1").contains("console     http://127.0.0.1:1\n"));
        assert!(banner("[::]:1").contains("console     http://[::1]:1\n"));
        assert!(banner("10.0.0.7:1").contains("{url: http://10.0.0.7:1/api/v1/write}"));
        assert!(banner("10.0.0.7:1").contains("Loki data sources, URL http://10.0.0.7:1\n"));
    }
}
