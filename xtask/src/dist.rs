//! `cargo xtask dist`: a release tarball.

use anyhow::{Context, Result};

use crate::process::{self, root};

/// Builds the program in release and packs it with its documents.
pub(crate) fn run() -> Result<bool> {
    process::check(".", "cargo", &["build", "--release", "--locked", "--package", "watchfire"])?;
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("watchfire-{version}-{}-linux", std::env::consts::ARCH);
    let target = root().join("target/dist").join(&name);
    if target.exists() {
        std::fs::remove_dir_all(&target).context("clear the last distribution")?;
    }
    std::fs::create_dir_all(&target).context("make target/dist")?;
    let files = ["README.md", "README.zh-CN.md", "LICENSE-MIT", "LICENSE-APACHE"];
    for file in files {
        std::fs::copy(root().join(file), target.join(file))
            .with_context(|| format!("copy {file}"))?;
    }
    std::fs::copy(root().join("target/release/watchfire"), target.join("watchfire"))
        .context("copy the program")?;
    let archive = format!("{name}.tar.gz");
    process::check("target/dist", "tar", &["czf", &archive, &name])?;
    println!("target/dist/{archive}");
    Ok(true)
}
