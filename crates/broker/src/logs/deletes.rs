//! Deletes of lines: the list that queries, flushes and merges go by, and how one is made.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result};
use catalog::{BlockMeta, LabelCondition, Outcome, Signal, State, Tombstone};
use crossbeam_channel::bounded;
use logstore::{LineTest, LogDelete};
use memchr::memmem::Finder;
use model::{MatchOp, Matcher, MatcherError, TenantId, TimeRange, regex};
use parking_lot::RwLock;

use crate::Broker;
use crate::commit::{CommitError, Message};

/// A delete of lines as the catalog has it, and ready to be applied.
#[derive(Debug)]
pub(crate) struct LineDelete {
    pub(crate) tombstone: Arc<Tombstone>,
    delete: Arc<LogDelete>,
}

impl LineDelete {
    /// Compiles its patterns.
    ///
    /// # Errors
    /// One does not compile.
    pub(crate) fn new(tombstone: Arc<Tombstone>) -> Result<LineDelete, MatcherError> {
        let mut selectors = Vec::with_capacity(tombstone.selectors.len());
        let mut line_tests = Vec::new();
        for selector in &tombstone.selectors {
            let (of_line, of_labels): (Vec<_>, Vec<_>) =
                selector.iter().partition(|condition| condition.name == LINE);
            let matcher = |c: &LabelCondition| Matcher::new(&c.name, c.op, &c.value);
            selectors.push(of_labels.into_iter().map(matcher).collect::<Result<Vec<_>, _>>()?);
            for condition in of_line {
                line_tests.push(LineCondition::new(condition)?);
            }
        }
        let all = move |line: &[u8]| line_tests.iter().all(|test| test.holds(line));
        let has_test = tombstone.selectors.iter().flatten().any(|one| one.name == LINE);
        let line_test = has_test.then(|| Arc::new(all) as LineTest);
        let delete = LogDelete { selectors, range: tombstone.range.into(), line_test };
        Ok(LineDelete { tombstone, delete: Arc::new(delete) })
    }
}

/// The name under which a selector has conditions on the line itself: `=` that it holds a text, `=~` that it
/// has a match of an expression, and the negations of both. No stream has a label of that name.
pub const LINE: &str = "__line__";

/// A condition on a line.
struct LineCondition {
    what: Looked,
    is_negated: bool,
}

enum Looked {
    Text(Box<Finder<'static>>),
    Expression(regex::Finder),
}

impl LineCondition {
    fn new(condition: &LabelCondition) -> Result<Self, MatcherError> {
        let LabelCondition { op, value, .. } = condition;
        let what = match op {
            MatchOp::Equal | MatchOp::NotEqual => {
                Looked::Text(Box::new(Finder::new(value).into_owned()))
            }
            MatchOp::Regex | MatchOp::NotRegex => {
                let finder = regex::Finder::new(value);
                Looked::Expression(finder.map_err(|error| MatcherError(error.to_string()))?)
            }
        };
        let is_negated = matches!(op, MatchOp::NotEqual | MatchOp::NotRegex);
        Ok(LineCondition { what, is_negated })
    }

    fn holds(&self, line: &[u8]) -> bool {
        let is_there = match &self.what {
            Looked::Text(finder) => finder.find(line).is_some(),
            Looked::Expression(finder) => finder.is_match(line),
        };
        is_there != self.is_negated
    }
}

/// A delete of lines that may hide some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingLineDelete {
    /// Its number.
    pub number: u64,
    /// In which time.
    pub range: TimeRange,
    /// When it was made, milliseconds since the epoch.
    pub at_ms: i64,
    /// A stream is concerned if it satisfies all conditions of any of these; conditions on the line have the name
    /// [`LINE`].
    pub selectors: Vec<Vec<(String, MatchOp, String)>>,
}

/// All of them, in ascending order of numbers.
pub(crate) type LineDeletes = Arc<[Arc<LineDelete>]>;

/// The deletes of lines that may hide something, durable ones only; otherwise as the book of those of
/// samples. Deletes of both have one row of numbers.
#[derive(Debug)]
pub(crate) struct LineDeleteBook(RwLock<(LineDeletes, u64)>);

impl Default for LineDeleteBook {
    fn default() -> Self {
        LineDeleteBook(RwLock::new((Arc::new([]), 0)))
    }
}

impl LineDeleteBook {
    /// Those of the catalog.
    ///
    /// # Errors
    /// A pattern that this program cannot compile and an older one could.
    pub(crate) fn load(state: &State) -> Result<Self> {
        let mut deletes = Vec::new();
        for tombstone in state.tombstones().filter(|one| one.signal == Signal::Logs) {
            let delete = LineDelete::new(Arc::clone(tombstone))
                .with_context(|| format!("read the selectors of delete {}", tombstone.number))?;
            deletes.push(Arc::new(delete));
        }
        Ok(LineDeleteBook(RwLock::new((deletes.into(), state.last_delete()))))
    }

    /// The list now, and the number of the last delete that was heard of.
    pub(crate) fn current(&self) -> (LineDeletes, u64) {
        self.0.read().clone()
    }

    /// Adds one that is durable, the highest so far.
    pub(crate) fn add(&self, delete: Arc<LineDelete>) {
        let mut listed = self.0.write();
        let number = delete.tombstone.number;
        let all = listed.0.iter().cloned().chain([delete]).collect();
        *listed = (all, number);
    }

    /// Notes that all deletes up to a number were heard of.
    pub(crate) fn pass(&self, number: u64) {
        let mut listed = self.0.write();
        listed.1 = listed.1.max(number);
    }

    /// Takes those out that nothing is left of.
    pub(crate) fn forget(&self, is_gone: impl Fn(u64) -> bool) {
        let mut listed = self.0.write();
        let is_kept = |delete: &&Arc<LineDelete>| !is_gone(delete.tombstone.number);
        if listed.0.iter().all(|delete| is_kept(&delete)) {
            return;
        }
        listed.0 = listed.0.iter().filter(is_kept).cloned().collect();
    }

    /// Numbers of those that are listed.
    pub(crate) fn numbers(&self) -> BTreeSet<u64> {
        self.0.read().0.iter().map(|delete| delete.tombstone.number).collect()
    }
}

/// Of the first `through`, those that may hide lines of a block.
pub(crate) fn of_block(
    deletes: &LineDeletes,
    through: u64,
    meta: &BlockMeta,
) -> Vec<Arc<LogDelete>> {
    let concerns = |delete: &&Arc<LineDelete>| {
        delete.tombstone.number <= through && delete.tombstone.concerns(meta)
    };
    deletes.iter().filter(concerns).map(|delete| Arc::clone(&delete.delete)).collect()
}

/// Those of a tenant that may hide lines of a head which is younger than all up to `after`, and of them the
/// first `through`.
pub(crate) fn of_head(
    deletes: &LineDeletes,
    tenant: TenantId,
    after: u64,
    through: u64,
) -> Vec<Arc<LogDelete>> {
    let concerns = |delete: &&Arc<LineDelete>| {
        let tombstone = &delete.tombstone;
        tombstone.tenant == tenant && tombstone.number > after && tombstone.number <= through
    };
    deletes.iter().filter(concerns).map(|delete| Arc::clone(&delete.delete)).collect()
}

impl Broker {
    /// Hides all lines in `range`, stored until now, of the tenant's streams whose labels satisfy all matchers
    /// of any of `selectors`. A matcher with the name [`LINE`] is one of the line, for a sole selector. When it returns the delete is durable and in effect; whatever is stored later is
    /// new. Costs one sync and no search. Not for a thread that serves sockets.
    ///
    /// # Errors
    /// Selectors too large, too many deletes that wait for their rows to be removed (see
    /// [`Broker::clean_deleted`]), a full disk.
    pub fn delete_logs(
        &self,
        tenant: TenantId,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<(), CommitError> {
        let (reply, answer) = bounded(1);
        self.begin_delete_logs(tenant, selectors, range, move |outcome| {
            // Whoever asked waits for it.
            let _ = reply.send(outcome);
        });
        answer.recv().unwrap_or(Err(CommitError::Stopping))
    }

    /// As [`Broker::delete_logs`], and calls `done` instead of waiting for it.
    pub fn begin_delete_logs(
        &self,
        tenant: TenantId,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        done: impl FnOnce(Result<(), CommitError>) + Send + 'static,
    ) {
        if let Err(error) = self.check_logs_are_known() {
            return done(Err(error));
        }
        let request = self.delete_request(Signal::Logs, tenant, selectors, range);
        let done = Box::new(move |outcome: Result<Outcome, CommitError>| done(outcome.map(|_| ())));
        if let Err(Message::Delete { done, .. }) = self.send(Message::Delete { request, done }) {
            done(Err(CommitError::Stopping));
        }
    }

    /// The tenant's deletes of lines that may still hide something, in the order in which they were made.
    pub fn pending_log_deletes(&self, tenant: TenantId) -> Vec<PendingLineDelete> {
        let (deletes, _) = self.inner.lines.deletes.current();
        let own = deletes.iter().map(|delete| &delete.tombstone);
        let own = own.filter(|tombstone| tombstone.tenant == tenant);
        let condition = |c: &LabelCondition| (c.name.clone(), c.op, c.value.clone());
        own.map(|tombstone| PendingLineDelete {
            number: tombstone.number,
            range: tombstone.range,
            at_ms: tombstone.at_ms,
            selectors: tombstone
                .selectors
                .iter()
                .map(|selector| selector.iter().map(condition).collect())
                .collect(),
        })
        .collect()
    }
}
