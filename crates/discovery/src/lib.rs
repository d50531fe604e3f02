//! Where targets and Alertmanagers come from.
//!
//! Each block of discovery is a task that sends groups of targets whenever they change. When it
//! cannot find out, it sends nothing, so that what was known stays in effect. [`Providers`] runs the
//! blocks of one job.

mod counters;
mod dns;
mod escape;
mod file;
mod groups;
mod http;
mod providers;
mod standing;
mod task;

use std::sync::Arc;

use net::client::{Client, ClientError, ClientOptions, Dns};
use settings::TargetGroup;
use settings::prometheus::Discovery;
use tokio::sync::mpsc::Sender;

pub use counters::DiscoveryCounters;
pub use escape::{escape, escape_path};
pub use providers::Providers;
pub use standing::Standing;
pub use task::Task;

/// The name of a discovery block within its job; never used twice.
pub(crate) type ProviderId = u64;

/// News of one discovery block: all of its groups, in place of those it sent before.
#[derive(Debug)]
pub struct Found {
    pub(crate) provider: ProviderId,
    pub(crate) groups: Vec<TargetGroup>,
}

/// One discovery block and what it needs, ready to run.
pub enum Prepared {
    /// Its groups are known already.
    Static(Vec<TargetGroup>),
    /// Files with groups.
    File(settings::prometheus::FileDiscovery),
    /// A server that knows groups, and who asks it.
    Http(Box<settings::prometheus::HttpDiscovery>, Box<Client>),
    /// Names, and who looks them up.
    Dns(settings::prometheus::DnsDiscovery, Arc<Dns>),
    /// A mechanism that is not run yet; the configuration said so in a warning.
    None,
}

impl Prepared {
    /// Makes everything that can fail.
    ///
    /// # Errors
    /// [`ClientError::Config`].
    pub async fn new(config: &Discovery, options: &ClientOptions) -> Result<Self, ClientError> {
        Ok(match config {
            Discovery::Static(groups) => Prepared::Static(groups.clone()),
            Discovery::File(file) => Prepared::File(file.clone()),
            Discovery::Http(http) => {
                let client = Client::open(&http.http, options).await?;
                Prepared::Http(http.clone(), Box::new(client))
            }
            Discovery::Dns(dns) => Prepared::Dns(dns.clone(), Arc::clone(&options.dns)),
            Discovery::Unsupported { .. } => Prepared::None,
        })
    }

    /// Runs until the task is dropped; what is known already needs no task.
    pub(crate) fn run(
        self,
        provider: ProviderId,
        found: Sender<Found>,
        counters: Arc<DiscoveryCounters>,
    ) -> Option<Task> {
        let report = Report { provider, found };
        match self {
            Prepared::File(config) => Some(Task::spawn(file::run(config, report, counters))),
            Prepared::Http(config, client) => {
                Some(Task::spawn(http::run(config, client, report, counters)))
            }
            Prepared::Dns(config, dns) => {
                Some(Task::spawn(dns::run(config, dns, report, counters)))
            }
            Prepared::Static(_) | Prepared::None => None,
        }
    }
}

/// Where a discovery block sends its news.
struct Report {
    provider: ProviderId,
    found: Sender<Found>,
}

impl Report {
    async fn send(&self, groups: Vec<TargetGroup>) {
        // When the job is gone, so is this task, a moment later.
        let _ = self.found.send(Found { provider: self.provider, groups }).await;
    }
}
