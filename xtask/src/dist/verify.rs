//! Checks of what was made, with the tools that will read it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::stage::COMPLETIONS;
use super::{Release, archive};
use crate::process::{Counts, root};

/// `systemd-analyze security` counts from 0 (tight) to 100 (open).
const MOST_EXPOSED: &str = "25";

/// What a check looks at.
struct Made<'a> {
    release: &'a Release,
    output: &'a Path,
    staged: &'a Path,
    deb: &'a Path,
    image: &'a Path,
}

type Check = (&'static str, fn(&Made<'_>) -> Result<()>);

const CHECKS: [Check; 11] = [
    ("scripts are read by sh", scripts),
    ("units are tight and name real subcommands", units),
    ("completions know every subcommand", completions),
    ("manual pages render", manual_pages),
    ("compose.yml and .env agree", compose),
    ("configuration that is shipped is valid", configuration),
    ("install.sh installs and removes", install),
    ("install.sh refuses a damaged bundle", damaged),
    ("the package installs, purges and lists its files", package),
    ("the image is what docker load reads", image),
    ("a second packing has the same bytes", reproducible),
];

/// Runs all checks and prints those that fail.
pub(super) fn all(
    release: &Release,
    output: &Path,
    staged: &Path,
    deb: &Path,
    image: &Path,
) -> Result<Counts> {
    let made = Made { release, output, staged, deb, image };
    let mut counts = Counts::default();
    for (name, check) in CHECKS {
        match check(&made) {
            Ok(()) => counts.passed += 1,
            Err(error) => {
                counts.failed += 1;
                println!("  dist: FAILED: {name}: {error:#}");
            }
        }
    }
    let scratch = output.join("scratch");
    if scratch.exists() {
        std::fs::remove_dir_all(scratch).context("remove what the checks left")?;
    }
    Ok(counts)
}

/// Runs a program; fails with what it said unless it ends with 0. Yields its standard output.
fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{program} {}` failed: {said}{text}", arguments.join(" "));
    }
    Ok(text)
}

fn is_installed(program: &str) -> bool {
    Command::new("which").arg(program).stdout(Stdio::null()).status().is_ok_and(|s| s.success())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn scripts(made: &Made<'_>) -> Result<()> {
    let mut scripts = ["install.sh", "garage/setup.sh"].map(|name| made.staged.join(name)).to_vec();
    let debian = root().join("packaging/deb");
    scripts.extend(["postinst", "prerm", "postrm"].map(|name| debian.join(name)));
    for script in scripts {
        run("sh", &["-n", &shown(&script)])?;
        if is_installed("shellcheck") {
            run("shellcheck", &["--shell=sh", &shown(&script)])?;
        }
    }
    Ok(())
}

fn units(made: &Made<'_>) -> Result<()> {
    let program = shown(&made.staged.join("watchfire"));
    let units = archive::sorted(&made.staged.join("systemd"))?;
    ensure!(units.len() == 4, "there are {} units instead of 4", units.len());
    for unit in units {
        let text = std::fs::read_to_string(&unit)?;
        let name = shown(unit.file_name().context("a file has a name")?.as_ref());
        let command = text
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart=/usr/bin/watchfire "))
            .with_context(|| format!("{name} does not start /usr/bin/watchfire"))?;
        let mut words: Vec<&str> =
            command.split(' ').filter(|word| !word.starts_with('$')).collect();
        words.push("--help");
        run(&program, &words).with_context(|| name.clone())?;
        ensure!(text.contains("DynamicUser=yes"), "{name} has no user of its own");
        for file in text.lines().filter_map(|line| line.strip_prefix("EnvironmentFile=-")) {
            let staged = made.staged.join(file.replace("/etc/watchfire", "etc"));
            ensure!(staged.is_file(), "{name} reads {file}, which is not among the files");
        }
        run(
            "systemd-analyze",
            &[
                "security",
                "--offline=yes",
                "--no-pager",
                "--threshold",
                MOST_EXPOSED,
                &shown(&unit),
            ],
        )
        .map_err(|error| {
            let text = format!("{error:#}");
            anyhow::anyhow!("{name}: {}", text.lines().last().unwrap_or_default())
        })?;
    }
    Ok(())
}

/// Subcommands as the program's help lists them.
fn subcommands(made: &Made<'_>) -> Result<Vec<String>> {
    let help = run(&shown(&made.staged.join("watchfire")), &["--help"])?;
    let list = help.split_once("Commands:\n").context("--help lists no commands")?.1;
    let names: Vec<String> = list
        .lines()
        .take_while(|line| line.starts_with("  "))
        // Deeper lines go on with a description.
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_ascii_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect();
    ensure!(!names.is_empty(), "--help lists no commands");
    Ok(names)
}

fn completions(made: &Made<'_>) -> Result<()> {
    let names = subcommands(made)?;
    for (shell, file) in COMPLETIONS {
        let path = made.staged.join("completions").join(file);
        let text = std::fs::read_to_string(&path)?;
        for name in &names {
            ensure!(text.contains(name.as_str()), "{file} does not know {name}");
        }
        if is_installed(shell) {
            run(shell, &["-n", &shown(&path)])?;
        }
    }
    Ok(())
}

fn manual_pages(made: &Made<'_>) -> Result<()> {
    let mut wanted: BTreeSet<String> =
        subcommands(made)?.iter().map(|name| format!("watchfire-{name}.1")).collect();
    wanted.insert("watchfire.1".to_owned());
    for page in archive::sorted(&made.staged.join("man"))? {
        wanted.remove(&shown(page.file_name().context("a file has a name")?.as_ref()));
        if !is_installed("groff") {
            continue;
        }
        let output = Command::new("groff")
            .args(["-man", "-Kutf8", "-Tutf8", "-P-cbou", "-ww"])
            .arg(&page)
            .output()
            .context("start groff")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success() && said.is_empty(), "{}: {said}", page.display());
        ensure!(text.contains("SYNOPSIS"), "{} renders to nothing", page.display());
    }
    ensure!(wanted.is_empty(), "there is no page {wanted:?}");
    Ok(())
}

/// Every variable of the file has its line beside it and a default, and every line is used.
fn compose(made: &Made<'_>) -> Result<()> {
    let directory = made.staged.join("compose");
    let text = std::fs::read_to_string(directory.join("compose.yml"))?;
    let env = std::fs::read_to_string(directory.join(".env"))?;
    let keys: BTreeSet<&str> = env
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('=').map(|(key, _)| key))
        .collect();
    let mut used = BTreeSet::new();
    for variable in text.split("${").skip(1).filter_map(|rest| rest.split('}').next()) {
        let (name, _) = variable
            .split_once(":-")
            .with_context(|| format!("{variable} has no default in compose.yml"))?;
        used.insert(name);
    }
    ensure!(keys == used, ".env and compose.yml differ in {:?}", keys.symmetric_difference(&used));
    let cluster = std::fs::read_to_string(directory.join("cluster.yml"))?;
    let is_filled = |text: &String| !text.contains("@VERSION@");
    ensure!([&text, &env, &cluster].into_iter().all(is_filled), "the version was not filled in");
    if is_installed("docker") && run("docker", &["compose", "version"]).is_ok() {
        run(
            "docker",
            &["compose", "--file", &shown(&directory.join("compose.yml")), "config", "--quiet"],
        )?;
    }
    Ok(())
}

/// The file in /etc, and the one that compose.yml holds with all variables at their defaults.
fn configuration(made: &Made<'_>) -> Result<()> {
    let text = std::fs::read_to_string(made.staged.join("compose/compose.yml"))?;
    let (_, content) = text.split_once("content: |\n").context("compose.yml holds no file")?;
    let indent = "      ";
    let mut inline = String::new();
    for line in content.lines().map_while(|line| line.strip_prefix(indent)) {
        let mut parts = line.split("${");
        inline.push_str(parts.next().unwrap_or_default());
        for (_, rest) in parts.filter_map(|part| part.split_once(":-")) {
            inline.push_str(&rest.replacen('}', "", 1));
        }
        inline.push('\n');
    }
    let directory = scratch(made, "configuration")?;
    let compose = directory.join("compose.yml");
    std::fs::write(&compose, inline)?;
    for file in [compose, made.staged.join("etc/watchfire.yml")] {
        // Other findings are about this machine; the exit status counts them too.
        let output = Command::new(made.staged.join("watchfire"))
            .args(["doctor", "--json", "--lang", "en", "--data"])
            .arg(directory.join("data"))
            .arg("--config")
            .arg(&file)
            .output()
            .context("start watchfire doctor")?;
        let report: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("doctor --json is not JSON")?;
        let first = &report["checks"][0];
        ensure!(
            first["check"] == "configuration" && first["level"] == "ok",
            "{}: {}",
            file.display(),
            first["seen"]
        );
    }
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

/// A directory for one check, empty.
fn scratch(made: &Made<'_>, name: &str) -> Result<PathBuf> {
    let directory = made.output.join("scratch").join(name);
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn install_script(
    bundle: &Path,
    destination: &Path,
    more: &[&str],
) -> Result<std::process::Output> {
    Command::new("sh")
        .arg(bundle.join("install.sh"))
        .args(more)
        .env("DESTDIR", destination)
        .stdin(Stdio::null())
        .output()
        .context("start install.sh")
}

fn install(made: &Made<'_>) -> Result<()> {
    let root = scratch(made, "install")?;
    let prefix = ["--prefix", "/opt/watchfire"];
    for _ in 0..2 {
        let output = install_script(made.staged, &root, &prefix)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "install.sh failed: {said}");
    }
    let version = run(&shown(&root.join("opt/watchfire/bin/watchfire")), &["--version"])?;
    ensure!(version.contains(made.release.version), "the program is {version}");
    let unit = std::fs::read_to_string(root.join("etc/systemd/system/watchfire-agent.service"))?;
    ensure!(unit.contains("ExecStart=/opt/watchfire/bin/watchfire agent "), "{unit}");
    let output =
        install_script(made.staged, &root, &["--prefix", "/opt/watchfire", "--uninstall"])?;
    ensure!(output.status.success(), "--uninstall failed");
    let left = archive::files_below(&root)?;
    let foreign = left.iter().find(|path| !path.starts_with(root.join("etc/watchfire")));
    ensure!(foreign.is_none(), "{foreign:?} is left behind");
    ensure!(left.len() == 5, "configuration must stay, {} files did", left.len());
    std::fs::remove_dir_all(root)?;
    Ok(())
}

fn damaged(made: &Made<'_>) -> Result<()> {
    let directory = scratch(made, "damaged")?;
    let bundle = directory.join("bundle");
    super::stage::copy_tree(made.staged, &bundle)?;
    let mut text = std::fs::read(bundle.join("README.md"))?;
    text.push(b'!');
    std::fs::write(bundle.join("README.md"), text)?;
    let root = directory.join("root");
    let output = install_script(&bundle, &root, &[])?;
    ensure!(!output.status.success(), "a damaged bundle was installed");
    ensure!(!root.exists(), "something of it was installed");
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

/// Installs and purges below a directory; the scripts see it as `DPKG_ROOT`.
fn package(made: &Made<'_>) -> Result<()> {
    let conffiles = run("dpkg-deb", &["--info", &shown(made.deb), "conffiles"])?;
    ensure!(conffiles.lines().count() == 5, "conffiles: {conffiles}");
    let listed = run("dpkg-deb", &["--contents", &shown(made.deb)])?;
    ensure!(
        listed.lines().all(|line| line.split_ascii_whitespace().nth(1) == Some("root/root")),
        "not all files are root's"
    );
    let root = scratch(made, "package")?;
    for directory in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/private", "var/log"] {
        std::fs::create_dir_all(root.join(directory))?;
    }
    for file in ["status", "available"] {
        std::fs::write(root.join("var/lib/dpkg").join(file), "")?;
    }
    let flag = format!("--root={}", root.display());
    let dpkg = |arguments: &[&str]| -> Result<String> {
        let mut all = vec![flag.as_str(), "--force-script-chrootless", "--force-not-root"];
        all.extend(["--force-bad-path", "--log=/dev/null"]);
        all.extend(arguments);
        run("dpkg", &all)
    };
    dpkg(&["--install", &shown(made.deb)])?;
    ensure!(
        root.join("usr/lib/systemd/system/watchfire.service").is_file(),
        "no unit was installed"
    );
    run(&shown(&root.join("usr/bin/watchfire")), &["--version"])?;
    let wrong = dpkg(&["--verify", "watchfire"])?;
    ensure!(wrong.is_empty(), "dpkg --verify says {wrong}");
    // What a service would have left.
    std::fs::create_dir_all(root.join("var/lib/private/watchfire/log"))?;
    std::os::unix::fs::symlink("private/watchfire", root.join("var/lib/watchfire"))?;
    dpkg(&["--remove", "watchfire"])?;
    ensure!(root.join("etc/watchfire/watchfire.yml").is_file(), "removal took the configuration");
    ensure!(root.join("var/lib/private/watchfire/log").is_dir(), "removal took the data");
    dpkg(&["--purge", "watchfire"])?;
    for left in
        ["etc/watchfire", "var/lib/watchfire", "var/lib/private/watchfire", "usr/bin/watchfire"]
    {
        ensure!(!root.join(left).exists(), "purging left {left}");
    }
    std::fs::remove_dir_all(root)?;
    Ok(())
}

fn image(made: &Made<'_>) -> Result<()> {
    let directory = scratch(made, "image")?;
    run("tar", &["--extract", "--file", &shown(made.image), "--directory", &shown(&directory)])?;
    let read = |name: &str| -> Result<serde_json::Value> {
        let bytes = std::fs::read(directory.join(name)).with_context(|| format!("read {name}"))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{name} is not JSON"))
    };
    let manifest = read("manifest.json")?;
    let name = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let (config, layer) = (name(&manifest[0]["Config"]), name(&manifest[0]["Layers"][0]));
    let sums = archive::sha256(&[directory.join(&config), directory.join(&layer)])?;
    ensure!(config == format!("{}.json", sums[0]), "the configuration is not named by its sum");
    let diff_id = name(&read(&config)?["rootfs"]["diff_ids"][0]);
    ensure!(diff_id == format!("sha256:{}", sums[1]), "the layer is not {diff_id}");
    let listed = run(
        "tar",
        &["--list", "--verbose", "--numeric-owner", "--file", &shown(&directory.join(layer))],
    )?;
    let has = |mode: &str, owner: &str, path: &str| {
        listed.lines().any(|line| {
            line.starts_with(mode) && line.contains(&format!(" {owner} ")) && line.ends_with(path)
        })
    };
    ensure!(has("-rwxr-xr-x", "0/0", " usr/bin/watchfire"), "no program in {listed}");
    ensure!(has("drwxr-x---", "65532/65532", " var/lib/watchfire/"), "no data in {listed}");
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

fn reproducible(made: &Made<'_>) -> Result<()> {
    let directory = scratch(made, "again")?;
    let again = directory.join(made.image.file_name().context("a file has a name")?);
    super::image::build(made.release, made.staged, &again)?;
    let name = made.release.name();
    let first = made.output.join(format!("{name}.tar.gz"));
    let packed = directory.join("again.tar.gz");
    // Packed alike, whatever the effort was.
    super::archive::pack(made.release, made.output, &name, &packed, super::Effort::Fast)?;
    let unpacked = |path: &Path| -> Result<String> {
        let sum = run("sh", &["-c", &format!("gzip -dc '{}' | sha256sum", path.display())])?;
        Ok(sum)
    };
    ensure!(unpacked(&first)? == unpacked(&packed)?, "the archive differs");
    let sums = archive::sha256(&[made.image.to_owned(), again])?;
    ensure!(sums[0] == sums[1], "the image differs");
    Ok(())
}
