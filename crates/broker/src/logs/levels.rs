//! How severe a line is, as LogQL finds it out, for the decoders of lines.

use logql::level::{Level, LevelDetection};
use model::LogLimits;
use wire::logs::LineLevels;

/// Finds levels out as the limits of a tenant say.
pub(crate) struct Levels(LevelDetection);

impl Levels {
    pub(crate) fn of(limits: &LogLimits) -> Levels {
        let LogLimits { log_level_fields, log_level_json_depth, .. } = limits;
        Levels(LevelDetection {
            fields: log_level_fields.clone(),
            json_depth: *log_level_json_depth,
        })
    }
}

impl LineLevels for Levels {
    fn of_word(&self, word: &str) -> Option<&'static str> {
        Level::from_word(word).map(Level::as_str)
    }

    fn of_line(&self, line: &str, severity_number: Option<&str>) -> &'static str {
        self.0.detect(line, severity_number).as_str()
    }
}
