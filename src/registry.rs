//! One snapshot of all stacks and handles of a process.
//!
//! ```
//! use seawall::{CircuitBreaker, Registry};
//!
//! let stack = seawall::server().build()?;
//! let database = CircuitBreaker::default();
//!
//! let registry = Registry::new();
//! registry.add("server", &stack)?;
//! registry.add("database", &database)?;
//! assert!(registry.add("database", &database).is_err(), "the name is used");
//!
//! let json = serde_json::to_value(registry.snapshot())?; // feature `serde`
//! assert_eq!(json["database"]["kind"], "circuit_breaker");
//! assert_eq!(json["server"]["drain"]["state"], "serving");
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Health::status`](crate::Health::status) can show it. The names are those of the registry; they
//! may differ from the names that the handles have in metrics.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
#[cfg(feature = "keyed")]
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use crate::catch_panic::{CatchPanic, CatchPanicSnapshot};
use crate::circuit_breaker::{CircuitBreaker, CircuitBreakerSnapshot};
#[cfg(feature = "keyed")]
use crate::circuit_breaker::{CircuitBreakers, CircuitBreakersSnapshot};
use crate::concurrency_limit::{ConcurrencyLimit, ConcurrencyLimitSnapshot};
use crate::config::ConfigError;
use crate::drain::{Drain, DrainSnapshot};
use crate::lag_monitor::{LagMonitor, LagMonitorSnapshot};
use crate::lag_shed::{LagShed, LagShedSnapshot};
use crate::request::sealed;
use crate::request_limit::{RequestLimit, RequestLimitSnapshot};
use crate::slow_poll::{SlowPoll, SlowPollSnapshot};
use crate::stack::{
    ClientBreaker, ClientHandle, ClientSnapshot, ServerHandle, ServerSnapshot, Stack, StackParts,
};
use crate::sync::lock;
use crate::timeout::{ResponseBodyTimeout, ResponseBodyTimeoutSnapshot, Timeout, TimeoutSnapshot};

/// Collects stacks and handles by name. A cheap `Clone`: all clones are the same registry.
///
/// The registry keeps a handle until you [remove](Self::remove) it.
#[derive(Clone, Default)]
pub struct Registry {
    entries: Arc<Mutex<BTreeMap<String, Source>>>,
}

type Source = Arc<dyn Fn() -> HandleSnapshot + Send + Sync>;

/// The state of a stack or a handle at one moment.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "kind", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum HandleSnapshot {
    /// A [`server`](crate::server) stack.
    Server(Box<ServerSnapshot>),
    /// A [`client`](crate::client) stack.
    Client(Box<ClientSnapshot>),
    /// A [`CatchPanic`].
    CatchPanic(CatchPanicSnapshot),
    /// A [`CircuitBreaker`].
    CircuitBreaker(Box<CircuitBreakerSnapshot>),
    /// A family of `CircuitBreakers`.
    #[cfg(feature = "keyed")]
    CircuitBreakers(CircuitBreakersSnapshot),
    /// A [`ConcurrencyLimit`].
    ConcurrencyLimit(ConcurrencyLimitSnapshot),
    /// A [`Drain`].
    Drain(DrainSnapshot),
    /// A [`LagMonitor`].
    LagMonitor(LagMonitorSnapshot),
    /// A [`LagShed`].
    LagShed(LagShedSnapshot),
    /// A [`RequestLimit`].
    RequestLimit(RequestLimitSnapshot),
    /// A [`ResponseBodyTimeout`].
    ResponseBodyTimeout(ResponseBodyTimeoutSnapshot),
    /// A [`SlowPoll`].
    SlowPoll(SlowPollSnapshot),
    /// A [`Timeout`].
    Timeout(TimeoutSnapshot),
}

/// The stacks and the handles that a [`Registry`] takes. Sealed.
pub trait Snapshot: sealed::Sealed + Clone + Send + Sync + 'static {
    #[doc(hidden)]
    fn handle_snapshot(&self) -> HandleSnapshot;
}

// === impl Registry ===

impl Registry {
    /// Makes an empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stack or a handle.
    ///
    /// # Errors
    ///
    /// Returns an error if the name is in use, and then changes nothing.
    pub fn add(&self, name: impl Into<String>, handle: &impl Snapshot) -> Result<(), ConfigError> {
        let handle = handle.clone();
        match lock(&self.entries).entry(name.into()) {
            Entry::Vacant(entry) => {
                entry.insert(Arc::new(move || handle.handle_snapshot()));
                Ok(())
            }
            Entry::Occupied(entry) => {
                let name = format!("{:?}", entry.key());
                Err(ConfigError::new("name", name, "a name that is not in use"))
            }
        }
    }

    /// Removes a stack or a handle. Returns whether the registry had it.
    pub fn remove(&self, name: &str) -> bool {
        let removed = lock(&self.entries).remove(name);
        removed.is_some()
    }

    /// The state of all stacks and handles, by name. The snapshots are not of one moment: the
    /// registry takes one after the other, and so does a stack for its parts, and a family for its
    /// keys.
    pub fn snapshot(&self) -> BTreeMap<String, HandleSnapshot> {
        // Releases the lock first, since a snapshot may take a lock of its handle.
        let entries = lock(&self.entries).clone();
        let entries = entries.into_iter();
        entries.map(|(name, source)| (name, source())).collect()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = lock(&self.entries);
        f.debug_tuple("Registry")
            .field(&entries.keys().collect::<Vec<_>>())
            .finish()
    }
}

// === impl Snapshot ===

macro_rules! snapshot {
    ($($handle:ty => $kind:ident),+ $(,)?) => {$(
        impl sealed::Sealed for $handle {}

        impl Snapshot for $handle {
            fn handle_snapshot(&self) -> HandleSnapshot {
                HandleSnapshot::$kind(self.snapshot().into())
            }
        }
    )+};
}

snapshot! {
    CatchPanic => CatchPanic,
    CircuitBreaker => CircuitBreaker,
    ConcurrencyLimit => ConcurrencyLimit,
    Drain => Drain,
    LagMonitor => LagMonitor,
    LagShed => LagShed,
    RequestLimit => RequestLimit,
    ResponseBodyTimeout => ResponseBodyTimeout,
    ServerHandle => Server,
    SlowPoll => SlowPoll,
    Timeout => Timeout,
}

#[cfg(feature = "keyed")]
impl<K> sealed::Sealed for CircuitBreakers<K> {}

#[cfg(feature = "keyed")]
impl<K> Snapshot for CircuitBreakers<K>
where
    K: fmt::Display + Hash + Eq + Clone + Send + Sync + 'static,
{
    fn handle_snapshot(&self) -> HandleSnapshot {
        HandleSnapshot::CircuitBreakers(self.snapshot())
    }
}

impl<B> sealed::Sealed for ClientHandle<B> {}

impl<B> Snapshot for ClientHandle<B>
where
    B: Clone + Into<ClientBreaker> + Send + Sync + 'static,
{
    fn handle_snapshot(&self) -> HandleSnapshot {
        HandleSnapshot::Client(Box::new(self.snapshot()))
    }
}

impl<P, H, X> sealed::Sealed for Stack<StackParts<P, H>, X> {}

impl<P, H, X> Snapshot for Stack<StackParts<P, H>, X>
where
    P: Send + Sync + 'static,
    H: Snapshot,
    X: Clone + Send + Sync + 'static,
{
    fn handle_snapshot(&self) -> HandleSnapshot {
        H::handle_snapshot(self)
    }
}
