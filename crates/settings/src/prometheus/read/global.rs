//! The section `global` and those about the process itself.

use std::time::Duration;

use model::Labels;

use super::http_client::{self, optional_output};
use super::scrape::{Unset, read_protocols};
use crate::NameValidation;
use crate::prometheus::{Global, Otlp, Storage, Tracing, TranslationStrategy};
use crate::suggestion::nearest;
use crate::yaml::{ByteSize, Milliseconds, Section, read_labels};

/// Reads `global`; `variable` yields the environment for `external_labels`.
pub(super) fn read(root: &mut Section<'_>, variable: &dyn Fn(&str) -> Option<String>) -> Global {
    let default = Global::default();
    let Some(mut section) = root.section("global", "config.plain") else { return default };
    let names = section
        .read::<Unset<NameValidation>>("metric_name_validation_scheme")
        .and_then(|scheme| scheme.0)
        .unwrap_or_default();
    let scrape_interval =
        section.value::<Milliseconds>("scrape_interval").or_if_zero(default.scrape_interval);
    let timeout = section.value::<Milliseconds>("scrape_timeout").duration();
    if timeout > scrape_interval {
        let message = "global scrape timeout greater than scrape interval";
        section.fault("scrape_timeout", message, Some("lower it to at most scrape_interval"));
    }
    let global = Global {
        scrape_interval,
        scrape_timeout: if timeout.is_zero() {
            default.scrape_timeout.min(scrape_interval)
        } else {
            timeout
        },
        evaluation_interval: section
            .value::<Milliseconds>("evaluation_interval")
            .or_if_zero(default.evaluation_interval),
        rule_query_offset: section.value::<Milliseconds>("rule_query_offset").duration(),
        external_labels: read_external_labels(&mut section, names, variable),
        scrape_protocols: read_protocols(&mut section, "for global config"),
        query_log_file: optional_output(&mut section, "query_log_file"),
        scrape_failure_log_file: optional_output(&mut section, "scrape_failure_log_file"),
        body_size_limit: section.value::<ByteSize>("body_size_limit").0,
        sample_limit: section.value("sample_limit"),
        target_limit: section.value("target_limit"),
        label_limit: section.value("label_limit"),
        label_name_length_limit: section.value("label_name_length_limit"),
        label_value_length_limit: section.value("label_value_length_limit"),
        keep_dropped_targets: section.value("keep_dropped_targets"),
        metric_name_validation_scheme: names,
        metric_name_escaping_scheme: section
            .read::<Unset<_>>("metric_name_escaping_scheme")
            .and_then(|scheme| scheme.0),
        scrape_native_histograms: section.value("scrape_native_histograms"),
        convert_classic_histograms_to_nhcb: section.value("convert_classic_histograms_to_nhcb"),
        always_scrape_classic_histograms: section.value("always_scrape_classic_histograms"),
        extra_scrape_metrics: section.value("extra_scrape_metrics"),
    };
    if section.is_set("query_log_file") {
        let message = "query_log_file has no effect: queries are not logged yet";
        section.warn("query_log_file", message, None);
    }
    section.finish();
    global
}

fn read_external_labels(
    section: &mut Section<'_>,
    names: NameValidation,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Labels {
    let Some(node) = section.node("external_labels") else { return Labels::empty() };
    let labels = read_labels(section.context, node, names);
    let mut expanded: Vec<(String, String)> = Vec::new();
    for (name, value) in labels.iter() {
        let value = expand(value, |wanted| {
            let found = variable(wanted).filter(|text| !text.is_empty());
            if found.is_none() {
                let message = format!("the environment variable {wanted} is not set");
                let help = "its place in external_labels stays empty; `$$` stands for `$`";
                section.warn("external_labels", message, Some(help));
            }
            found.unwrap_or_default()
        });
        expanded.push((name.to_owned(), value));
    }
    Labels::from_pairs(expanded.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        .expect("names of a label set are unique")
}

/// Replaces `$name` and `${name}` as Go's `os.Expand` does, `$$` by `$`.
fn expand(text: &str, mut variable: impl FnMut(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let Some(first) = rest.chars().next() else {
            // A `$` at the end stands for itself.
            out.push('$');
            break;
        };
        let (name, tail) = if first == '{' {
            match rest.find('}') {
                Some(end) => (&rest[1..end], &rest[end + 1..]),
                // `${` that nothing closes is dropped.
                None => ("", &rest[1..]),
            }
        } else if "*#$@!?-0123456789".contains(first) {
            rest.split_at(1)
        } else {
            rest.split_at(rest.find(|c| !word(c)).unwrap_or(rest.len()))
        };
        match name {
            "$" => out.push('$'),
            // Not a name at all: the `$` stays, unless braces ask for one.
            "" if first != '{' => out.push('$'),
            "" => {}
            name => out.push_str(&variable(name)),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// Reads `runtime`, which is about Go.
pub(super) fn read_runtime(root: &mut Section<'_>) {
    let Some(mut section) = root.section("runtime", "config.plain") else { return };
    section.value::<i64>("gogc");
    if section.has("gogc") {
        section.warn("gogc", "runtime.gogc has no effect: there is no garbage collector", None);
    }
    section.finish();
}

/// Reads `storage`.
pub(super) fn read_storage(root: &mut Section<'_>) -> Storage {
    let mut storage = Storage::default();
    let Some(mut section) = root.section("storage", "config.StorageConfig") else {
        return storage;
    };
    if let Some(mut tsdb) = section.section("tsdb", "config.plain") {
        storage.out_of_order_time_window =
            tsdb.read::<Milliseconds>("out_of_order_time_window").map(Milliseconds::duration);
        tsdb.value::<f64>("stale_series_compaction_threshold");
        if let Some(mut retention) = tsdb.section("retention", "config.TSDBRetentionConfig") {
            storage.retention_time = retention
                .read::<Milliseconds>("time")
                .map(Milliseconds::duration)
                .filter(|time| *time > Duration::ZERO);
            storage.retention_size = read_retention_size(&mut retention);
            storage.retention_percentage = retention.read("percentage");
            let percentage = storage.retention_percentage.unwrap_or(0.0);
            if !(0.0..=100.0).contains(&percentage) {
                let message = "'storage.tsdb.retention.percentage' must be in the range [0, 100]";
                retention.fault("percentage", message, None);
            }
            retention.finish();
        }
        if let Some(mut encoding) = tsdb.section("chunk_encoding", "config.plain") {
            if let Some(floats) = encoding.read::<String>("floats")
                && !matches!(floats.as_str(), "xor" | "xor2")
            {
                let message = format!(
                    "'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', or the field \
                     must be omitted entirely, got {floats:?}"
                );
                encoding.fault("floats", message, None);
            }
            encoding.finish();
        }
        tsdb.finish();
    }
    if let Some(mut exemplars) = section.section("exemplars", "config.ExemplarsConfig") {
        storage.max_exemplars = exemplars.read("max_exemplars");
        exemplars.finish();
    }
    for (key, help) in [
        (
            "tsdb",
            "Watchfire's own storage has its own keys: storage.retention and storage.retention_size_bytes of --config; samples of any age inside retention are taken",
        ),
        (
            "exemplars",
            "exemplars are always kept; storage.exemplars.max_exemplars of --config says how many",
        ),
    ] {
        if section.is_set(key) {
            section.warn(key, format!("storage.{key} has no effect"), Some(help));
        }
    }
    section.finish();
    storage
}

/// Reads a size that Prometheus checks by itself, since its notation allows less than nothing.
fn read_retention_size(section: &mut Section<'_>) -> Option<u64> {
    let text: String = section.value("size");
    if text.starts_with('-') {
        let message =
            format!("'storage.tsdb.retention.size' must be greater than or equal to 0, got {text}");
        section.fault("size", message, Some("write a size such as 100GB, or remove the key"));
        return None;
    }
    section.read::<ByteSize>("size").map(|size| size.0).filter(|size| *size > 0)
}

/// Reads `tracing`.
pub(super) fn read_tracing(root: &mut Section<'_>) -> Option<Tracing> {
    let mut section = root.section("tracing", "config.plain")?;
    let client_type: String = section.or("client_type", "grpc".to_owned());
    if !matches!(client_type.as_str(), "grpc" | "http") {
        let message =
            format!("expected tracing client type to be to be http or grpc, but got {client_type}");
        section.fault("client_type", message, None);
    }
    let compression: String = section.value("compression");
    if !matches!(compression.as_str(), "" | "gzip") {
        let message =
            format!("invalid compression type {compression} provided, valid options: gzip");
        section.fault("compression", message, Some("write gzip or remove the key"));
    }
    let tracing = Tracing {
        client_type,
        endpoint: section.value("endpoint"),
        sampling_fraction: section.value("sampling_fraction"),
        insecure: section.value("insecure"),
        tls: http_client::read_tls(&mut section),
        headers: http_client::read_plain_headers(
            &mut section,
            "custom authorization header configuration is not yet supported",
        ),
        compression: compression == "gzip",
        timeout: section.value::<Milliseconds>("timeout").duration(),
    };
    if tracing.endpoint.is_empty() {
        section.fault("endpoint", "tracing endpoint must be set", Some("add endpoint: host:4317"));
    }
    section.finish();
    Some(tracing)
}

/// The names of the file.
const STRATEGIES: [(&str, TranslationStrategy); 4] = [
    ("UnderscoreEscapingWithSuffixes", TranslationStrategy::UnderscoreEscapingWithSuffixes),
    ("UnderscoreEscapingWithoutSuffixes", TranslationStrategy::UnderscoreEscapingWithoutSuffixes),
    ("NoUTF8EscapingWithSuffixes", TranslationStrategy::NoUtf8EscapingWithSuffixes),
    ("NoTranslation", TranslationStrategy::NoTranslation),
];

/// Reads `otlp`.
pub(super) fn read_otlp(root: &mut Section<'_>, names: NameValidation) -> Otlp {
    let default = Otlp::default();
    let Some(mut section) = root.section("otlp", "config.plain") else { return default };
    let otlp = Otlp {
        promote_all_resource_attributes: section.value("promote_all_resource_attributes"),
        promote_resource_attributes: section.value("promote_resource_attributes"),
        ignore_resource_attributes: section.value("ignore_resource_attributes"),
        translation_strategy: read_strategy(&mut section, names),
        keep_identifying_resource_attributes: section.value("keep_identifying_resource_attributes"),
        convert_histograms_to_nhcb: section.value("convert_histograms_to_nhcb"),
        promote_scope_metadata: section.value("promote_scope_metadata"),
        label_name_underscore_sanitization: section
            .or("label_name_underscore_sanitization", default.label_name_underscore_sanitization),
        label_name_preserve_multiple_underscores: section.or(
            "label_name_preserve_multiple_underscores",
            default.label_name_preserve_multiple_underscores,
        ),
    };
    let otlp = check_attributes(&section, otlp);
    section.finish();
    otlp
}

fn read_strategy(section: &mut Section<'_>, names: NameValidation) -> TranslationStrategy {
    let text: String = section.value("translation_strategy");
    if text.is_empty() {
        return TranslationStrategy::default();
    }
    let Some((_, strategy)) = STRATEGIES.iter().find(|(name, _)| *name == text) else {
        let message = format!("unsupported OTLP translation strategy {text:?}");
        let help = nearest(&text, STRATEGIES.iter().map(|(name, _)| *name))
            .map(|name| format!("did you mean `{name}`?"));
        section.fault("translation_strategy", message, help.as_deref());
        return TranslationStrategy::default();
    };
    let needs_utf8 = matches!(
        strategy,
        TranslationStrategy::NoTranslation | TranslationStrategy::NoUtf8EscapingWithSuffixes
    );
    if needs_utf8 && names == NameValidation::Legacy {
        let message =
            format!("OTLP translation strategy {text:?} is not allowed when UTF8 is disabled");
        let help = "set global.metric_name_validation_scheme to utf8";
        section.fault("translation_strategy", message, Some(help));
    }
    *strategy
}

fn check_attributes(section: &Section<'_>, mut otlp: Otlp) -> Otlp {
    let (key, adjective, list) = if otlp.promote_all_resource_attributes {
        if !otlp.promote_resource_attributes.is_empty() {
            let message = "'promote_all_resource_attributes' and 'promote_resource_attributes' \
                           cannot be configured simultaneously";
            let help = "remove promote_resource_attributes: all are promoted anyway";
            section.fault("promote_resource_attributes", message, Some(help));
        }
        ("ignore_resource_attributes", "ignored", &mut otlp.ignore_resource_attributes)
    } else {
        if !otlp.ignore_resource_attributes.is_empty() {
            let message = "'ignore_resource_attributes' cannot be configured unless \
                           'promote_all_resource_attributes' is true";
            let help = "set promote_all_resource_attributes: true, or remove the list";
            section.fault("ignore_resource_attributes", message, Some(help));
        }
        ("promote_resource_attributes", "promoted", &mut otlp.promote_resource_attributes)
    };
    let mut seen: Vec<String> = Vec::new();
    for attribute in list.iter() {
        let attribute = attribute.trim();
        if attribute.is_empty() {
            let message = format!("invalid '{key}': empty {adjective} OTel resource attribute");
            section.fault(key, message, None);
        } else if seen.iter().any(|other| other == attribute) {
            let message = format!(
                "invalid '{key}': duplicated {adjective} OTel resource attribute {attribute:?}"
            );
            section.fault(key, message, None);
        } else {
            seen.push(attribute.to_owned());
        }
    }
    *list = seen;
    otlp
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn variables_are_replaced_as_in_go() {
        let variable = |name: &str| format!("<{name}>");
        for (text, want) in [
            ("plain", "plain"),
            ("$A-b", "<A>-b"),
            ("${A_1}x", "<A_1>x"),
            ("$$A", "$A"),
            ("a$", "a$"),
            ("$-x", "<->x"),
            ("$1x", "<1>x"),
            ("$.x", "$.x"),
            ("${", ""),
            ("${}x", "x"),
            ("é$É", "é$É"),
        ] {
            assert_eq!(expand(text, variable), want, "{text}");
        }
    }
}
