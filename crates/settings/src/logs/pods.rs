//! Pods of Kubernetes whose lines are read from the files of this node.
//!
//! Promtail and Alloy ask the API server for pods and then read their files below `/var/log/pods`. The
//! paths of those files name namespace, pod, uid and container, which is what rules ask for most; labels
//! and annotations of pods stand nowhere on the node.

use std::path::PathBuf;

use crate::diagnostic::Severity;
use crate::relabel::{Action, RelabelConfig};
use crate::yaml::{Context, Section, Span};

use super::config::PodSource;

/// Where a node has the files of its pods.
const PODS: &str = "/var/log/pods";
/// What is known of a pod by the path of its files.
const KNOWN: &[&str] = &[
    "__meta_kubernetes_namespace",
    "__meta_kubernetes_node_name",
    "__meta_kubernetes_pod_container_name",
    "__meta_kubernetes_pod_controller_kind",
    "__meta_kubernetes_pod_controller_name",
    "__meta_kubernetes_pod_name",
    "__meta_kubernetes_pod_node_name",
    "__meta_kubernetes_pod_uid",
];
/// Keys that say how the API server is asked.
const OF_THE_SERVER: &[&str] = &[
    "api_server",
    "attach_metadata",
    "authorization",
    "basic_auth",
    "bearer_token",
    "bearer_token_file",
    "enable_http2",
    "follow_redirects",
    "http_headers",
    "kubeconfig_file",
    "no_proxy",
    "oauth2",
    "proxy_connect_header",
    "proxy_from_environment",
    "proxy_url",
    "selectors",
    "tls_config",
];

/// Reads a mechanism that finds pods. `None` if it finds something else, which is told.
pub(super) fn read(mut section: Section<'_>) -> Option<PodSource> {
    let role: String = section.value("role");
    let mut pods = PodSource { directory: PathBuf::from(PODS), ..PodSource::default() };
    if let Some(mut inner) = section.section("namespaces", "kubernetes.NamespaceDiscovery") {
        inner.value::<bool>("own_namespace");
        pods.namespaces = inner.value("names");
        inner.finish();
    }
    for key in OF_THE_SERVER {
        section.node(key);
    }
    let is_pod = role.eq_ignore_ascii_case("pod");
    if !is_pod {
        let message = format!("role {role:?} finds no files: pods have lines, and nothing else");
        section.mistake("role", message, "write role: pod");
    }
    section.finish();
    is_pod.then_some(pods)
}

/// Tells what rules ask for and nobody knows, and takes from them where the files are.
pub(super) fn check_rules(
    context: &Context<'_>,
    place: Span,
    rules: &[RelabelConfig],
    pods: &mut PodSource,
) {
    let mut unknown: Vec<&str> = Vec::new();
    let mut decides = false;
    for rule in rules {
        let fields = rule.fields();
        let asked = fields.source_labels.iter().map(String::as_str);
        let missing: Vec<&str> = asked
            .filter(|name| name.starts_with("__meta_kubernetes_") && !KNOWN.contains(name))
            .collect();
        let keeps = matches!(fields.action, Action::Keep | Action::KeepEqual);
        decides |= keeps && !missing.is_empty();
        unknown.extend(missing);
        if fields.target_label == "__path__"
            && let Some((start, _)) = fields.replacement.split_once("/*")
            && start.starts_with('/')
        {
            pods.directory = PathBuf::from(start);
        }
    }
    unknown.sort_unstable();
    unknown.dedup();
    if unknown.is_empty() {
        return;
    }
    let shown = unknown.join(", ");
    let help =
        "pods are found by their files: namespace, name, uid, container, node and controller are \
                known, labels and annotations are not"
            .to_owned();
    let (severity, message) = if decides {
        (Severity::Mistake, format!("nothing is collected: a rule keeps what has {shown}"))
    } else {
        (Severity::Warning, format!("{shown} of pods are empty"))
    };
    context.warn(severity, place, message, Some(help));
}
