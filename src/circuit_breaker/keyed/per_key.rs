//! The policy of a family of breakers, which finds the breaker of a request.

use std::fmt;
use std::hash::Hash;

use super::CircuitBreakers;
use crate::circuit_breaker::CircuitBreaker;
use crate::circuit_breaker::shared::CircuitToken;
use crate::gate::GateLayer;
use crate::outcome::Outcome;
use crate::policy::{Admission, NoWait, Policy, Settled};
use crate::protocol::Http;
use crate::request::RequestKind;

/// A layer that puts a breaker per key in front of a service:
/// `CircuitBreakersLayer::new(breakers.by_head(|head| ..))`.
pub type CircuitBreakersLayer<K, F, X = Http> = GateLayer<PerKey<K, F>, X>;

/// The token of a call, and the breaker that admitted it.
#[derive(Clone, Debug)]
pub struct KeyedToken {
    breaker: CircuitBreaker,
    token: CircuitToken,
}

/// The policy of [`CircuitBreakers`], with a closure that returns the key of a request.
pub struct PerKey<K, F> {
    pub(super) breakers: CircuitBreakers<K>,
    pub(super) key: F,
}

// === impl CircuitBreakersLayer ===

impl<K, F> CircuitBreakersLayer<K, F> {
    /// Makes a layer with these breakers.
    pub fn new(breakers: PerKey<K, F>) -> Self {
        Self::from_handle(breakers, |breakers| &breakers.breakers.family.reporter)
    }
}

// === impl PerKey ===

impl<K, F: Clone> Clone for PerKey<K, F> {
    fn clone(&self) -> Self {
        Self {
            breakers: self.breakers.clone(),
            key: self.key.clone(),
        }
    }
}

impl<K, F> PerKey<K, F> {
    /// The breakers.
    pub fn breakers(&self) -> &CircuitBreakers<K> {
        &self.breakers
    }
}

impl<R, K, F, O> Policy<R> for PerKey<K, F>
where
    R: RequestKind,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: Fn(&R::Head<'_>) -> O + Clone,
    O: Into<Option<K>>,
{
    type Token = KeyedToken;
    type Wait = NoWait<KeyedToken, Settled>;

    fn admit(&self, request: &R::Head<'_>) -> Admission<KeyedToken, Self::Wait> {
        let Some(key) = (self.key)(request).into() else {
            return Admission::Bypass;
        };
        let breaker = self.breakers.get_or_insert(&key);
        match breaker.shared.admit(0) {
            Ok(token) => Admission::Admit(KeyedToken { breaker, token }),
            Err(rejection) => Admission::Reject(rejection),
        }
    }

    #[cfg(feature = "http")]
    #[inline]
    fn on_head(&self, token: &mut KeyedToken, _: &mut crate::http::head::ResponseHeadMut<'_>) {
        token.breaker.shared.on_head(&mut token.token);
    }

    #[inline]
    fn settle(&self, token: &mut KeyedToken, outcome: Outcome) {
        token.breaker.shared.settle(&mut token.token, outcome);
    }
}

impl<K, F> fmt::Debug for PerKey<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PerKey").field(&self.breakers).finish()
    }
}
