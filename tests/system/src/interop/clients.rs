//! promtool and curl against a running Watchfire.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::peer::NodeExporter;
use crate::harness::{Client, Launch, Scratch, now_ms};

/// Runs `promtool query KIND FLAGS URL REST` and yields its lines, sorted: the API gives no order.
pub(super) fn promtool_query(
    client: &Client,
    kind: &str,
    flags: &[String],
    rest: &[&str],
) -> Result<Vec<String>> {
    let output = Command::new("promtool")
        .args(["query", kind])
        .args(flags)
        .arg(format!("http://{}", client.address()))
        .args(rest)
        .output()
        .context("start promtool; Debian's package prometheus brings it")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "promtool query {kind}: {} {told}", output.status);
    let mut lines: Vec<String> =
        String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

/// Feeds a page to `promtool check metrics` and yields whether it can be read and its complaints.
fn check_metrics(page: &str) -> Result<(bool, Vec<String>)> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start promtool")?;
    child.stdin.take().expect("standard input is piped").write_all(page.as_bytes())?;
    let output = child.wait_with_output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    // 3 means: readable, and there are complaints.
    let readable = matches!(output.status.code(), Some(0 | 3));
    Ok((readable, told.lines().map(str::to_owned).collect()))
}

/// Our own page follows the rules of names, types and help.
pub(super) fn own_metrics(scratch: &Scratch) -> Result<String> {
    let server = Launch::all(&scratch.join("data")).start()?;
    let answer = server.client().get("/metrics")?;
    let kind = answer.header("content-type").unwrap_or_default();
    ensure!(kind.starts_with("text/plain; version=0.0.4"), "content type {kind:?}");
    let page = answer.text();
    let (readable, complaints) = check_metrics(&page)?;
    ensure!(readable && complaints.is_empty(), "{complaints:?}");
    server.stop()?;
    Ok(format!("{} lines, no complaint", page.lines().count()))
}

/// Node Exporter's names that are younger than Debian's.
const YOUNGER: &[&str] = &["node_netstat_TcpExt_TCPOFOQueue", "node_netstat_TcpExt_TCPRcvQDrop"];

/// The host's series, written as a page with their metadata, follow the rules as well, but for
/// names that are Node Exporter's own and so must stay.
pub(super) fn agent_names(scratch: &Scratch) -> Result<String> {
    let server = Launch::all(&scratch.join("data")).start()?;
    let client = server.client();
    let begin = std::time::Instant::now();
    let series = loop {
        let data = client.data("/api/v1/query", &[("query", r#"{__name__=~"node_.+"}"#)])?;
        let series = data["result"].as_array().cloned().unwrap_or_default();
        if series.len() > 100 {
            break series;
        }
        ensure!(begin.elapsed().as_secs() < 10, "{} series of this host", series.len());
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    let metadata: Value = serde_json::from_slice(&client.get("/api/v1/metadata")?.body)?;
    server.stop()?;
    let mut names: Vec<&str> =
        series.iter().filter_map(|one| one["metric"]["__name__"].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut page = String::new();
    for name in &names {
        let known = &metadata["data"][name][0];
        let (kind, help) = (known["type"].as_str(), known["help"].as_str());
        let kind = kind.with_context(|| format!("{name} has no metadata"))?;
        // The text format's word for it.
        let kind = if kind == "unknown" { "untyped" } else { kind };
        page.push_str(&format!(
            "# HELP {name} {}\n# TYPE {name} {kind}\n{name} 1\n",
            help.unwrap_or("")
        ));
    }
    let (readable, complaints) = check_metrics(&page)?;
    ensure!(readable, "{complaints:?}");
    let exporter = NodeExporter::start(scratch)?;
    let inherited = exporter.client.get("/metrics")?.text();
    let new: Vec<_> = complaints
        .iter()
        .filter(|line| {
            let name = line.split(' ').next().unwrap_or_default();
            !inherited.contains(&format!("# TYPE {name} ")) && !YOUNGER.contains(&name)
        })
        .collect();
    ensure!(new.is_empty(), "{new:?}");
    Ok(format!("{} names, {} faults inherited", names.len(), complaints.len()))
}

/// What the README and `--help` tell users to type.
pub(super) fn curl_imports(scratch: &Scratch) -> Result<String> {
    let server = Launch::broker(&scratch.join("data")).start()?;
    let client = server.client();
    let url = format!("http://{}/api/v1/import/prometheus", client.address());
    let openmetrics = format!(
        "# TYPE jobs counter\n# HELP jobs Jobs done.\njobs_total{{queue=\"a b\"}} 7 {}.5\n# EOF\n",
        now_ms() / 1_000 - 1
    );
    let file = scratch.join("page.txt");
    std::fs::write(&file, &openmetrics)?;
    let from_file = format!("@{}", file.display());
    let cases: [(&[&str], &str, &str); 3] = [
        (&["--data-binary", r#"my_metric{a="b"} 1"#, &url], r#"my_metric{a="b"}"#, "1"),
        (
            &[
                "-H",
                "Content-Type: application/openmetrics-text",
                "--data-binary",
                &from_file,
                &url,
            ],
            r#"jobs_total{queue="a b"}"#,
            "7",
        ),
        (&["-T", "-", &url], "from_standard_input", "3"),
    ];
    for (arguments, query, wanted) in cases {
        let mut child = Command::new("curl")
            .args(["--silent", "--show-error", "--write-out", "%{http_code}"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start curl")?;
        child
            .stdin
            .take()
            .expect("standard input is piped")
            .write_all(b"from_standard_input 3\n")?;
        let output = child.wait_with_output()?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(told == "204", "curl {arguments:?} printed {told}");
        let data = client.data("/api/v1/query", &[("query", query)])?;
        ensure!(data["result"][0]["value"][1] == wanted, "{query}: {data}");
    }
    server.stop()?;
    Ok("3 ways".to_owned())
}
