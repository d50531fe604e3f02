//! The Debian package.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::stage::{COMPLETIONS, put, set_mode, write};
use super::{Effort, Release, archive};
use crate::process::root;

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Builds the package of what is staged into `output`, and yields its path.
pub(super) fn build(
    release: &Release,
    staged: &Path,
    output: &Path,
    effort: Effort,
) -> Result<PathBuf> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let tree = output.join("deb");
    fill(staged, &tree)?;
    control(release, architecture, &tree)?;
    let package = output.join(format!("watchfire_{}_{architecture}.deb", release.version));
    let packing: &[&str] = match effort {
        Effort::Small => &["-Zxz", "--threads-max=1"],
        Effort::Fast => &["-Znone"],
    };
    let status = Command::new("dpkg-deb")
        .args(packing)
        .args(["--root-owner-group", "--build"])
        .args([&tree, &package])
        .env("SOURCE_DATE_EPOCH", release.epoch_s.to_string())
        .stdout(std::process::Stdio::null())
        .status()
        .context("start dpkg-deb")?;
    if !status.success() {
        bail!("dpkg-deb could not build the package");
    }
    std::fs::remove_dir_all(&tree).context("remove the package's directory")?;
    Ok(package)
}

fn fill(staged: &Path, tree: &Path) -> Result<()> {
    put(&staged.join("watchfire"), &tree.join("usr/bin/watchfire"), 0o755)?;
    for unit in archive::sorted(&staged.join("systemd"))? {
        let name = unit.file_name().context("a file has a name")?;
        put(&unit, &tree.join("usr/lib/systemd/system").join(name), 0o644)?;
    }
    for file in archive::sorted(&staged.join("etc"))? {
        let name = file.file_name().context("a file has a name")?;
        // Environment may hold a join token; systemd reads it as root.
        let mode = if file.extension().is_some_and(|e| e == "env") { 0o600 } else { 0o644 };
        put(&file, &tree.join("etc/watchfire").join(name), mode)?;
    }
    for page in archive::sorted(&staged.join("man"))? {
        let name = page.file_name().context("a file has a name")?;
        let to = tree.join("usr/share/man/man1").join(name);
        put(&page, &to, 0o644)?;
        gzip(&to)?;
    }
    let directories =
        ["bash-completion/completions", "zsh/vendor-completions", "fish/vendor_completions.d"];
    for ((shell, file), directory) in COMPLETIONS.into_iter().zip(directories) {
        // Bash looks for the bare name of the command.
        let name = if shell == "bash" { "watchfire" } else { file };
        let to = tree.join("usr/share").join(directory).join(name);
        put(&staged.join("completions").join(file), &to, 0o644)?;
    }
    let documents = tree.join("usr/share/doc/watchfire");
    for file in archive::files_below(&staged.join("docs/operating"))? {
        put(&file, &documents.join("operating").join(file.file_name().unwrap_or_default()), 0o644)?;
    }
    for file in ["README.md", "README.zh-CN.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        put(&staged.join(file), &documents.join(file), 0o644)?;
    }
    put(&root().join("packaging/deb/copyright"), &documents.join("copyright"), 0o644)
}

/// The package's description, its scripts, and which files an administrator may change.
fn control(release: &Release, architecture: &str, tree: &Path) -> Result<()> {
    let files = archive::files_below(tree)?;
    let bytes: u64 = files.iter().filter_map(|path| path.metadata().ok()).map(|m| m.len()).sum();
    let debian = tree.join("DEBIAN");
    let from = root().join("packaging/deb");
    std::fs::create_dir_all(&debian)?;
    set_mode(&debian, 0o755)?;
    let text =
        std::fs::read_to_string(from.join("control")).context("read packaging/deb/control")?;
    let text = text
        .replace("@VERSION@", release.version)
        .replace("@ARCHITECTURE@", architecture)
        .replace("@INSTALLED_SIZE@", &bytes.div_ceil(1_024).to_string());
    write(&debian.join("control"), text.as_bytes())?;
    for script in SCRIPTS {
        put(&from.join(script), &debian.join(script), 0o755)?;
    }
    let conffiles: String = archive::files_below(&tree.join("etc"))?
        .iter()
        .filter_map(|path| path.strip_prefix(tree).ok())
        .map(|path| format!("/{}\n", path.display()))
        .collect();
    write(&debian.join("conffiles"), conffiles.as_bytes())?;
    md5sums(tree, &files, &debian)
}

/// What `dpkg --verify` compares with.
fn md5sums(tree: &Path, files: &[PathBuf], debian: &Path) -> Result<()> {
    let names: Vec<&Path> = files
        .iter()
        .filter_map(|path| path.strip_prefix(tree).ok())
        .filter(|path| !path.starts_with("etc"))
        .collect();
    let output =
        Command::new("md5sum").args(names).current_dir(tree).output().context("start md5sum")?;
    if !output.status.success() {
        bail!("md5sum failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    write(&debian.join("md5sums"), &output.stdout)
}

fn gzip(path: &Path) -> Result<()> {
    let status = Command::new("gzip").arg("-9n").arg(path).status().context("start gzip")?;
    if !status.success() {
        bail!("{} could not be packed", path.display());
    }
    Ok(())
}
