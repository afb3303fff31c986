//! One breaker per key: a host, a route, a tenant.
//!
//! # Where it goes
//!
//! Where one breaker would, if its service goes to many dependencies: one that fails must not stop the calls to the others.
//!
//! ```
//! use std::time::Duration;
//! use seawall::circuit_breaker::{CircuitBreakers, CircuitBreakersLayer};
//! use seawall::CircuitBreaker;
//! use http::uri::Authority;
//!
//! let breakers: CircuitBreakers<Authority> = CircuitBreaker::builder()
//!     .open_for(Duration::from_secs(5))
//!     .name("upstream")
//!     .keyed()
//!     .max_keys(100)
//!     .build()?;
//! // A clone of an `Authority` is a reference count: the key of a request should cost no allocation.
//! let layer = CircuitBreakersLayer::new(breakers.by_head(|head| head.uri.authority().cloned()));
//! # fn fits_a_router<L>(_: L) where L: tower_layer::Layer<axum::routing::Route> {}
//! # fn fits_a_client<S, L>(_: L) where L: tower_layer::Layer<S> {}
//! # fits_a_router(layer.clone());
//!
//! for (host, breaker) in breakers.snapshot() {
//!     println!("{host}: {}", breaker.state);
//! }
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! # Bounds
//!
//! A key that nobody asks for is forgotten after [`idle_for`](CircuitBreakersBuilder::idle_for), and the one that was asked for
//! longest ago when there are more than [`max_keys`](CircuitBreakersBuilder::max_keys); for a moment there may be a few more. With it goes
//! what its breaker knew: a breaker that is open, or was forced open, is closed when its key comes back, and a handle that
//! somebody kept is no longer the key's. Keys that clients choose freely can push
//! the others out; bound them before.
//!
//! The map is [`moka`](https://docs.rs/moka)'s; it reads a clock of its own, which paused time does not move.
//!
//! # Metrics
//!
//! The breakers of a family share the series of its name: `seawall_circuit_state` says how many of them are in each state.
//! Each has its own, with the label `key`, only where [`keys_in_metrics`](CircuitBreakersBuilder::keys_in_metrics) asks for it.

use std::borrow::Cow;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::settings::{Draft, Settings};
use super::shared::{Pass, Shared};
use super::{CircuitBreaker, CircuitBreakerBuilder, CircuitBreakerSnapshot, Transition};
use crate::config::ConfigError;
use crate::gate::GateLayer;
use crate::observe::Meter;
use crate::policy::{Admission, NoWait, Policy};
use crate::protocol::{Http, View};

/// Puts a breaker per key in front of a service: `CircuitBreakersLayer::new(breakers.by_head(|head| ..))`.
pub type CircuitBreakersLayer<K, F, X = Http> = GateLayer<PerKey<K, F>, X>;

type Hook<K> = Arc<dyn Fn(&K, &Transition) + Send + Sync>;
type Hooks<K> = Arc<RwLock<Vec<Hook<K>>>>;

/// One [`CircuitBreaker`] per key, all made alike. A cheap `Clone`: every clone is the same family.
pub struct CircuitBreakers<K> {
    family: Arc<Family<K>>,
}

struct Family<K> {
    breakers: Cache<K, CircuitBreaker>,
    /// What the next breaker will be like. Locked for reading while one is made, so that none escapes a change.
    template: RwLock<Template>,
    hooks: Hooks<K>,
    name: Cow<'static, str>,
    label: Option<fn(&K) -> String>,
}

struct Template {
    draft: Draft,
    /// What was last done to all by hand.
    hand: fn(&CircuitBreaker),
}

/// The settings of [`CircuitBreakers`]; made by [`CircuitBreakerBuilder::keyed`].
#[must_use = "a builder does nothing until it is built"]
pub struct CircuitBreakersBuilder<K> {
    builder: CircuitBreakerBuilder,
    max_keys: u64,
    idle_for: Duration,
    label: Option<fn(&K) -> String>,
}

/// The policy of [`CircuitBreakers`] with a closure that says whose breaker a request is for.
pub struct PerKey<K, F> {
    breakers: CircuitBreakers<K>,
    key: F,
}

// === impl CircuitBreakersBuilder ===

impl CircuitBreakerBuilder {
    /// One breaker per key instead, each with these settings; see [`CircuitBreakers`].
    pub fn keyed<K>(self) -> CircuitBreakersBuilder<K> {
        CircuitBreakersBuilder {
            builder: self,
            max_keys: 1000,
            idle_for: Duration::from_secs(60 * 60),
            label: None,
        }
    }
}

impl<K> CircuitBreakersBuilder<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// The most keys that are remembered. Default: 1000, which is about two megabytes.
    pub fn max_keys(mut self, keys: u64) -> Self {
        self.max_keys = keys;
        self
    }

    /// How long a key is remembered that nobody asks for: 1 ms to 1000 days. Default: an hour. It should be longer than a breaker
    /// stays open.
    pub fn idle_for(mut self, idle: Duration) -> Self {
        self.idle_for = idle;
        self
    }

    /// Puts every key into the metrics, as the label `key`: up to twenty series for each, which the recorder may keep when the
    /// key is forgotten. Only for keys that are few and that clients do not choose.
    pub fn keys_in_metrics(mut self) -> Self
    where
        K: fmt::Display,
    {
        self.label = Some(K::to_string);
        self
    }

    /// The family, without any breaker yet.
    ///
    /// # Errors
    ///
    /// If a setting is out of its range.
    pub fn build(self) -> Result<CircuitBreakers<K>, ConfigError> {
        const LONGEST: Duration = Duration::from_secs(1000 * 24 * 60 * 60);
        let max_keys = ConfigError::check("max_keys", self.max_keys, 1..=u64::from(u32::MAX))?;
        let least = Duration::from_millis(1);
        let idle_for = ConfigError::check("idle_for", self.idle_for, least..=LONGEST)?;
        let (draft, name) = self.builder.checked()?;
        Ok(CircuitBreakers {
            family: Arc::new(Family {
                breakers: Cache::builder()
                    .max_capacity(max_keys)
                    .time_to_idle(idle_for)
                    // A key that is new is not less important than one that was busy.
                    .eviction_policy(EvictionPolicy::lru())
                    .build(),
                template: RwLock::new(Template {
                    draft,
                    hand: |_| (),
                }),
                hooks: Hooks::default(),
                name,
                label: self.label,
            }),
        })
    }
}

impl<K> fmt::Debug for CircuitBreakersBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakersBuilder")
            .field("builder", &self.builder)
            .field("max_keys", &self.max_keys)
            .field("idle_for", &self.idle_for)
            .field("keys_in_metrics", &self.label.is_some())
            .finish()
    }
}

// === impl CircuitBreakers ===

impl<K> CircuitBreakers<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// The breaker of a key, a new one if it has none. Its settings may be changed apart from the others'.
    pub fn get(&self, key: &K) -> CircuitBreaker {
        let family = &self.family;
        if let Some(breaker) = family.breakers.get(key) {
            return breaker;
        }
        let template = family.template();
        family
            .breakers
            .get_with_by_ref(key, || family.make(key, &template))
    }

    /// The breaker of a key, if it has one: for who looks, as asking for a new one may push another out.
    pub fn find(&self, key: &K) -> Option<CircuitBreaker> {
        self.family.breakers.get(key)
    }

    /// All breakers that there are, in no order.
    pub fn all(&self) -> Vec<(K, CircuitBreaker)> {
        let all = self.family.breakers.iter();
        all.map(|(key, breaker)| (K::clone(&key), breaker))
            .collect()
    }

    /// How many keys there are, about.
    pub fn len(&self) -> usize {
        self.family.breakers.run_pending_tasks();
        usize::try_from(self.family.breakers.entry_count()).unwrap_or(usize::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them at once, in no order.
    pub fn snapshot(&self) -> Vec<(K, CircuitBreakerSnapshot)> {
        let all = self.all().into_iter();
        all.map(|(key, breaker)| (key, breaker.snapshot()))
            .collect()
    }

    /// Changes the settings of all, those to come included, but for their window and name; see [`CircuitBreaker::set_failure_rate`] and
    /// the like for one.
    ///
    /// # Errors
    ///
    /// As [`build`](CircuitBreakerBuilder::build); nothing is changed then.
    pub fn set(&self, builder: CircuitBreakerBuilder) -> Result<(), ConfigError> {
        let (draft, _) = builder.checked()?;
        let mut template = self.family.template_mut();
        template.draft = draft.with_window(template.draft.window);
        for (_, breaker) in &self.family.breakers {
            breaker.apply(&template.draft);
        }
        Ok(())
    }

    /// Calls the hook at every change of state of each, as [`CircuitBreaker::on_transition`] does. It must not hold a breaker:
    /// that would outlive its key.
    pub fn on_transition(&self, hook: impl Fn(&K, &Transition) + Send + Sync + 'static) {
        self.family
            .hooks
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::new(hook));
    }

    /// [`CircuitBreaker::force_open`] for all, those to come included.
    pub fn force_open(&self) {
        self.by_hand(CircuitBreaker::force_open);
    }

    /// [`CircuitBreaker::force_closed`] for all, those to come included.
    pub fn force_closed(&self) {
        self.by_hand(CircuitBreaker::force_closed);
    }

    /// [`CircuitBreaker::observe_only`] for all, those to come included.
    pub fn observe_only(&self) {
        self.by_hand(CircuitBreaker::observe_only);
    }

    /// [`CircuitBreaker::reset`] for all; those to come are closed.
    pub fn reset(&self) {
        self.by_hand(CircuitBreaker::reset);
    }

    fn by_hand(&self, hand: fn(&CircuitBreaker)) {
        self.family.template_mut().hand = hand;
        // Hooks run here, and may ask for a breaker: the lock is not held any more.
        for (_, breaker) in &self.family.breakers {
            hand(&breaker);
        }
    }

    /// A policy that finds the breaker by the head of an HTTP request.
    ///
    /// A request whose key is `None` passes without a breaker and uncounted. So see what your requests have: the URI of an
    /// HTTP/1 server's requests has no authority (the header `host` has it), nor has one of tonic's generated clients without
    /// `with_origin`, as its channel adds it further in.
    #[cfg(feature = "http")]
    pub fn by_head<F, O>(&self, key: F) -> PerKey<K, F>
    where
        F: Fn(&crate::RequestHead<'_>) -> O + Clone,
        O: Into<Option<K>>,
    {
        self.by(key)
    }

    /// A policy that finds the breaker by a request of any kind, for [`Plain`](crate::Plain) services.
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

impl<K> Clone for CircuitBreakers<K> {
    fn clone(&self) -> Self {
        Self {
            family: self.family.clone(),
        }
    }
}

impl<K> fmt::Debug for CircuitBreakers<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakers")
            .field("name", &self.family.name)
            .field("template", &self.family.template().draft)
            .finish_non_exhaustive()
    }
}

// === impl Family ===

impl<K> Family<K> {
    fn template(&self) -> std::sync::RwLockReadGuard<'_, Template> {
        self.template.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn template_mut(&self) -> std::sync::RwLockWriteGuard<'_, Template> {
        self.template
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, key: &K, template: &Template) -> CircuitBreaker
    where
        K: Clone + Send + Sync + 'static,
    {
        let label = self.label.map(|label| label(key));
        let meter = Meter::of_key("circuit_breaker", label);
        if !self.name.is_empty() {
            meter.set_name(self.name.clone());
        }
        let settings = Settings::of(template.draft.clone());
        let breaker = CircuitBreaker::from_shared(Shared::new(settings, meter));
        (template.hand)(&breaker);
        let (key, hooks) = (key.clone(), self.hooks.clone());
        breaker.on_transition(move |transition| {
            let hooks = hooks.read().unwrap_or_else(PoisonError::into_inner).clone();
            for hook in hooks {
                hook(&key, transition);
            }
        });
        breaker
    }
}

// === impl PerKey ===

impl<V, K, F, O> Policy<V> for PerKey<K, F>
where
    V: View,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: Fn(&V::Head<'_>) -> O + Clone,
    O: Into<Option<K>>,
{
    type Ticket = Option<Pass>;
    type Wait = NoWait;

    fn admit(&self, request: &V::Head<'_>) -> Admission<Option<Pass>, NoWait> {
        let Some(key) = (self.key)(request).into() else {
            return Admission::Admit(None);
        };
        match Pass::admit(&self.breakers.get(&key)) {
            Ok(pass) => Admission::Admit(Some(pass)),
            Err(rejection) => Admission::Reject(rejection),
        }
    }
}

impl<K, F: Clone> Clone for PerKey<K, F> {
    fn clone(&self) -> Self {
        Self {
            breakers: self.breakers.clone(),
            key: self.key.clone(),
        }
    }
}

impl<K, F> fmt::Debug for PerKey<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PerKey").field(&self.breakers).finish()
    }
}
