//! `sns_configs`: Amazon's Simple Notification Service.

use super::{Common, template, texts};
use crate::Secret;
use crate::alertmanager::Global;
use crate::yaml::Section;

/// Amazon's Simple Notification Service. Texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub struct Sns {
    /// Where to, if not where the region says.
    pub api_url: String,
    /// The region of the signature; from the environment if empty.
    pub region: String,
    /// The key's name; from the environment if empty.
    pub access_key: String,
    /// The key itself.
    pub secret_key: Secret,
    /// Which profile of the credentials file.
    pub profile: String,
    /// Which role is taken.
    pub role_arn: String,
    /// The id that the role asks for.
    pub external_id: String,
    /// Whom to tell.
    pub target: SnsTarget,
    /// The subject.
    pub subject: String,
    /// What happened.
    pub message: String,
    /// Attributes by ascending name.
    pub attributes: Vec<(String, String)>,
    /// Whether AWS' own client is asked for. There is one client here.
    pub use_aws_http_client: bool,
}

/// Whom to tell; each may be a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnsTarget {
    /// A topic.
    Topic(String),
    /// An endpoint of a phone's application.
    Target(String),
    /// A phone.
    Phone(String),
}

pub(super) fn read(section: &mut Section<'_>, _: &mut Common) -> Sns {
    let topic: String = section.value("topic_arn");
    let target: String = section.value("target_arn");
    let phone: String = section.value("phone_number");
    if [&topic, &target, &phone].iter().filter(|text| !text.is_empty()).count() != 1 {
        let message = "must provide either a Target ARN, Topic ARN, or Phone Number for SNS config";
        section.fault(
            "target_arn",
            message,
            Some("give one of topic_arn, target_arn, phone_number"),
        );
    }
    let mut sns = Sns {
        api_url: section.value("api_url"),
        region: String::new(),
        access_key: String::new(),
        secret_key: Secret::default(),
        profile: String::new(),
        role_arn: String::new(),
        external_id: String::new(),
        target: if !target.is_empty() {
            SnsTarget::Target(target)
        } else if !phone.is_empty() {
            SnsTarget::Phone(phone)
        } else {
            SnsTarget::Topic(topic)
        },
        subject: template(section, "subject", "sns.default.subject"),
        message: template(section, "message", "sns.default.message"),
        attributes: texts(section, "attributes"),
        use_aws_http_client: section.value("use_aws_http_client"),
    };
    let Some(mut inner) = section.section("sigv4", "sigv4.plain") else { return sns };
    sns.region = inner.value("region");
    sns.access_key = inner.value("access_key");
    sns.secret_key = inner.value("secret_key");
    sns.profile = inner.value("profile");
    sns.role_arn = inner.value("role_arn");
    sns.external_id = inner.value("external_id");
    inner.value::<String>("service_name");
    inner.value::<bool>("use_fips_sts_endpoint");
    if sns.access_key.is_empty() != sns.secret_key.is_empty() {
        let message = "must provide a AWS SigV4 Access key and Secret Key if credentials are \
                       specified in the SigV4 config";
        inner.fault("access_key", message, Some("give both, or neither"));
    }
    inner.finish();
    sns
}

impl Sns {
    pub(super) fn inherit(&mut self, _: &Section<'_>, _: &mut Common, _: &Global) {}
}
