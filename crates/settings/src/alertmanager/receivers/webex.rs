//! `webex_configs`: Webex.

use super::{Common, missing, template};
use crate::HttpUrl;
use crate::alertmanager::Global;
use crate::alertmanager::credential;
use crate::yaml::Section;

/// Webex. Texts are templates; the token is in `http_config.authorization`.
#[derive(Debug, Clone, PartialEq)]
pub struct Webex {
    /// Where to; present in a configuration that was loaded.
    pub api_url: Option<HttpUrl>,
    /// The room; not empty.
    pub room_id: String,
    /// What happened.
    pub message: String,
}

pub(super) fn read(section: &mut Section<'_>, common: &mut Common) -> Webex {
    let webex = Webex {
        api_url: credential::plain_url(section, "api_url"),
        room_id: section.value("room_id"),
        message: template(section, "message", "webex.default.message"),
    };
    if webex.room_id.is_empty() {
        missing(section, "room_id", "missing room_id on webex_config");
    }
    if common.own_http.as_ref().is_none_or(|http| http.authorization.is_none()) {
        let help = "add http_config: {authorization: {credentials_file: …}}";
        let message = "missing webex_configs.http_config.authorization";
        section.fault("http_config", message, Some(help));
    }
    webex
}

impl Webex {
    pub(super) fn inherit(&mut self, section: &Section<'_>, _: &mut Common, global: &Global) {
        self.api_url = self.api_url.take().or_else(|| global.webex_api_url.clone());
        if self.api_url.is_none() {
            let help = "add api_url: …, or webex_api_url to global";
            section.fault("api_url", "no global Webex URL set", Some(help));
        }
    }
}
