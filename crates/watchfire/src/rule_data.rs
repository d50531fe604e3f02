//! What rules ask and store, and where the states of alerts are kept: the broker of this process.

use std::sync::Arc;

use alerting::rules::{ForStateSeries, Sample};
use broker::cluster::{DutyError, HeldDuty};
use broker::{Broker, Expected};
use console::Executor;
use model::{DEFAULT_TENANT, Histogram, MatchOp, Matcher, MetricBatch, TenantName};
use ruler::rules::{Queries, RuleLanguage, Store};
use ruler::{Boxed, Keep, KeepError};
use tokio::sync::oneshot;

/// Queries of rules, over the data of the default tenant.
pub(crate) struct RuleQueries(pub(crate) Arc<Executor>);

impl Queries for RuleQueries {
    fn ask<'a>(
        &'a self,
        language: RuleLanguage,
        text: &'a str,
        t_ms: i64,
    ) -> Boxed<'a, Result<Vec<Sample>, String>> {
        let language = match language {
            RuleLanguage::Promql => console::RuleLanguage::Promql,
            RuleLanguage::Logql => console::RuleLanguage::Logql,
        };
        Box::pin(async move {
            let answer = self.0.answer_rule(TenantName::DEFAULT, language, text, t_ms).await?;
            let sample = |one: promql::InstantSample| Sample {
                labels: one.labels,
                t_ms: one.t_ms,
                value: one.value,
                histogram: one.histogram,
            };
            Ok(answer.into_iter().map(sample).collect())
        })
    }

    fn last_samples<'a>(
        &'a self,
        matchers: &'a [Matcher],
        start_ms: i64,
        end_ms: i64,
    ) -> Boxed<'a, Result<Vec<ForStateSeries>, String>> {
        Box::pin(async move {
            let selector: Vec<String> = matchers.iter().map(shown).collect();
            // Ranges of PromQL leave their beginning out.
            let range_ms = end_ms.saturating_sub(start_ms).saturating_add(1);
            let text = format!("{{{}}}[{range_ms}ms]", selector.join(","));
            let found = self.0.samples_for_rule(TenantName::DEFAULT, &text, end_ms).await?;
            let last = |series: promql::RangeSeries| {
                let (t_ms, value) = (*series.timestamps_ms.last()?, *series.values.last()?);
                Some(ForStateSeries { labels: series.labels, t_ms, value })
            };
            Ok(found.into_iter().filter_map(last).collect())
        })
    }
}

fn shown(matcher: &Matcher) -> String {
    let op = match matcher.op {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Regex => "=~",
        MatchOp::NotRegex => "!~",
    };
    let quote = model::quote::quote;
    format!("{}{op}{}", quote(&matcher.name), quote(&matcher.value))
}

/// Samples of rules, into the data of the default tenant.
pub(crate) struct RuleStore {
    broker: Broker,
    /// In a cluster: by what right.
    held: Option<Arc<HeldDuty>>,
}

impl RuleStore {
    pub(crate) fn new(broker: Broker, held: Option<Arc<HeldDuty>>) -> RuleStore {
        RuleStore { broker, held }
    }
}

impl Store for RuleStore {
    fn write(&self, samples: Vec<Sample>) -> Boxed<'_, Result<Option<String>, String>> {
        Box::pin(async move {
            // Of one time there must not be what two brokers make of it.
            if self.held.as_ref().is_some_and(|held| !held.is_sure()) {
                return Err(
                    "another broker may evaluate rules by now: the cluster has not agreed for \
                            some seconds that this one does"
                        .to_owned(),
                );
            }
            let mut batch = MetricBatch::default();
            for sample in samples {
                match sample.histogram {
                    None => batch.push(&sample.labels, sample.t_ms, sample.value),
                    Some(histogram) => {
                        let histogram = Histogram::Float(Arc::unwrap_or_clone(histogram));
                        batch.push_histogram(&sample.labels, sample.t_ms, None, histogram);
                    }
                }
            }
            let (sender, stored) = oneshot::channel();
            let broker = self.broker.clone();
            // Resolving many new series takes a while.
            let ingest = move || {
                broker.ingest(DEFAULT_TENANT, &batch, move |result| {
                    let _ = sender.send(result);
                });
            };
            tokio::task::spawn_blocking(ingest).await.map_err(|error| error.to_string())?;
            match stored.await {
                Ok(Ok(outcome)) => Ok(outcome.complaint()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("the broker is stopping".to_owned()),
            }
        })
    }

    fn ready(&self) -> Result<(), String> {
        self.broker.ready()
    }
}

/// The key space of one machine's broker.
pub(crate) struct BrokerKeep(pub(crate) Broker);

impl Keep for BrokerKeep {
    fn list(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let keys = self.0.list_keys(prefix).into_iter();
        keys.map(|(key, stored)| (key, stored.value)).collect()
    }

    fn put(&self, key: String, value: Vec<u8>) -> Boxed<'_, Result<(), KeepError>> {
        Box::pin(async move {
            let put = self.0.put_key_async(&key, value, Expected::Any).await;
            put.map(drop).map_err(|error| KeepError::Unavailable(error.to_string()))
        })
    }

    fn delete(&self, key: String) -> Boxed<'_, Result<(), KeepError>> {
        Box::pin(async move {
            let deleted = self.0.delete_key_async(&key, Expected::Any).await;
            deleted.map_err(|error| KeepError::Unavailable(error.to_string()))
        })
    }
}

/// The key space of a cluster, while this broker has the duty: what is written later does not count.
pub(crate) struct DutyKeep {
    keys: BrokerKeep,
    held: Arc<HeldDuty>,
}

impl DutyKeep {
    pub(crate) fn new(broker: Broker, held: Arc<HeldDuty>) -> DutyKeep {
        DutyKeep { keys: BrokerKeep(broker), held }
    }
}

impl Keep for DutyKeep {
    fn list(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        self.keys.list(prefix)
    }

    fn put(&self, key: String, value: Vec<u8>) -> Boxed<'_, Result<(), KeepError>> {
        Box::pin(async move { self.held.put(key, value).await.map_err(not_kept) })
    }

    fn fence(&self) -> Boxed<'_, Result<(), KeepError>> {
        Box::pin(async move { self.held.renew().await.map_err(not_kept) })
    }

    fn delete(&self, key: String) -> Boxed<'_, Result<(), KeepError>> {
        Box::pin(async move { self.held.delete(key).await.map_err(not_kept) })
    }
}

fn not_kept(error: DutyError) -> KeepError {
    match error {
        DutyError::Lost => KeepError::Superseded,
        DutyError::Unavailable(why) => KeepError::Unavailable(why),
    }
}
