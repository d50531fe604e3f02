//! Tells receivers: one file per kind of [`settings::alertmanager::IntegrationSettings`].
//!
//! [`Deliverer`] has a client for each integration of a configuration, takes a
//! [`alerting::notify::Notification`] and says what came of it. When and what is told is decided
//! by `alerting`; here is only how. Payloads, limits of lengths and which answers are worth another
//! try are Alertmanager's (`notify/*` of its source), except where a file says otherwise.
//!
//! What holds for all of them: a request goes only to addresses that
//! [`net::client::AddressCheck`] allows and never follows a redirect to another host; no error
//! shows a secret; an answer is read up to a limit, and at most 256 bytes of it are told.

mod courier;
mod deliverer;
mod dingtalk;
mod discord;
mod email;
mod feishu;
mod filled;
mod incidentio;
mod jira;
mod mac;
mod mattermost;
mod message;
mod msteams;
mod opsgenie;
mod pagerduty;
mod pushover;
mod rocketchat;
mod secrets;
mod shortened;
mod slack;
mod sns;
mod standard_message;
mod structured;
mod telegram;
#[cfg(test)]
mod test_peer;
mod throttle;
mod victorops;
mod webex;
mod webhook;
mod wechat;

pub use deliverer::{BuildError, Deliverer, DeliveryOptions, TestResult};
pub use throttle::Marks;
