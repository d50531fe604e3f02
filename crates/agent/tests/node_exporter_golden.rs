//! The collectors over Node Exporter's own fixture host say what Node Exporter says about it.
//!
//! The fixtures lie beside the repository and are not part of it; without them nothing is tested.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use agent::{AgentConfig, HostAgent};
use model::MetricBatch;

/// Lines of one family: labels without job and instance, and the value's bits.
type Family = BTreeMap<Vec<(String, String)>, u64>;

/// Families of our collectors that the expected output cannot hold us to.
const EXCEPT: [&str; 11] = [
    // Switched on there by `--collector.cpu.info`, which is not the default.
    "node_cpu_bug_info",
    "node_cpu_flag_info",
    "node_cpu_info",
    "node_cpu_frequency_hertz",
    // Properties of the machine and the moment, not of the fixtures.
    "node_scrape_collector_duration_seconds",
    "node_scrape_collector_success",
    "node_time_seconds",
    "node_time_zone_offset_seconds",
    "node_uname_info",
    // Ours alone.
    "node_top_process_cpu_ratio",
    "node_top_process_resident_bytes",
];

/// Left out of the expected output by a switch that is not the default.
const EXCEPT_DEVICE: (&str, &str) = ("node_arp_entries", "nope");

fn fixtures() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/conformance/host-metrics/node-exporter-fixtures/collector/fixtures");
    root.is_dir().then_some(root)
}

/// sysfs consists of links, of which the fixtures hold one as a text file.
fn link_sysfs(fixtures: &Path, sys_root: &Path) -> std::io::Result<()> {
    let fixtures = fixtures.canonicalize()?;
    std::fs::create_dir_all(sys_root.join("class/net"))?;
    symlink(fixtures.join("sys/devices"), sys_root.join("devices"))?;
    symlink(fixtures.join("sys/block"), sys_root.join("block"))?;
    let net = sys_root.join("class/net");
    symlink(fixtures.join("sys/class/net/bond0"), net.join("bond0"))?;
    std::fs::write(net.join("bonding_masters"), "bond0 dmz int\n")?;
    let eth0 = "sys/devices/pci0000:00/0000:00:03.0/0000:03:00.0/net/eth0";
    symlink(fixtures.join(eth0), net.join("eth0"))
}

fn collect(fixtures: &Path, sys_root: &Path) -> MetricBatch {
    let config = AgentConfig {
        proc_root: fixtures.join("proc"),
        sys_root: sys_root.to_owned(),
        root_fs: fixtures.to_owned(),
        udev_root: fixtures.join("udev/data"),
        instance: "fixture".to_owned(),
        // Its mounts are those of the machine on which the fixtures were taken.
        disabled_collectors: vec!["filesystem".to_owned()],
        ..AgentConfig::default()
    };
    let (agent, mut receiver) = HostAgent::start(config).expect("agent starts");
    let batch = receiver.recv().expect("first pass");
    agent.stop();
    batch
}

fn ours(batch: &MetricBatch) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for series in &batch.series {
        let labels = model::Labels::from_packed(batch.label_bytes_of(series)).expect("packed");
        let own = labels.iter().filter(|(name, _)| !["__name__", "job", "instance"].contains(name));
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let value = batch.values[series.first_row as usize];
        let family = families.entry(labels.metric_name().expect("named").to_owned()).or_default();
        assert_eq!(family.insert(own, value.to_bits()), None, "twice: {labels}");
    }
    families
}

fn expected(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect("series and value");
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').expect("closed")),
            None => (series, ""),
        };
        let value: f64 = value.parse().expect("number");
        let family = families.entry(name.to_owned()).or_default();
        family.insert(parse_labels(labels), value.to_bits());
    }
    families
}

/// Labels with an empty value are the same as absent ones.
fn parse_labels(text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some((name, tail)) = rest.split_once("=\"") {
        let end = tail.find('"').expect("closed quotes");
        if end > 0 {
            labels.push((name.trim_start_matches(',').to_owned(), tail[..end].to_owned()));
        }
        rest = &tail[end + 1..];
    }
    labels.sort();
    labels
}

/// Name, type and help of each family of the collectors that we have.
fn families_of_our_collectors(table: &str) -> BTreeMap<String, (String, String)> {
    let ours: BTreeSet<&str> = [
        "cpu",
        "cpufreq",
        "stat",
        "meminfo",
        "loadavg",
        "pressure",
        "vmstat",
        "diskstats",
        "netstat",
        "sockstat",
        "softnet",
        "conntrack",
        "filefd",
        "entropy",
        "time",
        "uname",
        "os",
        "netclass",
        "arp",
        "schedstat",
        "udp_queues",
        "processes",
    ]
    .into();
    table
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|columns| ours.contains(columns[3]))
        .map(|columns| (columns[0].to_owned(), (columns[1].to_owned(), columns[2].to_owned())))
        .collect()
}

#[test]
fn the_fixture_host_is_described_as_node_exporter_describes_it() {
    let Some(fixtures) = fixtures() else { return };
    let directory = tempfile::tempdir().expect("temporary directory");
    link_sysfs(&fixtures, directory.path()).expect("links");
    let batch = collect(&fixtures, directory.path());
    let ours = ours(&batch);
    let text = std::fs::read_to_string(fixtures.join("e2e-output.txt")).expect("expected output");
    let expected = expected(&text);
    let table = fixtures.join("../../../node_exporter_families.tsv");
    let table = std::fs::read_to_string(table).expect("table of families");
    let described = families_of_our_collectors(&table);

    let mut compared = (0, 0);
    let mut wrong = Vec::new();
    for name in described.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
        if EXCEPT.contains(&name.as_str()) {
            continue;
        }
        let empty = Family::new();
        let (want, got) = (expected.get(name).unwrap_or(&empty), ours.get(name).unwrap_or(&empty));
        compared = (compared.0 + usize::from(!want.is_empty()), compared.1 + want.len());
        for labels in want.keys().chain(got.keys()).collect::<BTreeSet<_>>() {
            let device = labels.iter().find(|(label, _)| label == "device");
            if device.is_some_and(|(_, device)| EXCEPT_DEVICE == (name, device)) {
                continue;
            }
            let value = |family: &Family| family.get(labels).map(|bits| f64::from_bits(*bits));
            if want.get(labels) != got.get(labels) {
                let (want, got) = (value(want), value(got));
                wrong.push(format!("{name}{labels:?}: expected {want:?}, collected {got:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} lines differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared.0 >= 200 && compared.1 >= 550, "only {compared:?} families and lines");
    for metadata in &batch.metadata {
        let Some((kind, help)) = described.get(&metadata.metric) else { continue };
        let kind = if kind == "untyped" { "unknown" } else { kind };
        let got = (metadata.kind.as_str(), metadata.help.as_str());
        assert_eq!(got, (kind, help.as_str()), "{}", metadata.metric);
    }
}
