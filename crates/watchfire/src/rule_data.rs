//! What rules ask and store, and where the states of alerts are kept: the broker of this process.

use std::sync::Arc;
use std::time::Duration;

use alerting::rules::{Behind, ForStateSeries, Sample};
use alerting::templates::rule::{QueryExemplar, QueryLine};
use broker::cluster::{DutyError, HeldDuty};
use broker::{Broker, Expected};
use console::{Executor, FoundExemplar, FoundLine};
use model::{DEFAULT_TENANT, Histogram, Labels, MatchOp, Matcher, MetricBatch, TenantName};
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

    fn lines_behind<'a>(
        &'a self,
        Behind { expression, labels, at_ms }: Behind<'a>,
        most: usize,
    ) -> Boxed<'a, Result<Vec<QueryLine>, String>> {
        Box::pin(async move {
            let tenant = TenantName::DEFAULT;
            let found = self.0.lines_behind(tenant, expression, labels, at_ms, most).await?;
            Ok(found.into_iter().map(line).collect())
        })
    }

    fn lines_of<'a>(
        &'a self,
        text: &'a str,
        range: Duration,
        t_ms: i64,
        most: usize,
    ) -> Boxed<'a, Result<Vec<QueryLine>, String>> {
        Box::pin(async move {
            let range_ms = i64::try_from(range.as_millis()).unwrap_or(i64::MAX);
            let range = (t_ms.saturating_sub(range_ms), t_ms);
            let found = self.0.lines_of(TenantName::DEFAULT, text, range, most).await?;
            Ok(found.into_iter().map(line).collect())
        })
    }

    fn exemplars_behind<'a>(
        &'a self,
        Behind { expression, labels, at_ms }: Behind<'a>,
        most: usize,
    ) -> Boxed<'a, Result<Vec<QueryExemplar>, String>> {
        Box::pin(async move {
            let tenant = TenantName::DEFAULT;
            let found = self.0.exemplars_behind(tenant, expression, labels, at_ms, most).await?;
            let pairs = |labels: &Labels| {
                labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
            };
            let exemplar = |FoundExemplar { exemplar, series }: FoundExemplar| QueryExemplar {
                t_ms: exemplar.t_ms,
                value: exemplar.value,
                labels: pairs(&exemplar.labels),
                series: pairs(&series),
            };
            Ok(found.into_iter().map(exemplar).collect())
        })
    }
}

fn line(FoundLine { t_ns, line, labels }: FoundLine) -> QueryLine {
    QueryLine { t_ns, line, labels }
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

/// How often somebody who waits looks whether this broker still evaluates rules.
const LOOKED_AT: Duration = Duration::from_millis(250);
/// Why samples of rules are not stored, or not for certain.
const NOT_SURE: &str = "another broker may evaluate rules by now: the cluster has not agreed for some seconds that this \
                        one does";

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

    fn is_sure(&self) -> bool {
        self.held.as_ref().is_none_or(|held| held.is_sure())
    }

    /// Until another broker may evaluate rules; on one machine for ever.
    async fn until_unsure(&self) {
        if self.held.is_none() {
            std::future::pending::<()>().await;
        }
        while self.is_sure() {
            tokio::time::sleep(LOOKED_AT).await;
        }
    }
}

impl Store for RuleStore {
    fn write(&self, samples: Vec<Sample>) -> Boxed<'_, Result<Option<String>, String>> {
        Box::pin(async move {
            // Of one time there must not be what two brokers make of it.
            if !self.is_sure() {
                return Err(NOT_SURE.to_owned());
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
            let stored = async {
                // It waits for a place where many wait.
                tokio::task::spawn_blocking(ingest).await.map_err(|error| error.to_string())?;
                Ok::<_, String>(stored.await)
            };
            let stored = tokio::select! {
                stored = stored => stored?,
                // Whoever has to be told must not wait until there is a majority again.
                () = self.until_unsure() => return Err(NOT_SURE.to_owned()),
            };
            match stored {
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
