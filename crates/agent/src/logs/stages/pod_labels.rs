//! Labels of pods as Promtail and Alloy make them: by rules over `__meta_kubernetes_…`.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use model::Labels;
use settings::relabel::{LabelBuffer, RelabelConfig, relabel};

use crate::logs::{Entries, Entry, Pipeline, Stages};

/// Stages behind rules over what the path of a pod's file says. Labels are those that rules make,
/// `filename` and `host`.
#[derive(Debug)]
pub struct PodLabels {
    rules: Arc<[RelabelConfig]>,
    namespaces: Arc<[String]>,
    inner: Arc<dyn Stages>,
}

impl PodLabels {
    /// Puts rules before `inner`. Where `namespaces` has some, lines of others are dropped.
    pub fn before(
        rules: &[RelabelConfig],
        namespaces: &[String],
        inner: Arc<dyn Stages>,
    ) -> PodLabels {
        PodLabels { rules: rules.into(), namespaces: namespaces.into(), inner }
    }
}

impl Stages for PodLabels {
    fn start(&self) -> Box<dyn Pipeline> {
        Box::new(Labelling {
            rules: Arc::clone(&self.rules),
            namespaces: Arc::clone(&self.namespaces),
            inner: self.inner.start(),
            last: None,
        })
    }
}

struct Labelling {
    rules: Arc<[RelabelConfig]>,
    namespaces: Arc<[String]>,
    inner: Box<dyn Pipeline>,
    /// Labels of the file, and what became of them; all lines of a file have the same.
    last: Option<(Labels, Option<Labels>)>,
}

impl fmt::Debug for Labelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Labelling")
    }
}

impl Labelling {
    /// What the lines of a file are labelled with; `None` if they are dropped.
    fn labels(&self, of_file: &Labels) -> Option<Labels> {
        let (filename, host) = (of_file.get("filename")?, of_file.get("host").unwrap_or_default());
        let pod = Pod::of(Path::new(filename))?;
        if !self.namespaces.is_empty() && !self.namespaces.contains(&pod.namespace) {
            return None;
        }
        let (controller, kind) = controller_of(&pod.name).unwrap_or_default();
        let mut buffer = LabelBuffer::new();
        for (name, value) in [
            ("__meta_kubernetes_namespace", pod.namespace.as_str()),
            ("__meta_kubernetes_pod_name", pod.name.as_str()),
            ("__meta_kubernetes_pod_uid", pod.uid.as_str()),
            ("__meta_kubernetes_pod_container_name", pod.container.as_str()),
            ("__meta_kubernetes_pod_controller_name", controller),
            ("__meta_kubernetes_pod_controller_kind", kind),
            ("__meta_kubernetes_pod_node_name", host),
            ("__meta_kubernetes_node_name", host),
        ] {
            buffer.set(name, value);
        }
        if !relabel(&self.rules, &mut buffer) {
            return None;
        }
        let kept = buffer.iter().filter(|(name, _)| !name.starts_with("__"));
        let mut labels = model::LabelsBuilder::from_labels(&Labels::from_pairs(kept).ok()?);
        for (name, value) in [("filename", filename), ("host", host)] {
            if labels.get(name).is_none() && !value.is_empty() {
                labels.set(name, value);
            }
        }
        Some(labels.build())
    }
}

impl Pipeline for Labelling {
    fn process(&mut self, entry: &mut Entry, now: Instant, out: &mut dyn Entries) {
        if self.last.as_ref().is_none_or(|(of_file, _)| *of_file != entry.labels) {
            self.last = Some((entry.labels.clone(), self.labels(&entry.labels)));
        }
        if let Some((_, Some(labels))) = &self.last {
            entry.labels.clone_from(labels);
            self.inner.process(entry, now, out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }

    fn flush(&mut self, now: Option<Instant>, out: &mut dyn Entries) {
        self.inner.flush(now, out);
    }

    fn held(&self, offsets: &mut Vec<u64>) {
        self.inner.held(offsets);
    }

    fn ready_at(&self) -> Option<Instant> {
        self.inner.ready_at()
    }
}

/// What the path of a file says.
struct Pod {
    namespace: String,
    name: String,
    uid: String,
    container: String,
}

impl Pod {
    /// Of `…/<namespace>_<pod>_<uid>/<container>/<n>.log`.
    fn of(path: &Path) -> Option<Pod> {
        let mut parts = path.iter().rev().skip(1).map(|part| part.to_string_lossy());
        let (container, pod) = (parts.next()?, parts.next()?);
        let (namespace, rest) = pod.split_once('_')?;
        let (name, uid) = rest.rsplit_once('_')?;
        let [namespace, name, uid] = [namespace, name, uid].map(str::to_owned);
        Some(Pod { namespace, name, uid, container: container.into_owned() })
    }
}

/// The controller of a pod and its kind, by how controllers name their pods.
fn controller_of(pod: &str) -> Option<(&str, &'static str)> {
    let (rest, last) = pod.rsplit_once('-')?;
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some((rest, "StatefulSet"));
    }
    let is_random = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if last.len() != 5 || !is_random(last) {
        return None;
    }
    let hash = rest.rsplit_once('-').map(|(_, hash)| hash);
    let has_hash = hash.is_some_and(|hash| {
        (8..=10).contains(&hash.len())
            && is_random(hash)
            && hash.bytes().any(|byte| byte.is_ascii_digit())
    });
    Some((rest, if has_hash { "ReplicaSet" } else { "DaemonSet" }))
}

#[cfg(test)]
mod tests {
    use settings::NameValidation;
    use settings::relabel::parse_rules;

    use super::*;
    use crate::logs::Unchanged;

    fn labelled(yaml: &str, namespaces: &[String], path: &str) -> Option<String> {
        let rules = parse_rules("r.yml", yaml.as_bytes(), NameValidation::Utf8).expect("rules");
        let stages = PodLabels::before(&rules, namespaces, Arc::new(Unchanged));
        let mut pipeline = stages.start();
        let labels = [("filename", path), ("host", "node-1")];
        let labels = Labels::from_pairs(labels).expect("valid");
        let mut out: Vec<Entry> = Vec::new();
        for _ in 0..2 {
            let mut entry = Entry { labels: labels.clone(), ..Entry::default() };
            pipeline.process(&mut entry, Instant::now(), &mut out);
        }
        assert!(out.is_empty() || out.len() == 2 && out[0] == out[1], "{out:?}");
        out.first().map(|entry| entry.labels.to_string())
    }

    #[test]
    fn rules_see_what_the_path_says() {
        let rules = "[{source_labels: [__meta_kubernetes_pod_controller_name], regex: \
                     '([0-9a-z-.]+?)(-[0-9a-f]{8,10})?', target_label: app},
                     {source_labels: [__meta_kubernetes_namespace, app], separator: /, target_label: job},
                     {source_labels: [__meta_kubernetes_pod_node_name], target_label: node},
                     {source_labels: [__meta_kubernetes_pod_container_name], regex: noisy, action: drop}]";
        let path = "/var/log/pods/shop_web-6d4b75cb6d-abcde_0b1c-2d/nginx/0.log";
        assert_eq!(
            labelled(rules, &[], path).as_deref(),
            Some(
                "{app=\"web\", filename=\"/var/log/pods/shop_web-6d4b75cb6d-abcde_0b1c-2d/nginx/0.log\", \
                 host=\"node-1\", job=\"shop/web\", node=\"node-1\"}"
            )
        );
        assert_eq!(labelled(rules, &["other".to_owned()], path), None);
        assert_eq!(labelled(rules, &[], &path.replace("nginx", "noisy")), None);
        assert_eq!(labelled(rules, &[], "/var/log/syslog"), None);
    }

    #[test]
    fn controllers_are_known_by_the_names_of_their_pods() {
        for (pod, wanted) in [
            ("web-6d4b75cb6d-abcde", Some(("web-6d4b75cb6d", "ReplicaSet"))),
            ("db-12", Some(("db", "StatefulSet"))),
            ("node-exporter-x7k2p", Some(("node-exporter", "DaemonSet"))),
            ("alone", None),
            ("kube-apiserver", None),
        ] {
            assert_eq!(controller_of(pod), wanted, "{pod}");
        }
    }
}
