//! `dns_sd_configs`: targets from the records of names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use net::client::{Dns, DnsRecord, DnsRecordKind};
use settings::TargetGroup;
use settings::prometheus::{DnsDiscovery, DnsRecordType};

use crate::counters::{DiscoveryCounters, count};
use crate::standing::Standing;
use crate::{Report, groups};

/// Lookups of one block under way at once.
const PARALLEL: usize = 64;

pub(super) async fn run(
    config: DnsDiscovery,
    dns: Arc<Dns>,
    report: Report,
    counters: Arc<DiscoveryCounters>,
) {
    let kind = match config.record_type {
        DnsRecordType::Srv => DnsRecordKind::Srv,
        DnsRecordType::A => DnsRecordKind::A,
        DnsRecordType::Aaaa => DnsRecordKind::Aaaa,
        DnsRecordType::Mx => DnsRecordKind::Mx,
        DnsRecordType::Ns => DnsRecordKind::Ns,
    };
    let mut known: BTreeMap<&str, TargetGroup> = BTreeMap::new();
    let mut standings: BTreeMap<&str, Standing> = BTreeMap::new();
    let mut is_first = true;
    loop {
        let asked = Instant::now();
        let mut changed = is_first;
        for names in config.names.chunks(PARALLEL) {
            let lookups = names.iter().map(|name| async {
                let timely = tokio::time::timeout(config.refresh_interval, dns.records(name, kind));
                (name.as_str(), timely.await)
            });
            for (name, outcome) in join_all(lookups).await {
                count(&counters.dns_lookups);
                let standing = standings.entry(name).or_default();
                let reason = match outcome {
                    Ok(Ok(records)) => {
                        if let Some(failures) = standing.works() {
                            tracing::info!(name, failures, "lookup of targets works again");
                        }
                        let group = group(name, &records, config.port);
                        changed |= known.get(name) != Some(&group);
                        known.insert(name, group);
                        continue;
                    }
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "no answer in time".to_owned(),
                };
                count(&counters.dns_failures);
                if standing.fails(&reason) {
                    tracing::warn!(name, %reason, "lookup of targets failed; keeping those known");
                }
            }
        }
        if changed {
            is_first = false;
            report.send(known.values().cloned().collect()).await;
        }
        tokio::time::sleep_until((asked + config.refresh_interval).into()).await;
    }
}

fn group(name: &str, records: &[DnsRecord], port: u16) -> TargetGroup {
    let host_port = |host: &str, port: u16| format!("{}:{port}", host.trim_end_matches('.'));
    let mut targets = Vec::with_capacity(records.len());
    for record in records {
        let (address, label, value, srv_port) = match record {
            DnsRecord::Address(IpAddr::V4(ip)) => (format!("{ip}:{port}"), "", "", None),
            DnsRecord::Address(IpAddr::V6(ip)) => (format!("[{ip}]:{port}"), "", "", None),
            DnsRecord::Service { target, port } => (
                host_port(target, *port),
                "__meta_dns_srv_record_target",
                target.as_str(),
                Some(port.to_string()),
            ),
            DnsRecord::MailExchanger(host) => {
                (host_port(host, port), "__meta_dns_mx_record_target", host.as_str(), None)
            }
            DnsRecord::NameServer(host) => {
                (host_port(host, port), "__meta_dns_ns_record_target", host.as_str(), None)
            }
        };
        targets.push(groups::target([
            ("__address__", &address),
            ("__meta_dns_name", name),
            (if label.is_empty() { "__meta_dns_srv_record_target" } else { label }, value),
            ("__meta_dns_srv_record_port", srv_port.as_deref().unwrap_or_default()),
        ]));
    }
    // Servers rotate records; their order says nothing.
    targets.sort_unstable();
    TargetGroup { targets, labels: model::Labels::empty(), source: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_targets() {
        let records = [
            DnsRecord::Service { target: "b.example.".to_owned(), port: 9_100 },
            DnsRecord::Address("10.0.0.1".parse().expect("an address")),
            DnsRecord::Address("fd00::1".parse().expect("an address")),
            DnsRecord::MailExchanger("mx.example.".to_owned()),
        ];
        let shown: Vec<String> =
            group("n.example", &records, 80).targets.iter().map(ToString::to_string).collect();
        let expected = [
            r#"{__address__="10.0.0.1:80", __meta_dns_name="n.example"}"#,
            r#"{__address__="[fd00::1]:80", __meta_dns_name="n.example"}"#,
            r#"{__address__="b.example:9100", __meta_dns_name="n.example", __meta_dns_srv_record_port="9100", __meta_dns_srv_record_target="b.example."}"#,
            r#"{__address__="mx.example:80", __meta_dns_mx_record_target="mx.example.", __meta_dns_name="n.example"}"#,
        ];
        assert_eq!(shown, expected);
    }
}
