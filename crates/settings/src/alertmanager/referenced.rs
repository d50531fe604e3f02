//! Files that a configuration names.

use std::path::{Component, Path, PathBuf};

use super::Loaded;
use crate::diagnostic::{Diagnostic, Severity};
use crate::glob;
use crate::prometheus::Surroundings;
use crate::yaml::ReferenceKind;

/// Most files that patterns of templates may name.
const MAX_TEMPLATE_FILES: usize = 10_000;

impl Loaded {
    /// The files with templates, in the order of their patterns and sorted within each; each once.
    pub fn template_files(&self, surroundings: &dyn Surroundings) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = Vec::new();
        for pattern in &self.config.templates {
            for file in expand(pattern, surroundings) {
                if files.len() < MAX_TEMPLATE_FILES && !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        files
    }

    /// Looks at every file the configuration names: whether those with passwords and certificates
    /// can be read, and whether there are templates.
    ///
    /// A running process does not need this: it reads such files when it uses them, because they
    /// may come later and change.
    pub fn check(&self, surroundings: &dyn Surroundings) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for reference in &self.references {
            let path = &reference.path;
            if reference.kind == ReferenceKind::Content {
                if let Err(error) = surroundings.read(Path::new(path)) {
                    let message = format!("{path:?} cannot be read: {error}");
                    let help = "relative paths start at the directory of this file; the user \
                                Watchfire runs as must be able to read it";
                    let fault = reference.place.saying(message, help);
                    found.push(fault.with_severity(Severity::Mistake));
                }
            } else if expand(path, surroundings).is_empty() {
                let message = format!("{path:?} matches no file");
                let help = "relative paths start at the directory of this file";
                let fault = reference.place.saying(message, help);
                found.push(fault.with_severity(Severity::Warning));
            }
        }
        found
    }
}

/// The files a pattern names, sorted. Each of its parts may have wildcards, as for Go's
/// `filepath.Glob`.
fn expand(pattern: &str, surroundings: &dyn Surroundings) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in Path::new(pattern).components() {
        let part = match component {
            Component::Normal(part) => part.to_string_lossy(),
            other => {
                found.iter_mut().for_each(|path| path.push(other.as_os_str()));
                continue;
            }
        };
        if !part.contains(['*', '?', '[', '\\']) {
            found.iter_mut().for_each(|path| path.push(&*part));
            continue;
        }
        let below = |path: &PathBuf| {
            let listed = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let names = surroundings.list(listed).unwrap_or_default();
            let names = names.into_iter().filter(|name| glob::matches(&part, name));
            names.map(|name| path.join(name)).collect::<Vec<PathBuf>>()
        };
        found = found.iter().flat_map(below).take(MAX_TEMPLATE_FILES).collect();
    }
    // What has no wildcards was not looked for yet.
    found.retain(|path| surroundings.read(path).is_ok());
    found.sort();
    found
}
