//! A configuration from its files.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Config, read};
use crate::diagnostic::{Diagnostic, Faults, Severity};
use crate::glob;
use crate::yaml::{Document, Reference, ReferenceKind};

/// What loading needs from outside.
pub trait Surroundings {
    /// The bytes of a file.
    ///
    /// # Errors
    /// Those of the file system.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names in a directory, in any order.
    ///
    /// # Errors
    /// Those of the file system.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
}

/// A configuration that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What in it has no effect, each with its place.
    pub warnings: Vec<Diagnostic>,
    /// The text of the main file with every secret replaced by `<secret>`.
    pub redacted: String,
    /// Every file that was read, the main one first.
    pub files: Vec<PathBuf>,
    pub(super) references: Vec<Reference>,
}

impl Loaded {
    /// A configuration that says nothing, of no file.
    pub fn nothing() -> Loaded {
        Loaded {
            config: Config::default(),
            warnings: Vec::new(),
            redacted: String::new(),
            files: Vec::new(),
            references: Vec::new(),
        }
    }
}

impl Config {
    /// Loads `path` and the files its `scrape_config_files` name.
    ///
    /// # Errors
    /// Everything that is wrong in the main file; if nothing is, everything in the others.
    pub fn load(path: &Path, surroundings: &dyn Surroundings) -> Result<Loaded, Faults> {
        let file = path.to_string_lossy();
        let bytes = read_file(&file, path, surroundings)?;
        let document = Document::parse(&file, &bytes)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let parsed = read::read(&document, directory, &|name| surroundings.variable(name));
        let findings = parsed.findings;
        if !findings.faults.is_empty() {
            return Err(Faults::new(findings.faults));
        }
        let mut loaded = Loaded {
            redacted: redact(document.text(), &findings.secrets),
            config: parsed.config,
            warnings: findings.warnings,
            files: vec![path.to_owned()],
            references: findings.references,
        };
        let mut jobs: HashMap<String, String> = parsed
            .jobs
            .into_iter()
            .map(|(name, _)| (name, "main config file".to_owned()))
            .collect();
        let mut faults = Vec::new();
        let named: Vec<Reference> = loaded
            .references
            .iter()
            .filter(|reference| reference.kind == ReferenceKind::Jobs)
            .cloned()
            .collect();
        for reference in named {
            let matched = glob::expand(&reference.path, surroundings);
            if matched.is_empty() {
                loaded.warnings.push(no_such_jobs(&reference));
            }
            for included in matched {
                if let Err(found) = include(&mut loaded, &included, &mut jobs, surroundings) {
                    faults.extend(found.iter().cloned());
                }
            }
        }
        if faults.is_empty() { Ok(loaded) } else { Err(Faults::new(faults)) }
    }
}

fn no_such_jobs(reference: &Reference) -> Diagnostic {
    let message = format!("{:?} matches no file", reference.path);
    let help = "its jobs are not scraped until the file is there and the configuration is loaded \
                again";
    let severity = if reference.path.contains('*') { Severity::Warning } else { Severity::Mistake };
    reference.place.saying(message, help).with_severity(severity)
}

/// Adds the jobs of one file.
fn include(
    loaded: &mut Loaded,
    path: &Path,
    jobs: &mut HashMap<String, String>,
    surroundings: &dyn Surroundings,
) -> Result<(), Faults> {
    let file = path.to_string_lossy();
    let bytes = read_file(&file, path, surroundings)?;
    let document = Document::parse(&file, &bytes)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let parsed = read::read_jobs(&document, directory, &loaded.config.global);
    let mut findings = parsed.findings;
    for (name, place) in parsed.jobs {
        if let Some(first) = jobs.get(&name) {
            let message = format!(
                "found multiple scrape configs with job name {name:?}, first found in {first}"
            );
            let help = "give each job its own name, and name each file once".to_owned();
            findings.faults.push(Diagnostic::at(document.source(), place, message, Some(help)));
        } else {
            jobs.insert(name, format!("{file:?}"));
        }
    }
    if !findings.faults.is_empty() {
        return Err(Faults::new(findings.faults));
    }
    loaded.config.scrape_configs.extend(parsed.config.scrape_configs);
    loaded.warnings.extend(findings.warnings);
    loaded.references.extend(findings.references);
    loaded.files.push(path.to_owned());
    Ok(())
}

pub(crate) fn read_file(
    file: &str,
    path: &Path,
    surroundings: &dyn Surroundings,
) -> Result<Vec<u8>, Faults> {
    surroundings.read(path).map_err(|error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "check the path; it is taken from the working directory",
            io::ErrorKind::PermissionDenied => "let the user Watchfire runs as read it",
            io::ErrorKind::IsADirectory => "name the file in it",
            _ => "see whether the file can be read at all",
        };
        Diagnostic::of_file(file, format!("cannot be read: {error}"), Some(help.to_owned())).into()
    })
}

/// Replaces each span by the text beside it.
fn redact(text: &str, secrets: &[((usize, usize), String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for ((start, end), replacement) in secrets {
        if *start >= at {
            out.push_str(&text[at..*start]);
            out.push_str(replacement);
            // The line breaks behind a block scalar belong to it, and to what follows as well.
            let end_of_text = text[*start..*end].trim_end_matches([' ', '\t', '\r', '\n']);
            at = start + end_of_text.len();
        }
    }
    out.push_str(&text[at..]);
    out
}
