//! Pieces of other brokers' queries, computed here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use governor::Held;
use model::TenantName;
use net::ErrorType;
use net::rpc::evaluation_server::{Evaluation, EvaluationServer};
use net::rpc::{EvaluatePart, EvaluateRequest};
use promql::EvalTime;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::EvaluateParts;
use crate::Executor;
use crate::execute::{Job, PieceTerms};
use crate::running::Asked;

/// Bytes of one part.
const PIECE_BYTES: usize = 512 << 10;
/// Parts that wait for the network; then the rest does.
const WAITING: usize = 4;
/// How often whoever asked is told that the answer is still being made.
const STILL_AT_WORK: Duration = Duration::from_secs(1);
/// Steps of one piece: as many as a whole query may have.
const MAX_STEPS: i64 = 11_001;

/// The service. See [`evaluation_service`].
pub struct EvaluationService {
    executor: Arc<Executor>,
}

/// The service `Evaluation`, to be put among the routes that other brokers call.
pub fn evaluation_service(executor: &Arc<Executor>) -> EvaluationServer<EvaluationService> {
    EvaluationServer::new(EvaluationService { executor: Arc::clone(executor) })
}

#[tonic::async_trait]
impl Evaluation for EvaluationService {
    type EvaluateStream = EvaluateParts;

    async fn evaluate(
        &self,
        request: Request<EvaluateRequest>,
    ) -> Result<Response<EvaluateParts>, Status> {
        let job = self.job(request.into_inner())?;
        let (sender, parts) = mpsc::channel(WAITING);
        let executor = Arc::clone(&self.executor);
        tokio::spawn(async move {
            if let Err(status) = send(&executor, job, &sender).await {
                // They may have gone meanwhile.
                let _ = sender.send(Err(status)).await;
            }
        });
        let next = |mut parts: mpsc::Receiver<_>| async move { Some((parts.recv().await?, parts)) };
        Ok(Response::new(Box::pin(stream::unfold(parts, next))))
    }
}

impl EvaluationService {
    /// # Errors
    /// Nothing is spread here, another broker is meant, or it makes no sense.
    fn job(&self, request: EvaluateRequest) -> Result<Job, Status> {
        let Some(spread) = self.executor.spread() else {
            return Err(Status::unimplemented("this broker computes nothing for others"));
        };
        let own = spread.workers.own();
        if request.to != own {
            return Err(Status::failed_precondition(format!(
                "this is broker {own}, not broker {}: its address was given to another",
                request.to
            )));
        }
        let wrong = |error: &dyn std::fmt::Display| Status::invalid_argument(error.to_string());
        let tenant = TenantName::parse(&request.tenant).map_err(|error| wrong(&error))?;
        if spread.workers.tenant_number(tenant) != Some(request.tenant_number) {
            // Else it would be found to have nothing.
            return Err(Status::resource_exhausted("the tenant is not known here yet"));
        }
        let EvaluateRequest { start_ms, end_ms, step_ms, .. } = request;
        let steps = end_ms.checked_sub(start_ms).and_then(|span| span.checked_div(step_ms));
        let is_range = step_ms > 0 && steps.is_some_and(|steps| (0..MAX_STEPS).contains(&steps));
        if !is_range || request.lookback_ms <= 0 {
            return Err(wrong(&"steps that no query has"));
        }
        let expr = promql::parse(&request.query).map_err(|error| wrong(&error))?;
        let time = EvalTime::Range { start_ms, end_ms, step_ms };
        Ok(Job {
            asked: Asked::query(&request.query, time, &request.client, tenant),
            expr,
            time,
            timeout: Some(Duration::from_millis(request.timeout_ms)),
            lookback_ms: request.lookback_ms,
            may_be_kept: false,
            is_measured: false,
            asked_at: Instant::now(),
            of_another: Some(PieceTerms {
                max_samples: usize::try_from(request.max_samples).unwrap_or(usize::MAX),
                use_start_timestamps: request.use_start_timestamps,
                type_and_unit_labels: request.type_and_unit_labels,
            }),
        })
    }
}

async fn send(
    executor: &Arc<Executor>,
    job: Job,
    sender: &mpsc::Sender<Result<EvaluatePart, Status>>,
) -> Result<(), Status> {
    let gone = |_| Status::cancelled("nobody waits any more");
    sender.send(Ok(EvaluatePart::default())).await.map_err(gone)?;
    // Dropped when nobody waits any more, which stops the work.
    let Some(answer) = net::at_work(executor.run_piece(job), sender, STILL_AT_WORK).await else {
        return Ok(());
    };
    let (mut rest, _held): (Bytes, Held) = answer.map_err(|error| match error.error_type {
        // Another broker may have room, or this one in a moment.
        ErrorType::Unavailable | ErrorType::Timeout | ErrorType::Canceled => {
            Status::resource_exhausted(error.message)
        }
        _ => Status::invalid_argument(error.message),
    })?;
    while rest.len() > PIECE_BYTES {
        let piece = rest.split_to(PIECE_BYTES);
        sender.send(Ok(EvaluatePart { piece, is_last: false })).await.map_err(gone)?;
    }
    sender.send(Ok(EvaluatePart { piece: rest, is_last: true })).await.map_err(gone)
}
