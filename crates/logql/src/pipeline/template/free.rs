//! Templates without a pipeline: over values by name, as collectors have them.

use gotemplate::{Expressions, Parsed, Part};
use model::Zones;

use super::calls::{self, Calls};
use super::functions::Dialect;
use super::{Moment, TemplateError, check_length, request};

/// What executions of templates share: expressions that were compiled.
#[derive(Debug, Clone)]
pub struct TemplateMemory {
    expressions: Expressions,
    zones: Zones,
}

impl TemplateMemory {
    /// Nothing is remembered yet. `zones` finds the zones of time that templates name.
    pub fn new(zones: Zones) -> Self {
        TemplateMemory { expressions: Expressions::default(), zones }
    }
}

/// A template over values by name, with the functions of Promtail. A value that is not there is
/// printed as `<no value>` and fails where a text is wanted, as in Go.
#[derive(Debug, Clone)]
pub struct FreeTemplate {
    name: &'static str,
    parsed: Parsed,
    simple: Option<Vec<Part>>,
}

impl FreeTemplate {
    /// Reads a template that errors call `name`.
    ///
    /// # Errors
    /// `text` is no template, in Go's words.
    pub fn new(name: &'static str, text: &str) -> Result<Self, TemplateError> {
        let parsed = Parsed::new(name, text, &Dialect::Collector).map_err(TemplateError)?;
        let simple = parsed.parts();
        Ok(FreeTemplate { name, parsed, simple })
    }

    /// The text, if nothing in it depends on values.
    pub fn constant(&self) -> Option<&str> {
        match self.simple.as_deref() {
            Some([]) => Some(""),
            Some([Part::Text(text)]) => Some(text),
            _ => None,
        }
    }

    /// Whether it may reach values it does not name.
    pub fn needs_all(&self) -> bool {
        self.parsed.needs_all()
    }

    /// Appends what it makes to `out`. `value` yields a value by its name; `all` is all of them in the
    /// order of their names, needed only if [`FreeTemplate::needs_all`]. `now_ns` is the time that `now`
    /// is.
    ///
    /// # Errors
    /// What Go says; some of the output was appended then.
    pub fn execute<'d>(
        &'d self,
        value: &dyn Fn(&str) -> Option<&'d str>,
        all: &'d [(&'d str, &'d str)],
        now_ns: i64,
        memory: &mut TemplateMemory,
        out: &mut String,
    ) -> Result<(), String> {
        if let Some(parts) = &self.simple {
            let start = out.len();
            for part in parts {
                out.push_str(match part {
                    Part::Text(text) => text,
                    Part::Field(number) => {
                        value(&self.parsed.fields()[*number]).unwrap_or("<no value>")
                    }
                });
                check_length(self.name, out.len() - start)?;
            }
            return Ok(());
        }
        let fields = ByName { names: self.parsed.fields(), value };
        let moment = Moment { line: "", timestamp_ns: now_ns, now_ns, zones: memory.zones };
        let mut calls = Calls::new(moment, &mut memory.expressions, &fields, Dialect::Collector);
        gotemplate::execute(request(&self.parsed, all), &mut calls, out)
    }
}

struct ByName<'f, 'd> {
    names: &'f [String],
    value: &'f dyn Fn(&str) -> Option<&'d str>,
}

impl<'d> calls::Fields<'d> for ByName<'_, 'd> {
    fn field(&self, number: usize) -> Option<&'d str> {
        self.names.get(number).and_then(|name| (self.value)(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, values: &[(&str, &str)]) -> Result<String, String> {
        let template = FreeTemplate::new("pipeline_template", text).map_err(|e| e.to_string())?;
        let mut all = values.to_vec();
        all.sort_unstable();
        let find = |name: &str| values.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        let (mut memory, mut out) = (TemplateMemory::new(model::NO_ZONES), String::new());
        template.execute(&find, &all, 0, &mut memory, &mut out)?;
        Ok(out)
    }

    /// Cases of Promtail's own tests of its stage `template`, and of sprig's manual.
    #[test]
    fn templates_of_collectors() {
        let values = [("Value", "this is PII data"), ("app", "loki"), ("n", "3")];
        for (text, want) in [
            ("{{ .Value }} in module {{.module}}", "this is PII data in module <no value>"),
            ("{{ if .module }}x{{ else }}{{ .app | ToUpper }}{{ end }}", "LOKI"),
            (
                "{{ Sha2Hash .Value \"salt\" }}",
                "5526fd6f8ad457279cf8ff06453c6cb61bf479fa826e3b099caa6c846f9376f2",
            ),
            (
                "{{ Hash .Value \"salt\" }}",
                "0807ea24e992127128b38e4930f7155013786a4999c73a25910318a793847658",
            ),
            ("{{ Replace .app \"o\" \"0\" -1 }}{{ add 7 3 }}", "l0ki10"),
            ("{{ regexReplaceAll \"(P)I\" .Value \"${1}o\" }}", "this is PoI data"),
            (
                "{{ quote .app 1 }}{{ squote .app }}{{ cat .app .missing 2 }}",
                "\"loki\" \"1\"'loki'loki 2",
            ),
            ("{{ .Value | splitList \" \" | last }}{{ nospace .Value }}", "datathisisPIIdata"),
            ("{{ join \"-\" (list 1 \"a\") }}{{ first (list 4 5) }}", "1-a4"),
            ("{{ ternary \"y\" \"n\" (eq .n \"3\") }}{{ coalesce .missing \"\" .n }}", "y3"),
            ("{{ empty .missing }}{{ atoi .n | add 1 }}{{ toString 5 }}", "true45"),
            ("{{ regexMatch \"^l\" .app }}{{ regexFind \"[io]+\" .app }}", "trueo"),
        ] {
            assert_eq!(run(text, &values).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_fails_where_a_text_is_wanted() {
        let error = run("{{ .missing | ToLower }}", &[]).expect_err("no text");
        assert!(error.contains("invalid value; expected string"), "{error}");
        let error = run("{{ nosuch .a }}", &[]).expect_err("no function");
        assert_eq!(error, "template: pipeline_template:1: function \"nosuch\" not defined");
    }

    #[test]
    fn queries_do_not_have_these_functions() {
        let error = super::super::Template::new("line", "{{ Hash .a \"s\" }}").expect_err("none");
        assert_eq!(error.to_string(), "template: line:1: function \"Hash\" not defined");
    }
}
