//! Issues in Jira. Source: Alertmanager, `notify/jira/jira.go`, `notify/jira/types.go`.
//!
//! The label `ALERT{…}`, with the hash of the group's key, tells which issue is the group's.

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use http::header::ACCEPT_LANGUAGE;
use model::quote::quote;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use settings::alertmanager::receivers::{Jira as Settings, JiraApi};

use crate::courier::{Answer, Courier, origin, path_segment, with_path};
use crate::message::{Channel, Failure, Kept, Message};
use crate::{shortened, structured};

/// Longest summary and description.
const MAX_SUMMARY_CHARS: usize = 255;
const MAX_DESCRIPTION_CHARS: usize = 32_767;

/// A project of Jira.
pub(crate) struct Jira {
    courier: Courier,
    settings: Settings,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    issues: Vec<Issue>,
}

#[derive(Deserialize)]
struct Issue {
    #[serde(default)]
    key: String,
    #[serde(default)]
    fields: Option<IssueFields>,
}

#[derive(Deserialize)]
struct IssueFields {
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Status {
    #[serde(rename = "statusCategory")]
    category: Category,
}

#[derive(Deserialize)]
struct Category {
    key: String,
}

#[derive(Deserialize)]
struct Transitions {
    #[serde(default)]
    transitions: Vec<Transition>,
}

#[derive(Deserialize)]
struct Transition {
    id: String,
    name: String,
}

impl Jira {
    pub(crate) fn new(settings: &Settings, courier: Courier) -> Self {
        Jira { courier, settings: settings.clone() }
    }

    fn api_url(&self) -> Result<&str, Failure> {
        let url = self.settings.api_url.as_ref().map(|url| url.reveal());
        url.ok_or_else(|| Failure::fatal("there is no api_url; add api_url"))
    }

    /// The issue of the group, if there is one that may be changed.
    async fn search(&self, message: &Message<'_>) -> Result<Option<Issue>, Failure> {
        let settings = &self.settings;
        let mut jql = String::new();
        if !settings.wont_fix_resolution.is_empty() {
            jql.push_str(&format!("resolution != {} and ", quote(&settings.wont_fix_resolution)));
        }
        let minutes = settings.reopen_duration.as_secs() / 60;
        if message.fires() && !settings.reopen_transition.is_empty() && minutes > 0 {
            jql.push_str(&format!(
                "(resolutiondate is EMPTY OR resolutiondate >= -{minutes}m) and "
            ));
        } else {
            jql.push_str("statusCategory != Done and ");
        }
        jql.push_str(&format!(
            "project={} and labels={} order by status ASC,resolutiondate DESC",
            quote(&message.text(&settings.project)?),
            quote(&label(message))
        ));
        let body = json!({
            "jql": jql,
            "maxResults": 2,
            "fields": ["status"],
        });
        let found: Found = self
            .call(message, Method::POST, &self.search_url()?, Some(&body))
            .await?
            .json(message)?;
        Ok(found.issues.into_iter().next())
    }

    /// Jira Cloud has its search elsewhere and in version 3 only.
    fn search_url(&self) -> Result<String, Failure> {
        let url = self.api_url()?;
        let host = origin(url);
        let is_cloud = match self.settings.api {
            JiraApi::Cloud => true,
            JiraApi::DataCenter => false,
            JiraApi::Auto => {
                let name = host.rsplit_once(':').filter(|(_, port)| {
                    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
                });
                name.map_or(host, |(name, _)| name).ends_with("atlassian.net")
            }
        };
        if !is_cloud {
            return Ok(joined(url, "search"));
        }
        Ok(joined(url, "search/jql").replacen("/rest/api/2/", "/rest/api/3/", 1))
    }

    fn issue(&self, message: &Message<'_>, is_new: bool) -> Result<Value, Failure> {
        let settings = &self.settings;
        let text = |template: &String| message.text(template);
        let mut fields = Map::new();
        if is_new || settings.summary.enable_update {
            let summary = message.noted(text(&settings.summary.template)?);
            fields.insert(
                "summary".to_owned(),
                shortened::in_chars(summary, MAX_SUMMARY_CHARS).into(),
            );
        }
        if is_new || settings.description.enable_update {
            let description = self.description(message)?;
            if !description.is_null() {
                fields.insert("description".to_owned(), description);
            }
        }
        fields.insert("project".to_owned(), json!({"key": text(&settings.project)?}));
        fields.insert("issuetype".to_owned(), json!({"name": text(&settings.issue_type)?}));
        let mut labels = Vec::with_capacity(settings.labels.len() + 1);
        for template in &settings.labels {
            labels.push(text(template)?);
        }
        labels.push(label(message));
        labels.sort();
        fields.insert("labels".to_owned(), labels.into());
        let priority = text(&settings.priority)?;
        if !priority.is_empty() {
            fields.insert("priority".to_owned(), json!({"name": priority}));
        }
        for (name, value) in &settings.fields {
            let value = structured::expanded(value, &mut |text| message.text(text));
            let value =
                value.map_err(|failure| failure.while_doing(&format!("fields {name:?}")))?;
            fields.insert(name.clone(), value);
        }
        Ok(json!({"fields": fields}))
    }

    /// A text; in version 3 of the API a document, which the template has to yield as JSON.
    fn description(&self, message: &Message<'_>) -> Result<Value, Failure> {
        let text = message.text(&self.settings.description.template)?;
        let text = shortened::in_chars(text, MAX_DESCRIPTION_CHARS);
        let path = self.api_url()?.split(['?', '#']).next().unwrap_or_default();
        if !path.trim_end_matches('/').ends_with("/3") {
            return Ok(if text.is_empty() { Value::Null } else { text.into() });
        }
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(text.trim()).map_err(|_| {
            Failure::fatal(
                "description is not JSON, as version 3 of Jira's API asks for; use /rest/api/2, or a \
                 template that yields a document",
            )
        })
    }

    /// Opens an issue again, or resolves it, if it is not so already.
    async fn transition(&self, message: &Message<'_>, issue: &Issue) -> Result<(), Failure> {
        let status = issue.fields.as_ref().and_then(|fields| fields.status.as_ref());
        let Some(status) = status.filter(|_| !issue.key.is_empty()) else { return Ok(()) };
        let is_done = status.category.key == "done";
        let name = match (message.fires(), is_done) {
            (true, true) => &self.settings.reopen_transition,
            (false, false) => &self.settings.resolve_transition,
            _ => return Ok(()),
        };
        let path = format!("issue/{}/transitions", path_segment(&issue.key));
        let url = joined(self.api_url()?, &path);
        let all: Transitions = self.call(message, Method::GET, &url, None).await?.json(message)?;
        let Some(found) = all.transitions.iter().find(|transition| transition.name == *name) else {
            return Err(Failure::fatal(format!(
                "the issue {} has no transition {name:?} now; set reopen_transition and \
                 resolve_transition to names of its workflow",
                issue.key
            )));
        };
        let body = json!({"transition": {"id": found.id}});
        self.call(message, Method::POST, &url, Some(&body)).await.map(drop)
    }

    async fn call(
        &self,
        message: &Message<'_>,
        method: Method,
        url: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let headers = [(ACCEPT_LANGUAGE, "en")];
        let answer = self.courier.exchange(message, method, url, &headers, body).await?;
        answer.check(message, &[429])?;
        Ok(answer)
    }
}

#[async_trait]
impl Channel for Jira {
    async fn send(&self, message: &Message<'_>) -> Result<Kept, Failure> {
        let searching = |failure: Failure| failure.while_doing("search for the issue");
        let found = self.search(message).await.map_err(searching)?;
        let Some(issue) = found else {
            // What ended is not worth a new issue.
            if message.fires() {
                let url = joined(self.api_url()?, "issue");
                let created = self.issue(message, true)?;
                let creating = |failure: Failure| failure.while_doing("create the issue");
                self.call(message, Method::POST, &url, Some(&created)).await.map_err(creating)?;
            }
            return Ok(None);
        };
        let url = joined(self.api_url()?, &format!("issue/{}", path_segment(&issue.key)));
        let changed = self.issue(message, false)?;
        let key = &issue.key;
        let changing = |failure: Failure| failure.while_doing(&format!("change the issue {key}"));
        self.call(message, Method::PUT, &url, Some(&changed)).await.map_err(changing)?;
        let moving = |failure: Failure| failure.while_doing(&format!("move the issue {key}"));
        self.transition(message, &issue).await.map_err(moving)?;
        Ok(None)
    }
}

/// What tells the group's issue from others.
fn label(message: &Message<'_>) -> String {
    format!("ALERT{{{}}}", message.key_hash())
}

/// A path below a URL, with one slash between them.
fn joined(url: &str, path: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    with_path(&format!("{}{}", url[..end].trim_end_matches('/'), &url[end..]), &format!("/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_peer::{
        KEY_HASH, NOW_NS, Peer, Seen, delivered, deliverer, failed, json as said, notification,
        resolved, retried,
    };

    fn keys(peer: &Peer, more: &str) -> String {
        format!(
            "jira_configs: [{{api_url: '{}', project: OPS, issue_type: Bug, reopen_transition: Reopen, \
             resolve_transition: Done, reopen_duration: 1h{more}}}]",
            peer.url("/rest/api/2")
        )
    }

    fn calls(peer: &Peer) -> Vec<String> {
        peer.requests().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }

    fn issue(category: &str) -> String {
        format!(
            r#"{{"issues":[{{"key":"OPS-1","fields":{{"status":{{"name":"x","statusCategory":{{"key":"{category}"}}}}}}}}]}}"#
        )
    }

    #[tokio::test]
    async fn an_issue_is_created() {
        let peer = Peer::start(|seen: &Seen, _| match seen.path.ends_with("search") {
            true => said(200, r#"{"issues":[]}"#),
            false => said(201, r#"{"key":"OPS-1"}"#),
        })
        .await;
        let more = ", labels: ['z-{{ .Status }}'], wont_fix_resolution: 'Won\"t', description: D, fields: \
                    {customfield_1: '{{ len .Alerts }}', summary: own}";
        let deliverer = deliverer(&keys(&peer, more));
        assert_eq!(deliverer.deliver(&notification("jira"), NOW_NS).await, delivered());
        assert_eq!(calls(&peer), ["POST /rest/api/2/search", "POST /rest/api/2/issue"]);
        let requests = peer.requests();
        assert_eq!(requests[0].header("accept-language"), "en");
        let label = format!("ALERT{{{KEY_HASH}}}");
        assert_eq!(
            requests[0].json(),
            json!({
                "jql": format!(
                    "resolution != \"Won\\\"t\" and (resolutiondate is EMPTY OR resolutiondate >= -60m) \
                     and project=\"OPS\" and labels=\"{label}\" order by status ASC,resolutiondate DESC"
                ),
                "maxResults": 2,
                "fields": ["status"],
            })
        );
        assert_eq!(
            requests[1].json(),
            json!({"fields": {
                "project": {"key": "OPS"},
                "issuetype": {"name": "Bug"},
                "summary": "own",
                "description": "D",
                "labels": [label, "z-firing"],
                "priority": {"name": "High"},
                "customfield_1": 2,
            }})
        );
        // Nothing is created for what ended.
        assert_eq!(deliverer.deliver(&resolved("jira"), NOW_NS).await, delivered());
        assert_eq!(peer.requests().len(), 3);
        let jql = peer.requests()[2].json()["jql"].as_str().map(str::to_owned);
        assert!(jql.expect("a query").contains("statusCategory != Done and project"));
    }

    #[tokio::test]
    async fn an_issue_is_changed_opened_again_and_resolved() {
        for (category, fires, transition) in [
            ("done", true, Some("11")),
            ("new", true, None),
            ("indeterminate", false, Some("21")),
            ("done", false, None),
        ] {
            let found = issue(category);
            let peer = Peer::start(move |seen: &Seen, _| {
                if seen.path.ends_with("search") {
                    said(200, &found)
                } else if seen.method == Method::GET {
                    said(200, r#"{"transitions":[{"id":"11","name":"Reopen"},{"id":"21","name":"Done"}]}"#)
                } else {
                    said(204, "")
                }
            })
            .await;
            let deliverer =
                deliverer(&keys(&peer, ", summary: {template: S, enable_update: false}"));
            let told = if fires { notification("jira") } else { resolved("jira") };
            assert_eq!(deliverer.deliver(&told, NOW_NS).await, delivered());
            let mut wanted = vec![
                "POST /rest/api/2/search".to_owned(),
                "PUT /rest/api/2/issue/OPS-1".to_owned(),
            ];
            if transition.is_some() {
                wanted.push("GET /rest/api/2/issue/OPS-1/transitions".to_owned());
                wanted.push("POST /rest/api/2/issue/OPS-1/transitions".to_owned());
            }
            assert_eq!(calls(&peer), wanted);
            let requests = peer.requests();
            let fields = &requests[1].json()["fields"];
            assert_eq!(fields.get("summary"), None);
            assert!(fields["description"].as_str().is_some_and(|text| text.contains("Labels:")));
            if let Some(id) = transition {
                assert_eq!(requests[3].json(), json!({"transition": {"id": id}}));
            }
        }
    }

    #[tokio::test]
    async fn refusals() {
        let peer = Peer::start(|seen: &Seen, before| match before {
            0 => said(401, "who are you, basic-password-1?"),
            1 => said(429, ""),
            _ if seen.path.ends_with("search") => said(200, &issue("done")),
            _ if seen.method == Method::GET => said(200, r#"{"transitions":[]}"#),
            _ => said(204, ""),
        })
        .await;
        let more = ", http_config: {basic_auth: {username: u, password: basic-password-1}}";
        let deliverer = deliverer(&keys(&peer, more));
        let message = failed(deliverer.deliver(&notification("jira"), NOW_NS).await);
        assert_eq!(
            message,
            "ops/jira[0]: search for the issue: unexpected status code 401: who are you, <secret>?"
        );
        retried(deliverer.deliver(&notification("jira"), NOW_NS).await);
        let message = failed(deliverer.deliver(&notification("jira"), NOW_NS).await);
        assert!(message.contains("OPS-1 has no transition \"Reopen\""), "{message}");
    }

    #[tokio::test]
    async fn the_cloud_searches_elsewhere() {
        let peer = Peer::start(|seen: &Seen, _| match seen.path.contains("search") {
            true => said(200, r#"{"issues":[],"isLast":true}"#),
            false => said(201, "{}"),
        })
        .await;
        let deliverer = deliverer(&keys(&peer, ", api_type: cloud"));
        assert_eq!(deliverer.deliver(&notification("jira"), NOW_NS).await, delivered());
        assert_eq!(calls(&peer), ["POST /rest/api/3/search/jql", "POST /rest/api/2/issue"]);
    }

    #[tokio::test]
    async fn version_3_takes_documents() {
        let peer = Peer::start(|seen: &Seen, _| match seen.path.contains("search") {
            true => said(200, r#"{"issues":[]}"#),
            false => said(201, "{}"),
        })
        .await;
        let keys = |more: &str| keys(&peer, more).replace("/rest/api/2", "/rest/api/3");
        let of_text = deliverer(&keys(", description: plain"));
        let message = failed(of_text.deliver(&notification("jira"), NOW_NS).await);
        assert!(message.contains("description is not JSON"), "{message}");
        let of_document =
            deliverer(&keys(", description: '{\"type\":\"doc\",\"n\":{{ len .Alerts }}}'"));
        assert_eq!(of_document.deliver(&notification("jira"), NOW_NS).await, delivered());
        let created = peer.requests().last().map(Seen::json).expect("a request");
        assert_eq!(created["fields"]["description"], json!({"type": "doc", "n": 2}));
    }
}
