//! One breaker per key: a host, a route, a tenant.
//!
//! # Where it goes
//!
//! In the same position as a single breaker, around a service that calls many dependencies: one
//! that fails must not stop the calls to the others.
//!
//! ```
//! use std::time::Duration;
//! use seawall::circuit_breaker::{
//!     CircuitBreakers, CircuitBreakersLayer, CircuitBreakersSettings,
//! };
//! use seawall::CircuitBreakerSettings;
//! use http::uri::Authority;
//!
//! let each = CircuitBreakerSettings::default().open_duration(Duration::from_secs(5));
//! let settings = CircuitBreakersSettings::from(each).max_keys(100);
//! let breakers = CircuitBreakers::<Authority>::new(settings)?.named("upstream");
//! // A clone of an `Authority` is a reference count: a key should cost no allocation.
//! let layer = CircuitBreakersLayer::new(breakers.by_head(|head| head.uri.authority().cloned()));
//! # fn fits_a_router<L>(_: L) where L: tower_layer::Layer<axum::routing::Route> {}
//! # fn fits_a_client<S, L>(_: L) where L: tower_layer::Layer<S> {}
//! # fits_a_router(layer.clone());
//!
//! for (host, breaker) in breakers.all() {
//!     println!("{host}: {}", breaker.state());
//! }
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! # Bounds
//!
//! The family forgets a key that is not used for
//! [`idle_timeout`](CircuitBreakersSettings::idle_timeout()), and the least recently used key when
//! there are more than [`max_keys`](CircuitBreakersSettings::max_keys()). For a moment there may be
//! a few more. A request, `get` and `get_or_insert` use a key; `all` and `snapshot` do not.
//!
//! It forgets the breaker together with the key. When the key is used again, it gets a new breaker:
//! closed, or in the state that you forced on the whole family. A handle that you kept still refers
//! to the old breaker. If clients choose the keys freely, they can evict the others: bound the keys
//! first.
//!
//! The map is from [`moka`](https://docs.rs/moka). It reads its own clock, which paused time does
//! not move.
//!
//! # Cost
//!
//! A request reads the map once, and clones its breaker, which is a reference count. A request with
//! a new key takes a lock and makes a breaker. The rest is [that of one breaker](super#cost).
//!
//! # Cancellation and panics
//!
//! They are those of [one breaker](super#cancellation). If the closure that returns the key panics,
//! the panic unwinds through the layer before a breaker has admitted the request.
//!
//! The map drops keys and breakers under locks of its own, also during [`CircuitBreakers::set`].
//! The `Hash`, `Eq` and `Drop` of a key, and a metrics recorder, must therefore not use a family.
//!
//! # Metrics
//!
//! The breakers of a family share the series of its name: `seawall_circuit_state` counts the
//! breakers in each state. It includes breakers whose key is forgotten, until the map drops them.
//! With [`put_keys_in_metrics`](CircuitBreakers::put_keys_in_metrics) each breaker has its own
//! series, with the label `key`.

mod per_key;
mod settings;

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

pub use self::per_key::{CircuitBreakersLayer, KeyedToken, PerKey};
pub use self::settings::CircuitBreakersSettings;
use super::settings::CircuitBreakerSettings;
use super::shared::Shared;
use super::{CircuitBreaker, CircuitBreakerSnapshot, Transition};
use crate::config::{ConfigError, Configurable, Current};
use crate::control::circuit_breaker::word::Mode;
use crate::observe::Reporter;
use crate::sync::{AfterChange, lock};
use crate::unwind;

/// A key, its breaker, and the settings of the breaker before a change.
type Changed<K> = (Arc<K>, CircuitBreaker, CircuitBreakerSettings);
type Hook<K> = Arc<dyn Fn(&K, &Transition) + Send + Sync>;
type Hooks<K> = Arc<Mutex<Vec<Hook<K>>>>;

/// One [`CircuitBreaker`] per key, all with the same settings. A cheap `Clone`: all clones are the
/// same family.
pub struct CircuitBreakers<K> {
    family: Arc<Family<K>>,
}

/// What the breakers of a family have counted.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CircuitBreakersSnapshot {
    /// The breakers by key. If two keys have the same text, the map contains one of them.
    pub keys: BTreeMap<String, CircuitBreakerSnapshot>,
}

struct Family<K> {
    breakers: Cache<K, CircuitBreaker>,
    max_keys: usize,
    idle_timeout: Duration,
    /// The settings of the next breaker. No function of the user is made or dropped under its lock;
    /// the map may drop breakers and keys.
    settings: Current<CircuitBreakerSettings>,
    /// The breakers that a change has reached, until `follow_up` drops them without a lock.
    changed: Mutex<Vec<Changed<K>>>,
    changes: Mutex<Changes>,
    forcing: AfterChange,
    hooks: Hooks<K>,
    /// The reporter of the layers.
    reporter: Reporter,
    label: OnceLock<fn(&K) -> String>,
}

/// The changes that a new breaker may have missed.
#[derive(Clone, Copy, Default)]
struct Changes {
    /// The number of changes of the settings or of the state.
    count: u64,
    /// The state that was last forced on all breakers, or closed.
    mode: Mode,
}

// === impl CircuitBreakers ===

impl<K> Clone for CircuitBreakers<K> {
    fn clone(&self) -> Self {
        Self {
            family: self.family.clone(),
        }
    }
}

impl<K> CircuitBreakers<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// Makes a family without breakers.
    ///
    /// # Errors
    ///
    /// Returns an error if `max_keys` or `idle_timeout` is outside its range, and the errors of
    /// [`CircuitBreaker::new`], with `breaker.` before the field.
    pub fn new(settings: impl Into<CircuitBreakersSettings>) -> Result<Self, ConfigError> {
        let settings = settings.into();
        settings.check()?;
        Ok(Self {
            family: Arc::new(Family {
                breakers: Cache::builder()
                    .max_capacity(settings.max_keys as u64)
                    .time_to_idle(settings.idle_timeout)
                    // With this policy, a new key is as important as a frequent one.
                    .eviction_policy(EvictionPolicy::lru())
                    .build(),
                max_keys: settings.max_keys,
                idle_timeout: settings.idle_timeout,
                settings: Current::new(settings.breaker),
                changed: Mutex::default(),
                changes: Mutex::default(),
                forcing: AfterChange::new(),
                hooks: Hooks::default(),
                reporter: Reporter::new("circuit_breaker"),
                label: OnceLock::new(),
            }),
        })
    }

    /// Names the breakers in rejections, metrics and events. A second call has no effect. Breakers
    /// that were made before the call have no name.
    #[must_use]
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.family.reporter.set_name(name);
        self
    }

    /// The name; empty if it has none.
    pub fn name(&self) -> &str {
        self.family.reporter.name()
    }

    /// Adds the label `key` to the metrics: up to thirty series for each key, which the recorder
    /// may keep when the key is forgotten. Use it only if there are few keys and clients do not
    /// choose them. Breakers that were made before have no label.
    pub fn put_keys_in_metrics(&self)
    where
        K: fmt::Display,
    {
        let _ = self.family.label.set(K::to_string);
    }

    /// The breaker of a key, if it has one.
    ///
    /// ```
    /// # use seawall::{CircuitBreakerSettings, CircuitBreakers};
    /// let breakers = CircuitBreakers::<String>::new(CircuitBreakerSettings::default())?;
    /// assert!(breakers.get("upstream").is_none());
    /// # Ok::<_, seawall::ConfigError>(())
    /// ```
    pub fn get<Q>(&self, key: &Q) -> Option<CircuitBreaker>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.family.breakers.get(key)
    }

    /// The breaker of a key; a new one if the key has none, which may evict another. You can change
    /// its settings separately.
    pub fn get_or_insert(&self, key: &K) -> CircuitBreaker {
        let family = &self.family;
        if let Some(breaker) = family.breakers.get(key) {
            return breaker;
        }
        let mut known = *lock(&family.changes);
        let new = self.make(key, known.mode);
        let breaker = family.breakers.get_with_by_ref(key, || new.clone());
        if !Arc::ptr_eq(&breaker.shared, &new.shared) {
            return breaker; // another thread was faster
        }
        // A change meanwhile may have missed the new breaker.
        loop {
            let before = known;
            known = *lock(&family.changes);
            if known.count == before.count {
                return breaker;
            }
            drop(breaker.replace(&mut family.settings.get()));
            if known.mode != before.mode {
                breaker.shared.force(known.mode);
            }
            breaker.follow_up();
        }
    }

    fn make(&self, key: &K, mode: Mode) -> CircuitBreaker {
        let family = &self.family;
        let label = family.label.get().map(|label| label(key));
        let reporter = family.reporter.in_family(label);
        let shared = Arc::new(Shared::new(family.settings.get(), reporter, mode));
        let breaker = CircuitBreaker { shared };
        let (key, hooks) = (key.clone(), family.hooks.clone());
        breaker.on_transition(move |transition| {
            let hooks = lock(&hooks).clone();
            for hook in hooks {
                unwind::without_panics(|| hook(&key, transition));
            }
        });
        breaker
    }

    /// All breakers, in no particular order.
    pub fn all(&self) -> Vec<(K, CircuitBreaker)> {
        let all = self.family.breakers.iter();
        all.map(|(key, breaker)| (K::clone(&key), breaker))
            .collect()
    }

    /// The approximate number of keys.
    pub fn len(&self) -> usize {
        self.family.breakers.run_pending_tasks();
        usize::try_from(self.family.breakers.entry_count()).unwrap_or(usize::MAX)
    }

    /// Returns whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A snapshot of each breaker. For keys without a text, use [`all`](Self::all).
    pub fn snapshot(&self) -> CircuitBreakersSnapshot
    where
        K: fmt::Display,
    {
        let all = self.all().into_iter();
        let keys = all.map(|(key, breaker)| (key.to_string(), breaker.snapshot()));
        let keys = keys.collect();
        CircuitBreakersSnapshot { keys }
    }

    /// The current settings: those of the family, and those of future breakers.
    pub fn settings(&self) -> CircuitBreakersSettings {
        CircuitBreakersSettings {
            breaker: self.family.settings.get(),
            max_keys: self.family.max_keys,
            idle_timeout: self.family.idle_timeout,
        }
    }

    /// Replaces the settings of all breakers, present and future, including those that you have
    /// changed separately. `max_keys` and `idle_timeout` must equal those of the family.
    ///
    /// # Errors
    ///
    /// Returns an error if `max_keys` or `idle_timeout` differs from that of the family, and the
    /// errors of [`CircuitBreaker::set`], with `breaker.` before the field. It then changes
    /// nothing.
    pub fn set(&self, settings: CircuitBreakersSettings) -> Result<(), ConfigError> {
        settings.check_same_bounds(self.family.max_keys, self.family.idle_timeout)?;
        let changed = self.change(|_| settings.breaker);
        changed.map_err(|error| error.of_part("breaker"))
    }

    /// Calls the hook for every change of state of each breaker, as
    /// [`CircuitBreaker::on_transition`] does. The hook must not hold a breaker, since the breaker
    /// would then outlive its key.
    pub fn on_transition(&self, hook: impl Fn(&K, &Transition) + Send + Sync + 'static) {
        lock(&self.family.hooks).push(Arc::new(hook));
    }

    /// [`CircuitBreaker::force_open`] for all breakers, present and future. If two calls force
    /// states at the same time, or a hook forces one, the last call applies. That call may return
    /// before all breakers have the state.
    pub fn force_open(&self) {
        self.force(Mode::ForcedOpen);
    }

    /// [`CircuitBreaker::force_closed`] for all breakers, present and future.
    pub fn force_closed(&self) {
        self.force(Mode::ForcedClosed);
    }

    /// [`CircuitBreaker::observe_only`] for all breakers, present and future.
    pub fn observe_only(&self) {
        self.force(Mode::ObserveOnly);
    }

    /// [`CircuitBreaker::reset`] for all breakers; future ones are closed.
    pub fn reset(&self) {
        self.force(Mode::Closed);
    }

    fn force(&self, mode: Mode) {
        let mut changes = lock(&self.family.changes);
        changes.count += 1;
        changes.mode = mode;
        drop(changes);
        // Hooks run here, which may force another state: the last one applies.
        self.family.forcing.run(|| {
            let mode = lock(&self.family.changes).mode;
            for (_, breaker) in &self.family.breakers {
                breaker.shared.force(mode);
            }
        });
    }

    /// A policy that finds the breaker by the head of an HTTP request.
    ///
    /// A request whose key is `None` passes without a breaker. No breaker counts it, and the layer
    /// counts it as admitted. [`snapshot`](CircuitBreakers::snapshot) shows the keys: check that
    /// those of your requests are there. On an HTTP/1 server, a URI has no authority (the header
    /// `host` has it). Requests of tonic's generated clients have none without `with_origin`, since
    /// the channel adds it further in.
    #[cfg(feature = "http")]
    pub fn by_head<F, O>(&self, key: F) -> PerKey<K, F>
    where
        F: Fn(&crate::RequestHead<'_>) -> O + Clone,
        O: Into<Option<K>>,
    {
        self.by(key)
    }

    /// A policy that finds the breaker by the request, for [`Plain`](crate::Plain) services.
    pub fn by_request<F, Req, O>(&self, key: F) -> PerKey<K, F>
    where
        F: Fn(&Req) -> O + Clone,
        O: Into<Option<K>>,
    {
        self.by(key)
    }

    fn by<F>(&self, key: F) -> PerKey<K, F> {
        PerKey {
            breakers: self.clone(),
            key,
        }
    }
}

impl<K> Configurable for CircuitBreakers<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    type Settings = CircuitBreakerSettings;

    fn current(&self) -> &Current<CircuitBreakerSettings> {
        &self.family.settings
    }

    fn advance(&self) {
        for (_, breaker) in &self.family.breakers {
            breaker.advance();
        }
    }

    fn publish(&self, settings: &CircuitBreakerSettings) {
        lock(&self.family.changes).count += 1;
        let mut changed = lock(&self.family.changed);
        for (key, breaker) in &self.family.breakers {
            let before = breaker.replace(&mut settings.clone());
            changed.push((key, breaker, before));
        }
    }

    fn follow_up(&self) {
        let changed = std::mem::take(&mut *lock(&self.family.changed));
        for (_, breaker, _) in &changed {
            breaker.follow_up();
        }
    }
}

impl<K> fmt::Debug for CircuitBreakers<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakers")
            .field("name", &self.family.reporter.name())
            .field("settings", &self.family.settings.get())
            .finish_non_exhaustive()
    }
}
