//! Commands and files that people copy: every flag of them is one of the program, every variable is read.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use settings::yaml::Document;

use super::read;
use crate::browser::root;
use crate::harness::{Scratch, process};

/// What stands for the program in them.
const PROGRAMS: [&str; 3] = ["watchfire ", "exec broker /usr/bin/watchfire ", "sudo watchfire "];

/// Asks for the help of a command as it would be typed: what is not a flag or a value of one is refused
/// before the help is shown.
fn understood(command: &str) -> Result<Output> {
    let program = process::binary().display().to_string();
    let output = Command::new("sh")
        .args(["-c", &format!("'{program}' {command} --help")])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .context("start sh")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "`watchfire {command}`: {said}");
    Ok(output)
}

/// The lines between fences of a page, those that go on in the next one joined.
fn fenced(page: &str) -> Vec<String> {
    let (mut lines, mut is_inside, mut begun) = (Vec::new(), false, String::new());
    for line in page.lines() {
        if line.starts_with("```") {
            is_inside = !is_inside;
        } else if is_inside {
            match line.strip_suffix('\\') {
                Some(part) => begun.push_str(part),
                None => lines.push(std::mem::take(&mut begun) + line),
            }
        }
    }
    lines
}

/// The arguments of the program in a line, if it runs it.
fn arguments(line: &str) -> Option<String> {
    let line = line.trim().trim_start_matches("$ ");
    let line = line.split(" #").next().unwrap_or_default();
    let rest = PROGRAMS.iter().find_map(|program| {
        let at = line.find(program)?;
        // `docker compose … exec` stands before it, or nothing.
        (at == 0 || line.starts_with("docker ")).then(|| &line[at + program.len()..])
    })?;
    let end = [" | ", " > ", " && "].iter().filter_map(|word| rest.find(word)).min();
    let words = rest[..end.unwrap_or(rest.len())].split(' ');
    Some(words.filter(|word| *word != "…").collect::<Vec<_>>().join(" "))
}

/// `KEY=VALUE` of a file of variables or a line of one.
fn variables(lines: impl Iterator<Item = String>) -> Vec<(String, String)> {
    let pairs = lines.filter_map(|line| {
        let (name, value) = line.trim().split_once('=')?;
        let is_name = name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        (is_name && !name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

/// What `watchfire broker` reads from its environment.
fn read_by_brokers() -> Result<BTreeSet<String>> {
    let help = String::from_utf8(understood("broker")?.stdout)?;
    let names = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    let mut names: BTreeSet<String> = names.map(str::to_owned).collect();
    ensure!(names.contains("WATCHFIRE_STORE"), "--help names {names:?}");
    // Of the log, and of Amazon's own tools.
    names
        .extend(["WATCHFIRE_LOG", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(str::to_owned));
    Ok(names)
}

/// Pages whose commands are typed as they stand.
fn pages() -> Result<Vec<String>> {
    let mut pages = vec!["README.md".to_owned()];
    for entry in std::fs::read_dir(root().join("docs/operating")).context("list docs/operating")? {
        let name = entry?.file_name().into_string().ok().context("a page's name is text")?;
        pages.push(format!("docs/operating/{name}"));
    }
    Ok(pages)
}

pub(super) fn commands(_: &Scratch) -> Result<String> {
    let mut count = 0;
    for page in pages()? {
        for command in fenced(&read(&page)?).iter().filter_map(|line| arguments(line)) {
            understood(&command).with_context(|| page.clone())?;
            count += 1;
        }
    }
    ensure!(count >= 40, "only {count} commands were found");
    Ok(format!("{count} commands"))
}

/// A text with `${NAME:-default}` and `${NAME:?why}` as compose fills it.
fn filled(text: &str, given: impl Fn(&str) -> Option<String>) -> Result<String> {
    let mut parts = text.split("${");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (variable, rest) = part.split_once('}').context("a variable has no end")?;
        let end = variable.find(':').unwrap_or(variable.len());
        let (name, otherwise) = variable.split_at(end);
        let default = otherwise.strip_prefix(":-").map(str::to_owned);
        let value = given(name).or(default);
        out +=
            &value.with_context(|| format!("{name} is needed and the recipe does not set it"))?;
        out += rest;
    }
    Ok(out)
}

/// Three servers with Garage beside each broker, by systemd and by compose.
pub(super) fn three_servers(scratch: &Scratch) -> Result<String> {
    let read_by_brokers = read_by_brokers()?;
    let page = read("docs/operating/three-servers.md")?;
    let (by_systemd, by_compose) =
        page.split_once("## With containers").context("the page has two ways")?;

    // systemd: what is written into broker.env, and what the file that is installed proposes.
    let broker_env = read("packaging/etc/broker.env")?;
    let proposed = broker_env.lines().map(|line| line.trim_start_matches("# ").to_owned());
    let unit = read("packaging/systemd/watchfire-broker.service")?;
    ensure!(unit.contains("EnvironmentFile=-/etc/watchfire/broker.env"), "{unit}");
    let mut count = 0;
    for (name, value) in
        variables(fenced(by_systemd).into_iter()).into_iter().chain(variables(proposed))
    {
        count += 1;
        if name == "WATCHFIRE_FLAGS" {
            understood(&format!("broker {value}"))?;
        } else {
            ensure!(read_by_brokers.contains(&name), "a broker does not read {name}");
        }
    }
    ensure!(count >= 15, "only {count} variables were found");

    // compose: a file that is YAML, with all that it needs in the recipe's .env.
    let template = read("packaging/compose/cluster.yml")?;
    let env: Vec<(String, String)> = variables(fenced(by_compose).into_iter());
    for (name, _) in &env {
        ensure!(template.contains(&format!("${{{name}")), "cluster.yml does not use {name}");
    }
    let flags = by_compose.split("WATCHFIRE_FLAGS=").nth(1).and_then(|rest| rest.split('`').next());
    let flags = flags.context("the recipe joins by flags")?.replace('\n', " ");
    let given = |name: &str| match name {
        "WATCHFIRE_FLAGS" => Some(flags.clone()),
        _ => env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()),
    };
    let text = filled(&template, given)?;
    let file: Value = yaml(&text)?;
    let broker = &file["services"]["broker"];
    let command = broker["command"].as_str().context("the broker has a command")?;
    ensure!(command.contains(&flags), "{command} is not with {flags}");
    understood(command)?;
    let environment = broker["environment"].as_object().context("the broker has an environment")?;
    for name in environment.keys() {
        ensure!(read_by_brokers.contains(name), "a broker does not read {name}");
    }
    let config = file["configs"]["watchfire.yml"]["content"].as_str();
    let kept = scratch.join("watchfire.yml");
    std::fs::write(&kept, config.context("cluster.yml has a configuration")?)?;
    checks(&kept)?;

    // Garage: files that the recipe names are there, with what it tells to fill in.
    let garage = read("packaging/garage/garage.toml")?;
    for word in ["THIS-SERVER", "\"SECRET\"", "bootstrap_peers = []", "data_fsync = true"] {
        ensure!(garage.contains(word), "garage.toml lacks {word}");
    }
    let setup = root().join("packaging/garage/setup.sh");
    let output = Command::new("sh").arg("-n").arg(&setup).output().context("start sh")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(format!("{count} variables by systemd, {} by compose", environment.len()))
}

/// The configuration loads.
fn checks(file: &Path) -> Result<()> {
    let output = Command::new(process::binary())
        .args(["check", "--config"])
        .arg(file)
        .output()
        .context("start watchfire check")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn yaml(text: &str) -> Result<Value> {
    let read = Document::parse("cluster.yml", text.as_bytes());
    read.and_then(|file| file.deserialize()).map_err(|faults| anyhow!("no YAML: {faults}"))
}
