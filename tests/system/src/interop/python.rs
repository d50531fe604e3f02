//! Python programs that use clients from Python's package index.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Runs a script with Debian's Python and the packages that `cargo xtask test` installs; yields what
/// it prints.
pub(super) fn run(script: &str, arguments: &[String]) -> Result<String> {
    let own = std::env::current_exe().context("find this program")?;
    let target = own.ancestors().nth(2).context("this program lies in no target")?;
    let output = Command::new("/usr/bin/python3")
        .env("PYTHONPATH", target.join("python-packages"))
        .args(["-c", script])
        .args(arguments)
        .output()
        .context("start /usr/bin/python3")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {told}", output.status);
    // Exporters report refusals in their log only.
    ensure!(!told.contains("Failed") && !told.contains("ERROR"), "{told}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
