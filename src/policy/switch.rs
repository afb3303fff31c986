//! A policy that is turned on and off while the service runs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Acquire, Ordering::Release};

use super::{Admission, Parts, Policy, Wait};
use crate::label::labels;
use crate::request::RequestKind;

/// The mode of a [`Switched`] policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Mode {
    /// The policy decides.
    #[default]
    Enforce,
    /// The policy decides and counts, and rejects nothing. A request that it would reject or queue
    /// is admitted without a token: see `seawall_requests_would_reject_total` and
    /// [`Reporter::would_reject`].
    ///
    /// A permit that a policy of your own takes of a handle, and its rejection, count as usual.
    ///
    /// A timeout, a request limit and panic isolation have no dry run: in this mode they are off,
    /// also as members of a tuple. A drain only counts the requests that it would reject.
    ///
    /// [`Reporter::would_reject`]: crate::Reporter::would_reject
    DryRun,
    /// The policy is left out.
    Off,
}

/// Turns a policy on and off while the service runs. A cheap `Clone`: all clones are the same
/// switch. One switch may serve several policies.
///
/// ```
/// use seawall::policy::{Mode, Switch};
/// use seawall::ConcurrencyLimitLayer;
///
/// let switch = Switch::new(Mode::DryRun);
/// let layer = ConcurrencyLimitLayer::new(512).switched_by(switch.clone());
/// // Watch `would_reject` for a week, then:
/// switch.set(Mode::Enforce);
/// # fn fits_a_router<L>(_: L) where L: tower_layer::Layer<axum::routing::Route> {}
/// # fits_a_router(layer);
/// ```
#[derive(Clone, Default)]
pub struct Switch {
    mode: Arc<AtomicU8>,
}

/// A policy behind a [`Switch`]. [`GateLayer::switched_by`](crate::GateLayer::switched_by) and
/// [`GateLayer::dry_run`](crate::GateLayer::dry_run) make it.
///
/// A change of the mode does not affect requests that have a token.
#[derive(Clone, Debug)]
pub struct Switched<P> {
    policy: P,
    switch: Switch,
}

// === impl Switch ===

impl Switch {
    /// Makes a switch in this mode.
    pub fn new(mode: Mode) -> Self {
        let this = Self::default();
        this.set(mode);
        this
    }

    /// The mode.
    #[inline]
    pub fn mode(&self) -> Mode {
        match self.mode.load(Acquire) {
            0 => Mode::Enforce,
            1 => Mode::DryRun,
            _ => Mode::Off,
        }
    }

    /// Changes the mode for later requests. A request that reads the new mode also sees every
    /// change made before this call.
    pub fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Release);
    }
}

// === impl Mode ===

labels!(Mode {
    Mode::Enforce => "enforce",
    Mode::DryRun => "dry_run",
    Mode::Off => "off",
});

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Switch").field(&self.mode()).finish()
    }
}

// === impl Switched ===

impl<P> Switched<P> {
    /// Puts the policy behind the switch.
    pub const fn new(policy: P, switch: Switch) -> Self {
        Self { policy, switch }
    }

    /// The policy.
    pub fn policy(&self) -> &P {
        &self.policy
    }

    /// The switch.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// The path of a policy that is not enforced: a dry run, or off.
    #[cold]
    fn admit_unenforced<R>(&self, mode: Mode, request: &R::Head<'_>) -> Admission<P::Token, P::Wait>
    where
        R: RequestKind,
        P: Policy<R>,
    {
        if mode == Mode::Off {
            return Admission::Bypass;
        }
        let instead = match self.policy.admit(request) {
            Admission::Reject(rejection) => rejection,
            Admission::Wait(wait) => wait.give_up(),
            Admission::Admit(token) => {
                let token = self.policy.for_dry_run(token);
                return token.map_or(Admission::Bypass, Admission::Admit);
            }
            Admission::Bypass => return Admission::Bypass,
        };
        instead.count_dry_run(R::target(request));
        Admission::Bypass
    }
}

impl<R: RequestKind, P: Policy<R>> Policy<R> for Switched<P> {
    type Token = P::Token;
    type Wait = P::Wait;

    const IS_OURS: bool = P::IS_OURS;

    #[inline(always)]
    fn admit(&self, request: &R::Head<'_>) -> Admission<Self::Token, Self::Wait> {
        match self.switch.mode() {
            Mode::Enforce => self.policy.admit(request),
            mode => self.admit_unenforced(mode, request),
        }
    }

    pass_on!(self => self.policy);

    #[inline(always)]
    fn parts<'a>(&'a self, token: Option<&'a Self::Token>) -> Parts<'a> {
        if token.is_none() && self.switch.mode() != Mode::Enforce {
            return Parts::default();
        }
        self.policy.parts(token)
    }
}
