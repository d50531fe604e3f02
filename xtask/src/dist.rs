//! `cargo xtask dist`: everything a release consists of, below `target/dist`.
//!
//! The same sources at the same commit give the same bytes: files are sorted and bear the commit's
//! time, paths of the machine are cut out of the program, and nothing asks for a clock or a random
//! number.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, Counts, root};

mod archive;
mod deb;
mod image;
mod stage;
mod verify;

/// Where releases are built for: the static program runs on any Linux of this processor.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const OUTPUT: &str = "target/dist";

/// What all files of a release share.
pub(crate) struct Release {
    /// Version of the workspace.
    version: &'static str,
    /// Time of the commit, in seconds since the epoch, which all files bear.
    epoch_s: u64,
}

impl Release {
    fn of_this_commit() -> Result<Release> {
        let output = process::command(".", "git", &["log", "-1", "--format=%ct"])
            .output()
            .context("ask git for the time of the commit")?;
        let epoch_s = String::from_utf8_lossy(&output.stdout).trim().parse();
        Ok(Release {
            version: env!("CARGO_PKG_VERSION"),
            // Outside of a repository, as in a source archive, all files are as old as Unix.
            epoch_s: epoch_s.unwrap_or(0),
        })
    }

    /// Name of the directory in the archives.
    fn name(&self) -> String {
        format!("watchfire-{}-{}-linux", self.version, std::env::consts::ARCH)
    }
}

/// Builds the static program and everything made of it. Yields whether its checks passed.
pub(crate) fn run() -> Result<bool> {
    let release = Release::of_this_commit()?;
    let program = build_static(&release)?;
    let output = root().join(OUTPUT);
    if output.exists() {
        std::fs::remove_dir_all(&output).context("clear the last distribution")?;
    }
    std::fs::create_dir_all(&output).context("make target/dist")?;
    let counts = make(&release, &program, &output, Effort::Small)?;
    for entry in std::fs::read_dir(&output)? {
        let entry = entry?;
        println!("{OUTPUT}/{}  {} bytes", entry.file_name().display(), entry.metadata()?.len());
    }
    Ok(counts.failed == 0)
}

/// Makes everything of the program that `cargo build` left, and checks it; for CI, where a static
/// release build would take too long.
pub(crate) fn check() -> Result<Counts> {
    let program = std::env::var_os("WATCHFIRE_BINARY")
        .map_or_else(|| targets().join("debug/watchfire"), PathBuf::from);
    if !program.is_file() {
        bail!("{} is not there; build it with `cargo build`", program.display());
    }
    let output = targets().join("dist-check");
    if output.exists() {
        std::fs::remove_dir_all(&output).context("clear the last check")?;
    }
    std::fs::create_dir_all(&output).context("make target/dist-check")?;
    make(&Release::of_this_commit()?, &program, &output, Effort::Fast)
}

/// How well archives are packed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// As small as may be.
    Small,
    /// As fast as may be, for checks.
    Fast,
}

fn make(release: &Release, program: &Path, output: &Path, effort: Effort) -> Result<Counts> {
    let name = release.name();
    let staged = output.join(&name);
    stage::fill(release, program, &staged)?;
    let deb = deb::build(release, &staged, output, effort)?;
    archive::pack(release, output, &name, &output.join(format!("{name}.tar.gz")), effort)?;
    let image = output.join(format!("{name}-image.tar"));
    image::build(release, &staged, &image)?;
    let bundle = airgapped(release, output, &staged, &[&deb, &image])?;
    let packed = output.join(format!("{bundle}.tar.gz"));
    archive::pack(release, output, &bundle, &packed, effort)?;
    let counts = verify::all(release, output, &staged, &deb, &image)?;
    for directory in [staged, output.join(bundle)] {
        std::fs::remove_dir_all(&directory).context("remove what is packed")?;
    }
    archive::write_sums(output)?;
    Ok(counts)
}

/// Everything a site without network needs: what is staged, the package and the image.
fn airgapped(release: &Release, output: &Path, staged: &Path, files: &[&Path]) -> Result<String> {
    let name = format!("{}-airgapped", release.name());
    let directory = output.join(&name);
    stage::copy_tree(staged, &directory)?;
    for file in files {
        let to = directory.join(file.file_name().context("a file has a name")?);
        std::fs::copy(file, &to).with_context(|| format!("copy {}", file.display()))?;
    }
    archive::write_sums(&directory)?;
    Ok(name)
}

/// The program for any Linux: nothing is loaded when it starts.
fn build_static(release: &Release) -> Result<PathBuf> {
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    let here = root().display().to_string();
    let rustflags = [
        "-C target-feature=+crt-static",
        // A static program cannot look for getrandom(2) in the libc that is loaded, and would open
        // /dev/random instead, which an empty root does not have. Every supported kernel has it.
        r#"--cfg getrandom_backend="linux_getrandom""#,
        // Names of functions stay for backtraces; paths of this machine do not.
        "-C strip=debuginfo",
        &format!("--remap-path-prefix={home}=/cargo"),
        &format!("--remap-path-prefix={here}=/watchfire"),
    ]
    .join(" ");
    let cflags = format!("-ffile-prefix-map={home}=/cargo -ffile-prefix-map={here}=/watchfire");
    // With --target the flags are for the program only, not for what runs while it is built.
    let arguments =
        ["build", "--release", "--locked", "--package", "watchfire", "--target", TARGET];
    let status = process::command(".", "cargo", &arguments)
        .env("RUSTFLAGS", rustflags)
        .env("CFLAGS_x86_64_unknown_linux_gnu", cflags)
        .env("SOURCE_DATE_EPOCH", release.epoch_s.to_string())
        .env("WATCHFIRE_REVISION", revision())
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!("the static program could not be built");
    }
    let program = targets().join(TARGET).join("release/watchfire");
    let output = Command::new("ldd").arg(&program).output().context("start ldd")?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if !said.contains("statically linked") && !said.contains("not a dynamic executable") {
        bail!("the program is not static, ldd says: {said}");
    }
    Ok(program)
}

fn revision() -> String {
    process::command(".", "git", &["rev-parse", "--short=12", "HEAD"])
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

/// Where cargo builds, which CI keeps outside of the clone.
fn targets() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
