//! Labels of a file's lines, and what the path of a container's log says.

use std::path::Path;

use model::Labels;

use super::config::{FileGroup, Layout};

/// The labels of a file's lines.
pub(crate) fn of_file(group: &FileGroup, named: &Path, path: &Path, host: &str) -> Labels {
    let mut labels = group.labels.clone();
    for (name, value) in match group.layout {
        Layout::Plain => Vec::new(),
        Layout::Pods => of_pod(path),
        Layout::Docker => of_docker(path),
    } {
        labels.entry(name.to_owned()).or_insert(value);
    }
    let filename = named.to_string_lossy().into_owned();
    labels.entry("filename".to_owned()).or_insert(filename);
    labels.entry("host".to_owned()).or_insert_with(|| host.to_owned());
    let pairs = labels.iter().filter(|(_, value)| !value.is_empty());
    let pairs = pairs.map(|(name, value)| (name.as_str(), value.as_str()));
    Labels::from_pairs(pairs).unwrap_or_else(|_| Labels::empty())
}

/// Labels of `/var/log/pods/<namespace>_<pod>_<uid>/<container>/<n>.log`; none of another path.
pub(crate) fn of_pod(path: &Path) -> Vec<(&'static str, String)> {
    let mut parts = path.iter().rev().skip(1).map(|part| part.to_string_lossy());
    let (Some(container), Some(pod)) = (parts.next(), parts.next()) else { return Vec::new() };
    let Some((namespace, rest)) = pod.split_once('_') else { return Vec::new() };
    let Some((pod, _uid)) = rest.rsplit_once('_') else { return Vec::new() };
    vec![
        ("namespace", namespace.to_owned()),
        ("pod", pod.to_owned()),
        ("container", container.into_owned()),
    ]
}

/// Labels of `/var/lib/docker/containers/<id>/<id>-json.log`. The name of the container stands in
/// `config.v2.json` beside it; without that the label has the first digits of the id.
pub(crate) fn of_docker(path: &Path) -> Vec<(&'static str, String)> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Config {
        #[serde(default)]
        name: String,
        #[serde(default)]
        config: Inner,
    }
    #[derive(Default, serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inner {
        #[serde(default)]
        image: String,
    }
    let Some(directory) = path.parent() else { return Vec::new() };
    let id = directory.file_name().unwrap_or_default().to_string_lossy();
    let id: String = id.chars().take(12).collect();
    let text = std::fs::read(directory.join("config.v2.json")).unwrap_or_default();
    let config: Option<Config> = serde_json::from_slice(&text).ok();
    let name = config.as_ref().map(|config| config.name.trim_start_matches('/').to_owned());
    let image = config.map(|config| config.config.image).unwrap_or_default();
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| id.clone());
    vec![("container", name), ("container_id", id), ("image", image)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_and_containers_have_names() {
        let path = "/var/log/pods/kube-system_dns-a_b-7f_0b1c/core/3.log";
        let found = of_pod(Path::new(path));
        let found: Vec<&str> = found.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(found, ["kube-system", "dns-a_b-7f", "core"]);
        assert!(of_pod(Path::new("/x.log")).is_empty());
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("0123456789abcdef/0123456789abcdef-json.log");
        std::fs::create_dir(log.parent().expect("below")).expect("made");
        assert_eq!(of_docker(&log)[0], ("container", "0123456789ab".to_owned()));
        let config = r#"{"Name":"/web","Config":{"Image":"nginx:1"}}"#;
        std::fs::write(log.with_file_name("config.v2.json"), config).expect("written");
        let found = of_docker(&log);
        assert_eq!(found[0], ("container", "web".to_owned()));
        assert_eq!(found[2], ("image", "nginx:1".to_owned()));
    }
}
