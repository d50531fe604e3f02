//! `watchfire man`: the manual pages, made from the same definitions as `--help`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_mangen::Man;

/// Where to.
#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// Directory to write watchfire.1 and a page per subcommand into; made if absent
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Writes a page for `command` and one for each of its visible subcommands, as `git-log(1)`
/// stands beside `git(1)`.
///
/// # Errors
/// When the directory cannot be made or written.
pub(crate) fn run(arguments: &ManArguments, command: Command) -> Result<()> {
    let directory = &arguments.directory;
    std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    write_pages(directory, command, "watchfire", "watchfire")
}

/// `page` is the page's name, with hyphens; `typed` what a user types, with blanks.
fn write_pages(directory: &Path, command: Command, page: &str, typed: &str) -> Result<()> {
    let subcommands = command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set() && subcommand.get_name() != "help");
    for subcommand in subcommands.cloned().collect::<Vec<_>>() {
        let name = subcommand.get_name().to_owned();
        write_pages(directory, subcommand, &format!("{page}-{name}"), &format!("{typed} {name}"))?;
    }
    // The display name is what pages are called and refer to each other by.
    let command =
        command.display_name(page.to_owned()).bin_name(typed).disable_help_subcommand(true);
    let man = Man::new(command)
        .title(page.to_uppercase())
        // A date would make two builds of one source differ.
        .date("")
        .source(concat!("Watchfire ", env!("CARGO_PKG_VERSION")))
        .manual("Watchfire");
    let mut text = Vec::new();
    man.render(&mut text).with_context(|| format!("write the page {page}"))?;
    let path = directory.join(format!("{page}.1"));
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_visible_subcommand_has_a_page() {
        let directory = tempfile::tempdir().expect("directory");
        let arguments = ManArguments { directory: directory.path().join("man1") };
        let command = crate::cli::Cli::command();
        run(&arguments, command.clone()).expect("written");
        let visible = command.get_subcommands().filter(|one| !one.is_hide_set());
        let names = visible.map(|one| format!("watchfire-{}", one.get_name()));
        for name in names.chain(["watchfire".to_owned()]) {
            let page = std::fs::read_to_string(arguments.directory.join(format!("{name}.1")));
            let page = page.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}");
            assert!(page.contains(&name.replace('-', "\\-")), "{name}: {page}");
        }
    }
}
