//! What a start tells its user.

use std::net::SocketAddr;
use std::path::Path;

/// The lines printed when the server listens.
pub(crate) fn banner(address: SocketAddr, data: &Path, found: &[String]) -> String {
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
        "\n  query       watchfire query --url http://{address} 'node_load1'\n  \
         Prometheus  remote_write: [{{url: http://{address}/api/v1/write}}]\n  \
         Grafana     Prometheus data source, URL http://{address}\n"
    ));
    text
}
