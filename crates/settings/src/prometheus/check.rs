//! What only shows when the files a configuration names are looked at.

use std::path::Path;

use super::load::{Loaded, Surroundings};
use crate::diagnostic::{Diagnostic, Severity};
use crate::yaml::{Reference, ReferenceKind};
use crate::{glob, target_groups};

impl Loaded {
    /// Looks at every file the configuration names: whether those with passwords and certificates
    /// can be read, whether target files are right, whether rule files are there.
    ///
    /// A running process does not need this: it reads such files when it uses them, because they
    /// may come later and change.
    pub fn check(&self, surroundings: &dyn Surroundings) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for reference in &self.references {
            match reference.kind {
                ReferenceKind::Content => found.extend(check_content(reference, surroundings)),
                ReferenceKind::Targets => check_targets(reference, surroundings, &mut found),
                ReferenceKind::Rules => found.extend(check_rules(reference, surroundings)),
                // Already read.
                ReferenceKind::Jobs => {}
            }
        }
        found
    }
}

fn check_content(reference: &Reference, surroundings: &dyn Surroundings) -> Option<Diagnostic> {
    let error = surroundings.read(Path::new(&reference.path)).err()?;
    let message = format!("{:?} cannot be read: {error}", reference.path);
    let help = "relative paths start at the directory of this file; the user Watchfire runs as \
                must be able to read it";
    Some(reference.place.saying(message, help).with_severity(Severity::Mistake))
}

fn check_targets(
    reference: &Reference,
    surroundings: &dyn Surroundings,
    found: &mut Vec<Diagnostic>,
) {
    let matched = glob::expand(&reference.path, surroundings);
    if matched.is_empty() {
        let message = format!("{:?} matches no file", reference.path);
        let help = "targets appear as soon as the file is there";
        found.push(reference.place.saying(message, help).with_severity(Severity::Warning));
    }
    for path in matched {
        let file = path.to_string_lossy();
        let bytes = match surroundings.read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("{file:?} cannot be read: {error}");
                let help = "the user Watchfire runs as must be able to read it";
                let mistake = reference.place.saying(message, help);
                found.push(mistake.with_severity(Severity::Mistake));
                continue;
            }
        };
        if let Err(faults) = target_groups::parse(&file, &bytes) {
            let mistakes = faults.iter().cloned();
            found.extend(mistakes.map(|fault| fault.with_severity(Severity::Mistake)));
        }
    }
}

fn check_rules(reference: &Reference, surroundings: &dyn Surroundings) -> Option<Diagnostic> {
    if reference.path.contains('*') || surroundings.read(Path::new(&reference.path)).is_ok() {
        return None;
    }
    let message = format!("{:?} does not point to an existing file", reference.path);
    let help = "relative paths start at the directory of this file";
    Some(reference.place.saying(message, help).with_severity(Severity::Mistake))
}
