//! What a reload of the configuration changes while the broker runs.

use std::sync::Arc;

use anyhow::Result;
use metricstore::RetentionRules;
use model::{Limits, TenantName, TimeRange};
use parking_lot::RwLock;

use crate::aggregation::PreparedAggregation;
use crate::{AggregationConfig, Broker, BrokerConfig, HaConfig, TenantSettings};

/// Those settings of a broker that a reload changes, all at once; the others of [`BrokerConfig`] hold
/// until the process ends.
#[derive(Debug, Clone)]
pub struct Adjustable {
    /// Limits of every tenant that has none of its own.
    pub limits: Arc<Limits>,
    /// Tenants that have.
    pub tenants: TenantSettings,
    /// Series that are kept for less than the others.
    pub retention_rules: RetentionRules,
    /// Most bytes of log that are kept for a remote.
    pub remote_write_limit_bytes: u64,
    /// How pairs of replicas are told apart; `None` if they are not.
    pub ha: Option<HaConfig>,
    /// What is aggregated before it is stored.
    pub aggregation: AggregationConfig,
}

impl BrokerConfig {
    /// The part that a reload can change.
    pub fn adjustable(&self) -> Adjustable {
        Adjustable {
            limits: Arc::new(self.limits.clone()),
            tenants: self.tenants.clone(),
            retention_rules: self.retention_rules.clone(),
            remote_write_limit_bytes: self.remote_write_limit_bytes,
            ha: self.ha.clone(),
            aggregation: self.aggregation.clone(),
        }
    }
}

impl Adjustable {
    /// The limits of a tenant.
    pub(crate) fn limits_of(&self, name: TenantName) -> &Arc<Limits> {
        self.tenants.limits.get(&name).unwrap_or(&self.limits)
    }
}

/// Settings that can be put in effect without any more that could fail. Dropped, they are forgotten.
pub struct PreparedSettings {
    settings: Adjustable,
    aggregation: PreparedAggregation,
}

/// The settings in effect. Whoever needs several of them asks once.
pub(crate) struct InEffect(RwLock<Arc<Adjustable>>);

impl InEffect {
    pub(crate) fn new(settings: Adjustable) -> Self {
        InEffect(RwLock::new(Arc::new(settings)))
    }

    pub(crate) fn get(&self) -> Arc<Adjustable> {
        Arc::clone(&self.0.read())
    }

    /// Puts settings in effect and yields those of before.
    pub(crate) fn set(&self, settings: Adjustable) -> Arc<Adjustable> {
        std::mem::replace(&mut *self.0.write(), Arc::new(settings))
    }

    /// The limits of a tenant.
    pub(crate) fn limits(&self, name: TenantName) -> Arc<Limits> {
        Arc::clone(self.0.read().limits_of(name))
    }
}

impl Broker {
    /// The settings in effect.
    pub(crate) fn in_effect(&self) -> Arc<Adjustable> {
        self.inner.in_effect.get()
    }

    /// The settings in effect, to be changed and put in effect.
    pub fn adjustable(&self) -> Adjustable {
        Adjustable::clone(&self.in_effect())
    }

    /// Does all of putting settings in effect that may fail: rules of aggregation that are new begin.
    /// Not for a thread that serves sockets.
    ///
    /// # Errors
    /// Something of them cannot be; then nothing has changed.
    pub fn prepare_settings(&self, settings: Adjustable) -> Result<PreparedSettings> {
        let aggregation = self.prepare_aggregation(&settings.aggregation)?;
        Ok(PreparedSettings { settings, aggregation })
    }

    /// Puts settings in effect, for all that begins when this has returned. Not for a thread that serves
    /// sockets.
    pub fn put_settings(&self, prepared: PreparedSettings) {
        let PreparedSettings { settings, aggregation } = prepared;
        let rules = settings.retention_rules.clone();
        let before = self.set_in_effect(settings);
        if before.retention_rules != rules {
            // A rule shows and hides samples of any age.
            self.inner.shards.changes().note_range(TimeRange::all());
        }
        self.put_aggregation(aggregation);
    }
}
