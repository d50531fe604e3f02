//! Archives and checksums that are the same each time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Effort, Release};

const SUMS: &str = "SHA256SUMS";

/// What lies in a directory, by name.
pub(super) fn sorted(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// All files below a directory, by path.
pub(super) fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in sorted(directory)? {
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

/// The flags that make an archive of GNU tar depend on names, contents and modes only.
pub(super) fn tar_flags(release: &Release) -> Vec<String> {
    vec![
        "--format=gnu".into(),
        "--sort=name".into(),
        format!("--mtime=@{}", release.epoch_s),
        "--owner=0".into(),
        "--group=0".into(),
        "--numeric-owner".into(),
        // Whoever builds may have any umask.
        "--mode=go-w,a+rX".into(),
    ]
}

/// Packs `directory/name` into `archive`.
pub(super) fn pack(
    release: &Release,
    directory: &Path,
    name: &str,
    archive: &Path,
    effort: Effort,
) -> Result<()> {
    let file =
        std::fs::File::create(archive).with_context(|| format!("create {}", archive.display()))?;
    let mut tar = Command::new("tar")
        .args(tar_flags(release))
        .args(["--create", "--directory"])
        .arg(directory)
        .arg(name)
        .stdout(Stdio::piped())
        .spawn()
        .context("start tar")?;
    let output = tar.stdout.take().context("tar's output is piped")?;
    let level = if effort == Effort::Small { "-9n" } else { "-1n" };
    let gzip = Command::new("gzip")
        .arg(level)
        .stdin(output)
        .stdout(file)
        .status()
        .context("start gzip")?;
    if !gzip.success() || !tar.wait()?.success() {
        bail!("{} could not be packed", archive.display());
    }
    Ok(())
}

/// SHA-256 of files, in hexadecimal, in their order.
pub(super) fn sha256(files: &[PathBuf]) -> Result<Vec<String>> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let output =
        Command::new("sha256sum").arg("--").args(files).output().context("start sha256sum")?;
    if !output.status.success() {
        bail!("sha256sum failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout).context("sha256sum prints ASCII")?;
    // A leading backslash marks names with escapes, which ours are not.
    Ok(text.lines().filter_map(|line| line.get(..64).map(str::to_owned)).collect())
}

/// Writes `SHA256SUMS` over all other files below `directory`, in the form that
/// `sha256sum --check` reads.
pub(super) fn write_sums(directory: &Path) -> Result<()> {
    let files: Vec<PathBuf> =
        files_below(directory)?.into_iter().filter(|path| path != &directory.join(SUMS)).collect();
    let mut text = String::new();
    for (path, sum) in files.iter().zip(sha256(&files)?) {
        let name = path.strip_prefix(directory).context("a file below the directory")?;
        text.push_str(&format!("{sum}  {}\n", name.display()));
    }
    super::stage::write(&directory.join(SUMS), text.as_bytes())
}
