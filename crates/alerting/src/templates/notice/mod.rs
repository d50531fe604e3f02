//! Templates of notifications.
//!
//! Source: Alertmanager, `template`.

mod data;
mod functions;
mod labels;

use std::fmt;
use std::sync::Arc;

pub use data::{Data, DataAlert, Kv, data_classes};
use functions::{NoticeContext, Routes, Vocabulary};
use gotemplate::{Budget, Limits, MissingKey, Parsed, Request, Set, Value};

use super::{TemplateError, Zones};

/// The templates every receiver has unless its configuration says otherwise, under Alertmanager's
/// names.
const DEFAULTS: &str = include_str!("default.tmpl");

/// The mail every receiver of mails gets unless its configuration says otherwise.
const MAIL: &str = include_str!("email.tmpl");

/// Templates of notifications: those every receiver has, and those of the user's files.
#[derive(Clone)]
pub struct Templates {
    set: Set,
    limits: Limits,
    zones: Arc<Zones>,
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Templates").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What one notification may use: more than a rule's text, for it may list thousands of alerts.
pub const NOTICE_LIMITS: Limits =
    Limits { steps: 5_000_000, text_bytes: 8 << 20, made_bytes: 512 << 20 };

impl Templates {
    /// The templates every receiver has. `zones` finds the files of time zones, which `tz` asks for;
    /// hosts have them below `/usr/share/zoneinfo`.
    pub fn new(limits: Limits, zones: Arc<Zones>) -> Self {
        let mut templates = Templates { set: Set::default(), limits, zones };
        for (name, text) in [("default.tmpl", DEFAULTS), ("email.tmpl", MAIL)] {
            templates.add_file(name, text).expect("a test reads these files");
        }
        templates
    }

    /// Adds the templates of a file. Those of a name that is known already take its place, unless
    /// they are blank. `name` is what errors call the file; its last part is also the name of what
    /// stands in it outside of definitions.
    ///
    /// # Errors
    /// It cannot be read as templates.
    pub fn add_file(&mut self, name: &str, text: &str) -> Result<(), TemplateError> {
        let name = name.rsplit('/').next().unwrap_or(name);
        let parsed = Parsed::new(name, text, &Vocabulary).map_err(TemplateError::Parse)?;
        self.set.add(parsed);
        Ok(())
    }

    /// The same templates under other limits.
    pub fn limited(&self, limits: Limits) -> Self {
        Templates { limits, ..self.clone() }
    }

    /// The names of all templates.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.set.names()
    }

    /// Whether a text of a configuration is a template.
    ///
    /// # Errors
    /// It is none.
    pub fn check(text: &str) -> Result<(), TemplateError> {
        Parsed::new("", text, &Vocabulary).map_err(TemplateError::Parse)?;
        Ok(())
    }

    /// What a text of a configuration makes of a notification.
    ///
    /// # Errors
    /// It is no template, it failed, or it used more than it may.
    pub fn text(&self, text: &str, data: &Data) -> Result<String, TemplateError> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        self.expand(text, data, false)
    }

    /// The same, with values escaped for where they come to stand in HTML.
    ///
    /// # Errors
    /// It is no template, it failed, or it used more than it may.
    pub fn html(&self, text: &str, data: &Data) -> Result<String, TemplateError> {
        if text.is_empty() {
            return Ok(String::new());
        }
        self.expand(text, data, true)
    }

    fn expand(&self, text: &str, data: &Data, html: bool) -> Result<String, TemplateError> {
        let routes = Routes::new(&data.route_labels, data.route_labels_rendered);
        self.expand_value(text, data.value(), &routes, data.now_ns, html)
    }

    /// What a text makes of any data; `routes` are the labels that `routeLabels` knows.
    ///
    /// # Errors
    /// It is no template, it failed, or it used more than it may.
    pub fn any(
        &self,
        text: &str,
        data: Value<'_>,
        routes: &Kv,
        now_ns: i64,
        html: bool,
    ) -> Result<String, TemplateError> {
        self.expand_value(text, data, &Routes::new(routes, false), now_ns, html)
    }

    fn expand_value(
        &self,
        text: &str,
        data: Value<'_>,
        routes: &Routes<'_>,
        now_ns: i64,
        html: bool,
    ) -> Result<String, TemplateError> {
        let mut budget = Budget::new(self.limits);
        self.expand_within(text, &data, routes, now_ns, html, &mut budget)
    }

    fn expand_within(
        &self,
        text: &str,
        data: &Value<'_>,
        routes: &Routes<'_>,
        now_ns: i64,
        html: bool,
        budget: &mut Budget,
    ) -> Result<String, TemplateError> {
        let parsed = Parsed::new("", text, &Vocabulary).map_err(TemplateError::Parse)?;
        let library = self.set.with(&parsed);
        let mut context = NoticeContext::new(self, data, routes, now_ns, html, budget.inner());
        let missing_key = MissingKey::Zero;
        let request = Request { library: &library, data: data.clone(), missing_key, html };
        let mut out = String::new();
        let outcome = gotemplate::execute(request, &mut context, &mut out);
        budget.absorb(&context.budget);
        outcome.map_err(TemplateError::Execute)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests;
