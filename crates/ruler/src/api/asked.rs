//! Parameters of a request: those in its URL, as Alertmanager reads them.

use http::Uri;
use model::{Labels, MatchOp};
use settings::alertmanager::{LabelMatcher, MatcherMode};

use super::answer::Refusal;

/// Most parameters of a request; each matcher of them is held against every alert.
const MAX_PARAMETERS: usize = 1_000;

/// The parameters of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pairs: Vec<(String, String)>,
}

impl Asked {
    pub(super) fn of(uri: &Uri) -> Result<Asked, Refusal> {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let pairs: Vec<(String, String)> =
            pairs.take(MAX_PARAMETERS + 1).map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
        if pairs.len() > MAX_PARAMETERS {
            return Err(Refusal::bad(format!(
                "the request has more than {MAX_PARAMETERS} parameters, which is the limit; join \
                 matchers of one label into one with an expression"
            )));
        }
        Ok(Asked { pairs })
    }

    /// The last value of a parameter, unless it is empty.
    pub(super) fn last(&self, name: &str) -> Option<&str> {
        let last = self.pairs.iter().rev().find(|(key, _)| key == name);
        last.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether something is wanted; it is unless the request says otherwise. What is no word for yes
    /// means no.
    pub(super) fn wants(&self, name: &str) -> bool {
        let Some(value) = self.last(name) else { return true };
        let value = value.to_lowercase();
        matches!(
            value.as_str(),
            "true" | "1" | "yes" | "ok" | "y" | "on" | "selected" | "checked" | "t" | "enabled"
        )
    }

    /// The matchers that stand in all values of a parameter, one in each.
    pub(super) fn matchers(
        &self,
        name: &str,
        mode: MatcherMode,
    ) -> Result<Vec<LabelMatcher>, String> {
        let texts = self.pairs.iter().filter(|(key, _)| key == name);
        texts
            .map(|(_, text)| mode.parse_one(text).map(|(matcher, _)| matcher))
            .map(|parsed| parsed.map_err(|error| error.0))
            .collect()
    }
}

/// Which alerts are asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// What their labels must match.
    pub(super) matchers: Vec<LabelMatcher>,
    /// What the name of a receiver of theirs must match.
    receiver: Option<LabelMatcher>,
    /// What the labels of a receiver of theirs must match.
    receiver_matchers: Vec<LabelMatcher>,
    /// Whether those that nothing mutes.
    pub(super) active: bool,
    /// Whether those that a silence mutes.
    pub(super) silenced: bool,
    /// Whether those that others inhibit.
    pub(super) inhibited: bool,
    /// Whether groups that an interval mutes.
    pub(super) muted: bool,
}

impl Wanted {
    pub(super) fn read(uri: &Uri, mode: MatcherMode) -> Result<Wanted, Refusal> {
        let asked = Asked::of(uri)?;
        let matchers = asked.matchers("filter", mode).map_err(Refusal::bad)?;
        let receiver = match asked.last("receiver") {
            None => None,
            Some(text) => {
                Some(LabelMatcher::new("receiver", MatchOp::Regex, text).map_err(|error| {
                    Refusal::bad(format!("failed to parse receiver param: {}", error.0))
                })?)
            }
        };
        Ok(Wanted {
            matchers,
            receiver,
            receiver_matchers: receiver_matchers(&asked, mode)?,
            active: asked.wants("active"),
            silenced: asked.wants("silenced"),
            inhibited: asked.wants("inhibited"),
            muted: asked.wants("muted"),
        })
    }

    /// Whether a receiver of that name is asked for.
    pub(super) fn fits_name(&self, receiver: &str) -> bool {
        self.receiver.as_ref().is_none_or(|matcher| matcher.matches(receiver))
    }

    /// Whether a receiver with these labels is asked for; one the configuration does not have is not.
    pub(super) fn fits_labels(&self, labels: Option<&Labels>) -> bool {
        self.receiver_matchers.is_empty()
            || labels.is_some_and(|l| LabelMatcher::all_match(&self.receiver_matchers, l))
    }
}

/// What the labels of receivers must match.
pub(super) fn receiver_matchers(
    asked: &Asked,
    mode: MatcherMode,
) -> Result<Vec<LabelMatcher>, Refusal> {
    let parsed = asked.matchers("receiver_matchers", mode);
    parsed.map_err(|why| Refusal::bad(format!("failed to parse receiver_matchers param: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Asked {
        Asked::of(&format!("/x?{query}").parse().expect("a URI")).expect("few")
    }

    #[test]
    fn flags_are_read_as_leniently_as_alertmanager_does() {
        for (query, wants) in [
            ("", true),
            ("a=", true),
            ("a=true", true),
            ("a=YES", true),
            ("a=enabled", true),
            ("a=false", false),
            ("a=whatever", false),
            ("a=false&a=true", true),
        ] {
            assert_eq!(asked(query).wants("a"), wants, "{query}");
        }
    }

    #[test]
    fn matchers_and_receivers_are_told_apart() {
        let read = |query: &str| {
            Wanted::read(&format!("/x?{query}").parse().expect("a URI"), MatcherMode::Fallback)
        };
        let wanted = read("filter=a%3Db&filter=c!%3D%22d%22&receiver=x|y").expect("read");
        assert_eq!(format!("{:?}", wanted.matchers), r#"[a="b", c!="d"]"#);
        assert!(wanted.fits_name("y") && !wanted.fits_name("xy"));
        let labels = Labels::from_pairs([("team", "a")]).expect("labels");
        assert!(wanted.fits_labels(Some(&labels)) && wanted.fits_labels(None));
        let wanted = read("receiver_matchers=team%3Da").expect("read");
        assert!(wanted.fits_labels(Some(&labels)) && !wanted.fits_labels(None));
        let refused = |query: &str| match read(query).expect_err(query) {
            Refusal::Unwanted(_, why) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused("filter=x"), "bad matcher format: x");
        assert_eq!(
            refused("receiver=("),
            "failed to parse receiver param: error parsing regexp: missing closing ): `^(?:()$`"
        );
        assert_eq!(
            refused("receiver_matchers=x"),
            "failed to parse receiver_matchers param: bad matcher format: x"
        );
        let many = "a=b&".repeat(MAX_PARAMETERS + 1);
        assert!(refused(&many).contains("1000"));
    }
}
