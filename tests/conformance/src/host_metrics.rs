//! The agent's collectors over Node Exporter's fake host, line by line, and over this host.
//!
//! The directory holds `node-exporter-fixtures/collector/fixtures` and the tables of families and
//! of a dashboard's metrics.

mod archive;
mod exposition;
mod families;
mod host;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use agent::{AgentConfig, BackendLabel, CollectorSettings, DeviceSettings, IpvsSettings, Pattern};
use anyhow::Context;
use regex::Regex;

use crate::case::CaseResult;
use exposition::{Exposition, name_of, shown};
use host::{Observed, observe, unpack_fixtures};

/// The results and what is worth knowing beside them.
pub(crate) struct Run {
    pub(crate) results: Vec<CaseResult>,
    pub(crate) summary: Vec<String>,
}

/// Lines of the expected output that belong to the machine on which it was made, as the README
/// beside the fixtures names them.
const OF_THE_MACHINE: &str = "^(go_|node_exporter_build_info|node_scrape_collector_duration_seconds|process_|node_textfile_mtime_seconds|node_time_(zone|seconds)|node_network_(receive|transmit)_(bytes|packets)_total)";

/// The same, for what is no collector's.
const OF_THE_SERVER: &str = "^promhttp_";

/// What comes from the network stack of the kernel that runs; Node Exporter's tests put a file in
/// its place. The tables below say whether the agent has it.
const OF_THE_KERNEL: &str = "^(node_qdisc_|node_network_route)";

/// Collectors that Node Exporter's own run has switched off, and the one that it runs over the
/// machine it is on.
const NOT_RUN: [&str; 8] =
    ["filesystem", "netdev", "network_route", "selinux", "systemd", "tcpstat", "timex", "uname"];

/// Runs all cases of `directory`. Changes the working directory, since some metrics bear paths.
///
/// # Errors
/// Files that are missing, and collectors that do not answer.
pub(crate) fn run(directory: &Path) -> anyhow::Result<Run> {
    let directory = std::path::absolute(directory)?;
    let fixtures = directory.join("node-exporter-fixtures/collector/fixtures");
    let root = tempfile::tempdir().context("make a temporary directory")?;
    unpack_fixtures(&fixtures, root.path()).context("unpack the fake host")?;
    std::env::set_current_dir(root.path()).context("go to the fake host")?;

    let mut results = Vec::new();
    let fake = observe(fake_host()).context("collect the fake host")?;
    let mut observed = observe_network().context("collect this host's loopback")?;
    observed.samples.extend(fake.exposition.samples.clone());
    observed.families.extend(fake.exposition.families.clone());
    compare(&fixtures.join("e2e-output.txt"), &observed, &mut results)?;
    results.extend(fake.doubled.iter().map(|series| doubled(series)));
    compare_variants(&fixtures, &mut results)?;
    let real = observe(this_host()).context("collect this host")?;
    results.extend(real.doubled.iter().map(|series| doubled(series)));
    let summary = families::check(&directory, &fake, &real, &mut results)?;
    Ok(Run { results, summary })
}

fn doubled(series: &str) -> CaseResult {
    CaseResult {
        name: series.to_owned(),
        file: PathBuf::from("agent"),
        line: 0,
        outcome: Err("the series came twice in one pass".to_owned()),
    }
}

fn pattern(text: &str) -> Option<Pattern> {
    Some(Pattern::try_from(text).expect("the suite's own expressions are valid"))
}

/// The names of all collectors that a predicate takes.
fn collectors(take: impl Fn(&str) -> bool) -> Vec<String> {
    let names = agent::COLLECTORS.iter().map(|info| info.name);
    names.filter(|name| take(name)).map(str::to_owned).collect()
}

/// The roots of the fake host, with nothing running.
fn roots() -> AgentConfig {
    AgentConfig {
        proc_root: PathBuf::from("collector/fixtures/proc"),
        sys_root: PathBuf::from("collector/fixtures/sys"),
        root_fs: PathBuf::from("collector/fixtures"),
        udev_root: PathBuf::from("collector/fixtures/udev/data"),
        instance: "fixture".to_owned(),
        ..AgentConfig::default()
    }
}

/// Only these collectors on the fake host.
fn only(names: &[&str], settings: CollectorSettings) -> AgentConfig {
    AgentConfig {
        enabled_collectors: collectors(|name| names.contains(&name)),
        disabled_collectors: collectors(|name| !names.contains(&name)),
        collectors: settings,
        ..roots()
    }
}

/// The flags of Node Exporter's own end-to-end run.
fn fake_host() -> AgentConfig {
    let mut settings = CollectorSettings::default();
    settings.arp.device_exclude = pattern("nope");
    settings.bcache.priority_stats = true;
    settings.cpu_info.bugs_include = pattern("^(cpu_meltdown|spectre_.*|mds)$");
    settings.cpu_info.flags_include = pattern("^(aes|avx.?|constant_tsc)$");
    settings.hwmon.chip_include =
        pattern("(applesmc|asus_nb_wmi|coretemp|hwmon4|ieee80211|nct6779)");
    settings.netclass.ignored_devices = pattern("(dmz|int)");
    settings.sysctl.include = ["kernel.threads-max", "fs.file-nr", "fs.file-nr:total,current,max"]
        .map(str::to_owned)
        .to_vec();
    settings.sysctl.include_info = vec!["kernel.seccomp.actions_avail".to_owned()];
    let runs = |name: &str| !NOT_RUN.contains(&name) && !families::ONLY_OURS.contains(&name);
    AgentConfig {
        enabled_collectors: collectors(runs),
        disabled_collectors: collectors(|name| !runs(name)),
        textfile_directories: vec![PathBuf::from("collector/fixtures/textfile/two_metric_files/")],
        collectors: settings,
        ..roots()
    }
}

/// Whether the value is that of a device of this host, so that it is enough that there is one.
fn is_of_this_host(series: &exposition::Series) -> bool {
    series.get("device").is_some_and(|device| device == "lo")
        && name_of(series).starts_with("node_network_")
}

/// Node Exporter asks the machine it runs on for the traffic of its loopback device; the fake
/// host has none.
fn observe_network() -> anyhow::Result<Exposition> {
    let netdev = DeviceSettings { device_include: pattern("^lo$"), device_exclude: None };
    let config = AgentConfig {
        disabled_collectors: collectors(|name| name != "netdev"),
        collectors: CollectorSettings { netdev, ..CollectorSettings::default() },
        ..AgentConfig::default()
    };
    Ok(observe(config)?.exposition)
}

/// This host, with every collector.
fn this_host() -> AgentConfig {
    AgentConfig { enabled_collectors: collectors(|_| true), ..AgentConfig::default() }
}

/// Compares every line and every family of an expected output.
fn compare(
    file: &Path,
    observed: &Exposition,
    results: &mut Vec<CaseResult>,
) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let expected = Exposition::parse(&text).with_context(|| file.display().to_string())?;
    let skipped = [OF_THE_MACHINE, OF_THE_SERVER, OF_THE_KERNEL, &families::left_out_expression()]
        .map(|text| Regex::new(text).expect("the suite's own expressions are valid"));
    let is_skipped = |name: &str| skipped.iter().any(|regex| regex.is_match(name));
    let mut case = |name: String, line: usize, outcome: Result<(), String>| {
        results.push(CaseResult { name, file: file.to_owned(), line, outcome });
    };
    let mut names = BTreeSet::new();
    for (series, (want, line)) in &expected.samples {
        names.insert(name_of(series));
        if is_skipped(name_of(series)) || is_of_left_out(series) {
            continue;
        }
        let outcome = match observed.samples.get(series) {
            None => Err("missing".to_owned()),
            Some(_) if is_of_this_host(series) => Ok(()),
            Some((got, _)) if got.to_bits() == want.to_bits() => Ok(()),
            Some((got, _)) => Err(format!("want {want}\ngot  {got}")),
        };
        case(shown(series), *line, outcome);
    }
    for series in observed.samples.keys() {
        let name = name_of(series);
        let surplus = names.contains(name) && !expected.samples.contains_key(series);
        if surplus && !is_skipped(name) && !families::is_only_ours(series) {
            case(shown(series), 0, Err("surplus".to_owned()));
        }
    }
    for (family, (kind, help, line)) in &expected.families {
        if is_skipped(family) || *line == 0 {
            continue;
        }
        let outcome = match observed.families.get(family) {
            None => Err("nothing is known about the family".to_owned()),
            Some((got, text, _)) if (got, text) == (kind, help) => Ok(()),
            Some((got, text, _)) => {
                Err(format!("want {} {help:?}\ngot  {} {text:?}", kind.as_str(), got.as_str()))
            }
        };
        case(format!("# TYPE {family}"), *line, outcome);
    }
    Ok(())
}

/// Whether this says how a collector fared that the agent does not have.
fn is_of_left_out(series: &exposition::Series) -> bool {
    let collector = series.get("collector").map_or("", String::as_str);
    name_of(series) == "node_scrape_collector_success"
        && agent::LEFT_OUT.iter().any(|left_out| left_out.name == collector)
}

/// The fake host with other flags, each with its own expected output.
fn compare_variants(fixtures: &Path, results: &mut Vec<CaseResult>) -> anyhow::Result<()> {
    for (file, labels) in [
        ("ip_vs_result.txt", None),
        ("ip_vs_result_lbs_none.txt", Some(vec![])),
        ("ip_vs_result_lbs_local_port.txt", Some(vec![BackendLabel::LocalPort])),
        (
            "ip_vs_result_lbs_local_address_local_port.txt",
            Some(vec![BackendLabel::LocalAddress, BackendLabel::LocalPort]),
        ),
    ] {
        let ipvs = IpvsSettings { backend_labels: labels };
        let settings = CollectorSettings { ipvs, ..CollectorSettings::default() };
        compare_variant(&fixtures.join(file), only(&["ipvs"], settings), results)?;
    }
    let mut settings = CollectorSettings::default();
    settings.pcidevice.names = true;
    settings.pcidevice.idsfile = Some(PathBuf::from("collector/fixtures/pci.ids"));
    let file = fixtures.join("pcidevice-names-output.txt");
    compare_variant(&file, only(&["pcidevice"], settings), results)?;

    let mut names: Vec<_> = std::fs::read_dir(fixtures.join("textfile"))
        .context("list the text files")?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    names.retain(|path| path.extension().is_some_and(|extension| extension == "out"));
    names.sort();
    for file in names {
        let stem = file.file_stem().and_then(|stem| stem.to_str()).context("a file has a name")?;
        // Named after what it does, not after its directories.
        let directory = if stem == "glob_extra_dimension" { "*_extra_dimension" } else { stem };
        let mut config = only(&["textfile"], CollectorSettings::default());
        config.textfile_directories = vec![Path::new("fixtures/textfile").join(directory)];
        compare_variant(&file, config, results)?;
    }
    Ok(())
}

fn compare_variant(
    file: &Path,
    config: AgentConfig,
    results: &mut Vec<CaseResult>,
) -> anyhow::Result<()> {
    if !file.exists() {
        return Ok(());
    }
    let observed: Observed = observe(config).with_context(|| file.display().to_string())?;
    compare(file, &observed.exposition, results)
}
