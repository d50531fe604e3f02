//! A container image as `docker load` and `podman load` read it, made without either: one layer
//! with the program and an empty directory for the data.
//!
//! Source: the OCI image specification's configuration, in the archive that `docker save` writes
//! (`manifest.json`, the configuration and the layer, each named by its SHA-256).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::stage::{put, set_mode, write};
use super::{Release, archive};

/// Nobody on any host; the compose file's directories must belong to it.
const USER: &str = "65532";
const DATA: &str = "var/lib/watchfire";

/// Writes the image of what is staged to `target`.
pub(super) fn build(release: &Release, staged: &Path, target: &Path) -> Result<()> {
    let work = target.with_extension("work");
    let layer = layer(release, staged, &work)?;
    let image = work.join("image");
    std::fs::create_dir_all(&image)?;
    let layer_sum = sum(&layer)?;
    std::fs::rename(&layer, image.join(format!("{layer_sum}.tar"))).context("name the layer")?;
    let configuration = serde_json::to_vec(&configuration(release, &layer_sum))?;
    let unnamed = work.join("configuration");
    write(&unnamed, &configuration)?;
    let name = format!("{}.json", sum(&unnamed)?);
    std::fs::rename(unnamed, image.join(&name)).context("name the configuration")?;
    let manifest = json!([{
        "Config": name,
        "RepoTags": [format!("watchfire:{}", release.version), "watchfire:latest"],
        "Layers": [format!("{layer_sum}.tar")],
    }]);
    write(&image.join("manifest.json"), &serde_json::to_vec(&manifest)?)?;
    tar(release, &image, target, &[])?;
    std::fs::remove_dir_all(&work).context("remove the image's directory")
}

/// The file system: yields the path of its archive.
fn layer(release: &Release, staged: &Path, work: &Path) -> Result<PathBuf> {
    let tree = work.join("root");
    put(&staged.join("watchfire"), &tree.join("usr/bin/watchfire"), 0o755)?;
    std::fs::create_dir_all(tree.join(DATA))?;
    let layer = work.join("layer.tar");
    tar(release, &tree, &layer, &[&format!("--exclude={DATA}")])?;
    // Only this belongs to the user; GNU tar gives one owner per run.
    set_mode(&tree.join(DATA), 0o750)?;
    let status = Command::new("tar")
        .args(["--format=gnu", &format!("--mtime=@{}", release.epoch_s)])
        .args([&format!("--owner={USER}"), &format!("--group={USER}"), "--numeric-owner"])
        .args(["--append", "--no-recursion", "--file"])
        .arg(&layer)
        .arg("--directory")
        .arg(&tree)
        .arg(DATA)
        .status()
        .context("start tar")?;
    if !status.success() {
        bail!("the layer could not be packed");
    }
    Ok(layer)
}

fn configuration(release: &Release, layer_sum: &str) -> serde_json::Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let created = rfc3339(release.epoch_s);
    json!({
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": {
            "User": format!("{USER}:{USER}"),
            "Env": [format!("WATCHFIRE_DATA=/{DATA}")],
            "Entrypoint": ["/usr/bin/watchfire"],
            "ExposedPorts": {"9595/tcp": {}, "9596/tcp": {}, "4317/tcp": {}, "4318/tcp": {}},
            "Volumes": {format!("/{DATA}"): {}},
            "WorkingDir": format!("/{DATA}"),
            "Labels": {
                "org.opencontainers.image.title": "Watchfire",
                "org.opencontainers.image.version": release.version,
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_sum}")]},
        "history": [{"created": created, "created_by": "cargo xtask dist"}],
    })
}

/// The commit's time as the specification wants it.
fn rfc3339(epoch_s: u64) -> String {
    let output = Command::new("date")
        .args(["--utc", &format!("--date=@{epoch_s}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "1970-01-01T00:00:00Z".to_owned(),
    }
}

fn sum(path: &Path) -> Result<String> {
    archive::sha256(&[path.to_owned()])?.pop().context("a file has a checksum")
}

/// Packs what lies in `directory`, without a leading `./`, which not every reader takes.
fn tar(release: &Release, directory: &Path, target: &Path, more: &[&str]) -> Result<()> {
    let paths = archive::sorted(directory)?;
    let status = Command::new("tar")
        .args(archive::tar_flags(release))
        .args(more)
        .args(["--create", "--file"])
        .arg(target)
        .arg("--directory")
        .arg(directory)
        .args(paths.iter().filter_map(|path| path.file_name()))
        .status()
        .context("start tar")?;
    if !status.success() {
        bail!("{} could not be packed", target.display());
    }
    Ok(())
}
