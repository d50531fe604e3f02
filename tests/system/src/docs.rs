//! What is documented is there, and what is there is documented: metrics, flags, keys, routes.

mod recipes;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::browser::root;
use crate::harness::{Group, Launch, Scratch, process};

/// Comparisons of `docs/operating` with the program.
pub(crate) const GROUP: Group = Group {
    name: "docs",
    tests: &[
        ("metrics", metrics),
        ("flags", flags),
        ("configuration-keys", configuration_keys),
        ("banner-and-environment", banner_and_environment),
        ("commands", recipes::commands),
        ("three-servers", recipes::three_servers),
    ],
};

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| format!("read {path}"))
}

/// Cells of the rows of all tables in a page, without backticks and without heads.
fn table_rows(page: &str) -> Vec<Vec<String>> {
    page.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells = line.trim_matches('|').split(" | ");
            cells.map(|cell| cell.trim().replace('`', "")).collect()
        })
        .collect()
}

fn same(kind: &str, documented: &BTreeSet<String>, there: &BTreeSet<String>) -> Result<()> {
    let missing: Vec<_> = there.difference(documented).collect();
    let invented: Vec<_> = documented.difference(there).collect();
    ensure!(missing.is_empty(), "{kind} not documented: {missing:?}");
    ensure!(invented.is_empty(), "{kind} documented but not there: {invented:?}");
    Ok(())
}

/// Every metric of `/metrics`, with its type, is in `metrics.md`, and the other way round.
fn metrics(scratch: &Scratch) -> Result<String> {
    let server = Launch::all(&scratch.join("data")).start()?;
    let client = server.client();
    // The counters of the collectors begin with the first pass.
    let begin = std::time::Instant::now();
    while client.metric("watchfire_agent_passes_total")? < 2.0 {
        ensure!(begin.elapsed().as_secs() < 10, "no two passes in 10 s");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let page = client.get("/metrics")?.text();
    server.stop()?;
    let there: BTreeMap<String, String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    let helped = page.lines().filter(|line| line.starts_with("# HELP ")).count();
    ensure!(helped == there.len(), "{helped} of {} families have help", there.len());
    let documented: BTreeMap<String, String> = table_rows(&read("docs/operating/metrics.md")?)
        .into_iter()
        .map(|cells| (unlabelled(&cells[0]), cells[1].clone()))
        .collect();
    same("metrics", &documented.keys().cloned().collect(), &there.keys().cloned().collect())?;
    for (name, kind) in &there {
        ensure!(documented[name] == *kind, "{name} is a {kind}, not a {}", documented[name]);
        let is_total = name.ends_with("_total");
        ensure!(is_total == (kind == "counter"), "{name} is a {kind}");
    }
    Ok(format!("{} metrics", there.len()))
}

/// `name{label}` without its labels.
fn unlabelled(name: &str) -> String {
    name.split('{').next().unwrap_or_default().to_owned()
}

/// Every flag and environment variable of every subcommand's `--help`.
fn flags(_: &Scratch) -> Result<String> {
    let page = read("docs/operating/configuration.md")?;
    let mut seen = BTreeSet::new();
    let subcommands: [&[&str]; 11] = [
        &[],
        &["broker"],
        &["agent"],
        &["console"],
        &["query"],
        &["import", "prometheus"],
        &["migrate"],
        &["delete"],
        &["snapshot"],
        &["cluster", "status"],
        &["drain"],
    ];
    for subcommand in subcommands {
        let output = Command::new(process::binary())
            .args(subcommand)
            .arg("--help")
            .output()
            .context("run --help")?;
        ensure!(output.status.success(), "--help ended with {}", output.status);
        let help = String::from_utf8(output.stdout)?;
        for word in help.split([' ', '\n', ',', '=', ']', '[', '`', ':']) {
            let is_flag = word.strip_prefix("--").is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
            });
            if is_flag || word.starts_with("WATCHFIRE_") {
                seen.insert(word.to_owned());
            }
        }
    }
    // What every program has, and an example's flag of curl.
    let conventional = ["--help", "--version", "--data-binary"];
    let missing: Vec<_> = seen
        .iter()
        .filter(|word| !conventional.contains(&word.as_str()) && !page.contains(word.as_str()))
        .collect();
    ensure!(missing.is_empty(), "not in configuration.md: {missing:?}");
    ensure!(seen.len() >= 15, "--help shows only {seen:?}");
    let documented = page.split(['`', ' ', '(', ')']).filter(|word| word.starts_with("--"));
    let invented: Vec<_> = documented.filter(|word| !seen.contains(*word)).collect();
    ensure!(invented.is_empty(), "documented but not in --help: {invented:?}");
    Ok(format!("{} flags and variables", seen.len()))
}

/// Every key of the file is documented, and every documented one is read.
fn configuration_keys(_: &Scratch) -> Result<String> {
    let documented: BTreeSet<String> = table_rows(&read("docs/operating/configuration.md")?)
        .into_iter()
        .filter(|cells| cells.len() >= 4 && !cells[0].starts_with('-'))
        .flat_map(|cells| cells[0].split(", ").map(str::to_owned).collect::<Vec<_>>())
        // What lists and maps hold is told in words.
        .map(|key| {
            key.split(['[', '<']).next().unwrap_or_default().trim_end_matches('.').to_owned()
        })
        .collect();
    let source = read("crates/watchfire/src/config/keys.rs")?;
    let fields = fields_in_source(&source);
    let mut there = BTreeSet::new();
    collect_keys("", "File", &fields, &mut there);
    same("configuration keys", &documented, &there)?;
    Ok(format!("{} keys", there.len()))
}

/// Name and type of the fields of each structure.
fn fields_in_source(source: &str) -> BTreeMap<&str, Vec<(&str, &str)>> {
    let mut fields: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    let mut structure = None;
    for line in source.lines() {
        if let Some(name) = line.strip_prefix("pub(super) struct ") {
            structure = Some(name.trim_end_matches(" {"));
        } else if line == "}" {
            structure = None;
        } else if let (Some(structure), Some((name, kind))) =
            (structure, line.trim().strip_prefix("pub(super) ").and_then(|l| l.split_once(": ")))
        {
            fields.entry(structure).or_default().push((name, kind.trim_end_matches(',')));
        }
    }
    fields
}

/// The keys of a structure as `section.key`, those of structures in it included.
fn collect_keys(
    before: &str,
    structure: &str,
    fields: &BTreeMap<&str, Vec<(&str, &str)>>,
    keys: &mut BTreeSet<String>,
) {
    for (name, kind) in fields.get(structure).into_iter().flatten() {
        if fields.contains_key(kind) {
            collect_keys(&format!("{before}{name}."), kind, fields, keys);
        } else {
            keys.insert(format!("{before}{name}"));
        }
    }
}

/// The start says where everything is, and takes what flags say from the environment too.
fn banner_and_environment(scratch: &Scratch) -> Result<String> {
    let config = scratch.join("from-environment.yml");
    std::fs::write(&config, "agent:\n  instance: attic\n")?;
    let data = scratch.join("data");
    let server = Launch::all(&data)
        .env("WATCHFIRE_CONFIG", &config.display().to_string())
        .env("WATCHFIRE_LOG", "debug")
        .start()?;
    let client = server.client();
    let banner = server.stdout();
    let url = format!("http://{}", client.address());
    for told in [url.as_str(), &data.display().to_string(), "host attic"] {
        ensure!(banner.contains(told), "the banner does not tell {told}: {banner}");
    }
    let config = client.get("/api/v1/status/config")?.text();
    ensure!(config.contains("attic"), "the file named by WATCHFIRE_CONFIG is not in effect");
    let command = banner.lines().find_map(|line| line.trim().strip_prefix("query "));
    let command = command.context("the banner has no query to paste")?.trim();
    let begin = std::time::Instant::now();
    loop {
        let output = Command::new("sh").args(["-c", command]).output().context("start sh")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        if text.contains("node_load1") && text.contains("attic") {
            break;
        }
        ensure!(begin.elapsed().as_secs() < 5, "{command} prints {text:?}");
    }
    server.stop()?;
    Ok("URL, data, host, a query that runs; 2 variables".to_owned())
}
