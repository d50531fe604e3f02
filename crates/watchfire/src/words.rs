//! What a start tells its user.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The lines printed when the server listens. The commands among them work as they stand, wherever
/// the program lies.
pub(crate) fn banner(address: SocketAddr, data: &Path, found: &[String]) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "watchfire".to_owned());
    let address = reachable(address);
    let mut text = format!(
        "Watchfire {} is listening\n\n  console     http://{address}\n  data        {}\n",
        env!("CARGO_PKG_VERSION"),
        data.display()
    );
    for (index, line) in found.iter().enumerate() {
        let label = if index == 0 { "found" } else { "" };
        text.push_str(&format!("  {label:<11} {line}\n"));
    }
    text.push_str(&format!(
        "\n  query       {program} query --url http://{address} 'node_load1'\n  \
         Prometheus  remote_write: [{{url: http://{address}/api/v1/write}}]\n  \
         Grafana     Prometheus data source, URL http://{address}\n"
    ));
    text
}

/// Where this host reaches a listener on all its addresses; any other address as it is.
fn reachable(address: SocketAddr) -> SocketAddr {
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
            banner(address.parse().expect("address"), Path::new("/d"), &["host a".to_owned()])
        };
        assert!(banner("127.0.0.1:1").contains("console     http://127.0.0.1:1\n"));
        assert!(banner("0.0.0.0:1").contains("console     http://127.0.0.1:1\n"));
        assert!(banner("[::]:1").contains("console     http://[::1]:1\n"));
        assert!(banner("10.0.0.7:1").contains("{url: http://10.0.0.7:1/api/v1/write}"));
    }
}
