//! What rules ask, in turns of their own: an alert must not wait for dashboards.

use std::sync::Arc;

use net::ApiError;

use super::{Answer, Executor, Job};
use crate::counted::QueryData;
use crate::data::Work;
use crate::running::Asked;

impl Executor {
    /// As [`Executor::run`], in the turn of rules.
    pub(crate) async fn run_for_rule(self: &Arc<Self>, job: Job) -> Result<Answer, ApiError> {
        let timeout = self.time_limit(&job);
        let permit = self.rules_admission.turn(job.asked.tenant, Some(usize::MAX)).await;
        self.run_with(permit, job, timeout).await
    }

    /// As [`Executor::in_time`], in the turn of rules.
    pub(crate) async fn in_time_for_rule<T: Send + 'static>(
        self: &Arc<Self>,
        asked: Asked,
        task: impl FnOnce(&QueryData, &Work) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let limit = self.query_timeout(asked.tenant);
        let permit = self.rules_admission.turn(asked.tenant, Some(usize::MAX)).await;
        let work = self.blocking_with(permit, asked, task);
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(self.timed_out(limit)))
    }
}
