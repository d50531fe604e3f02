//! The directory that is packed: program, documents, units, completions, manual pages.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Release, archive};
use crate::process::root;

/// What a shell calls its completion, and where it lies in the archive.
pub(super) const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "watchfire.bash"), ("zsh", "_watchfire"), ("fish", "watchfire.fish")];

/// Files of the repository, and where they lie in the archive.
const DIRECTORIES: [(&str, &str); 6] = [
    ("packaging/systemd", "systemd"),
    ("packaging/etc", "etc"),
    ("packaging/compose", "compose"),
    ("packaging/garage", "garage"),
    ("docs/operating", "docs/operating"),
    ("docs/images", "docs/images"),
];
const FILES: [&str; 4] = ["README.md", "README.zh-CN.md", "LICENSE-MIT", "LICENSE-APACHE"];

/// Fills `target`, which is made.
///
/// # Errors
/// When a file is missing, or the program cannot make its completions and manual pages.
pub(super) fn fill(release: &Release, program: &Path, target: &Path) -> Result<()> {
    std::fs::create_dir_all(target).with_context(|| format!("make {}", target.display()))?;
    put(program, &target.join("watchfire"), 0o755)?;
    put(&root().join("packaging/install.sh"), &target.join("install.sh"), 0o755)?;
    for file in FILES {
        put(&root().join(file), &target.join(file), 0o644)?;
    }
    for (from, to) in DIRECTORIES {
        let to = target.join(to);
        std::fs::create_dir_all(&to)?;
        for path in archive::sorted(&root().join(from))? {
            let name = path.file_name().context("a file has a name")?;
            let mode = if path.extension().is_some_and(|end| end == "sh") { 0o755 } else { 0o644 };
            put(&path, &to.join(name), mode)?;
        }
    }
    // An image built from here takes owner and mode of its data from an empty directory.
    std::fs::create_dir_all(target.join("compose/data"))?;
    for file in ["compose.yml", "cluster.yml", ".env", "Dockerfile"] {
        fill_in_version(release, &target.join("compose").join(file))?;
    }
    generate(program, target)?;
    archive::write_sums(target)
}

/// Lets the program write what it knows about its own command line.
fn generate(program: &Path, target: &Path) -> Result<()> {
    let ask = |arguments: &[&str]| -> Result<Vec<u8>> {
        let output = std::process::Command::new(program)
            .args(arguments)
            .output()
            .with_context(|| format!("start {}", program.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("`watchfire {}` failed: {said}", arguments.join(" "));
        }
        Ok(output.stdout)
    };
    std::fs::create_dir_all(target.join("completions"))?;
    for (shell, file) in COMPLETIONS {
        write(&target.join("completions").join(file), &ask(&["completions", shell])?)?;
    }
    let man = target.join("man");
    ask(&["man", &man.display().to_string()])?;
    for page in archive::sorted(&man)? {
        set_mode(&page, 0o644)?;
    }
    Ok(())
}

fn fill_in_version(release: &Release, path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    write(path, text.replace("@VERSION@", release.version).as_bytes())
}

/// Copies a file and gives it a mode, whatever the one of its source is.
pub(super) fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    }
    std::fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    set_mode(to, mode)
}

/// Writes a file that everybody can read.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("write {}", path.display()))?;
    set_mode(path, 0o644)
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", path.display()))
}

/// Copies a directory with all below it.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for path in archive::sorted(from)? {
        let target = to.join(path.file_name().context("a file has a name")?);
        if path.is_dir() {
            copy_tree(&path, &target)?;
        } else {
            let mode = path.metadata()?.permissions().mode();
            put(&path, &target, mode)?;
        }
    }
    Ok(())
}
