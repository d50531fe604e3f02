//! `alertmanager.yml` and the files of templates it names, as they are in effect.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alerting::notify::Policy;
use alerting::templates::Zones;
use alerting::templates::notice::{NOTICE_LIMITS, Templates};
use settings::alertmanager::{Config, MatcherMode, TimeZone};
use settings::prometheus::Surroundings;
use settings::{Diagnostic, Faults, glob};

/// The files of this host.
pub type Files = Arc<dyn Surroundings + Send + Sync>;

/// Where zones of time are on most hosts.
const ZONES: &str = "/usr/share/zoneinfo";
/// Without a file everything leads to a receiver that nobody hears, so that alerts are seen, silenced and
/// inhibited on the page all the same.
const NOBODY: &str =
    "route: {receiver: nobody, group_by: [alertname]}\nreceivers: [{name: nobody}]\n";

/// A configuration of notifications, checked.
#[derive(Clone)]
pub struct NotifyConfiguration {
    /// What it says.
    pub config: Arc<Config>,
    /// How matchers and names are read.
    pub mode: MatcherMode,
    /// Templates of all receivers.
    pub templates: Arc<Templates>,
    /// The text of the file, secrets removed.
    pub redacted: String,
    /// The file; `None` where none was given.
    pub file: Option<PathBuf>,
    /// What in it has no effect, each with its place.
    pub warnings: Vec<Diagnostic>,
    files: Files,
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConfigurationError {
    /// The file itself.
    #[error("{}", .0.render())]
    Faults(Faults),
    /// A file of templates.
    #[error("{file}: {reason}. Mend the template, or take the file out of `templates:` in {of}")]
    Template {
        /// Which.
        file: String,
        /// Why.
        reason: String,
        /// The configuration that names it.
        of: String,
    },
}

impl NotifyConfiguration {
    /// Reads `path` and the files of templates it names.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn load(
        path: &Path,
        mode: MatcherMode,
        files: Files,
    ) -> Result<NotifyConfiguration, ConfigurationError> {
        let loaded = Config::load(path, mode, &*files).map_err(ConfigurationError::Faults)?;
        let mut templates = Templates::new(NOTICE_LIMITS, zones(&files));
        for pattern in &loaded.config.templates {
            for file in glob::expand(pattern, &*files) {
                let name = file.to_string_lossy().into_owned();
                let failed = |reason: String| ConfigurationError::Template {
                    file: name.clone(),
                    reason,
                    of: path.display().to_string(),
                };
                let bytes = files.read(&file).map_err(|error| failed(error.to_string()))?;
                let text =
                    String::from_utf8(bytes).map_err(|_| failed("it is no UTF-8".to_owned()))?;
                templates.add_file(&name, &text).map_err(|error| failed(error.to_string()))?;
            }
        }
        Ok(NotifyConfiguration {
            config: Arc::new(loaded.config),
            mode,
            templates: Arc::new(templates),
            redacted: loaded.redacted,
            file: Some(path.to_owned()),
            warnings: loaded.warnings,
            files,
        })
    }

    /// What is in effect without a file: nobody is told.
    pub fn without_file(mode: MatcherMode, files: Files) -> NotifyConfiguration {
        let path = Path::new("alertmanager.yml");
        let loaded = Config::load(path, mode, &Text(NOBODY)).expect("a test reads this text");
        NotifyConfiguration {
            config: Arc::new(loaded.config),
            mode,
            templates: Arc::new(Templates::new(NOTICE_LIMITS, zones(&files))),
            redacted: loaded.redacted,
            file: None,
            warnings: Vec::new(),
            files,
        }
    }

    /// What it says about routing and notifying.
    pub fn policy(&self) -> Policy {
        Policy::new(&self.config, self.mode)
    }

    /// The zone of time of that name, as this host knows it.
    pub fn zone(&self, name: &str) -> Option<TimeZone> {
        TimeZone::load(name, &*self.files)
    }
}

/// The zones this host knows, for templates.
fn zones(files: &Files) -> Arc<Zones> {
    let files = Arc::clone(files);
    Arc::new(move |name: &str| {
        let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
        if name.len() > 128 || !name.split('/').all(is_part) {
            return None;
        }
        files.read(&Path::new(ZONES).join(name)).ok().map(Arc::from)
    })
}

/// One file of a text that is known.
struct Text(&'static str);

impl Surroundings for Text {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.as_bytes().to_vec())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}
