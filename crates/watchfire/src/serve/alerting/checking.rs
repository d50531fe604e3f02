//! What is wrong with files of rules and configurations of notifications, for whoever starts nothing.

use receivers::DeliveryOptions;
use ruler::notify::{ConfigurationError, NotifyConfiguration};
use ruler::rules::PreparedRules;
use settings::Diagnostic;

use super::{OfPrometheus, configuration, deliver, files, rule_settings};
use crate::config::AlertingConfig;

/// Everything that is wrong or odd in `alertmanager.yml` and in the files of rules that `config` and Prometheus' configuration
/// name, as a start would find it.
pub(crate) fn check_alerting(config: &AlertingConfig, of: &OfPrometheus) -> Vec<Diagnostic> {
    let url = "http://127.0.0.1";
    let mut found = match configuration(config) {
        Ok(configuration) => of_configuration(&configuration, url),
        Err(ConfigurationError::Faults(faults)) => faults.iter().cloned().collect(),
        Err(ConfigurationError::Template { file, reason, .. }) => {
            let help = "mend the template, or take the file out of `templates:`".to_owned();
            vec![Diagnostic::of_file(&file, reason, Some(help))]
        }
    };
    match PreparedRules::read(rule_settings(config, of, url), &files()) {
        Ok(rules) => found.extend(rules.warnings().iter().cloned()),
        Err(faults) => found.extend(faults.iter().cloned()),
    }
    found
}

fn of_configuration(configuration: &NotifyConfiguration, url: &str) -> Vec<Diagnostic> {
    let mut found = configuration.warnings.clone();
    if let Err(error) = deliver(configuration, &DeliveryOptions::operator(url)) {
        let file = configuration.file.as_ref().map(|path| path.display().to_string());
        found.push(Diagnostic::of_file(&file.unwrap_or_default(), format!("{error:#}"), None));
    }
    found
}
