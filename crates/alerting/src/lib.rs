//! Alerting, synchronous and pure: time, randomness and what queries yield come in as arguments.
//!
//! `rules` evaluates groups of recording and alerting rules, `notify` does with alerts what an
//! `alertmanager.yml` says, `templates` has the functions and data of both kinds of templates.

pub mod notify;
pub mod rules;
pub mod templates;
