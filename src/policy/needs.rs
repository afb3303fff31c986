//! The parts of the gate that a policy needs, as types. A part that no policy of a gate needs is
//! `()` in its futures and bodies, and its code is not compiled.

/// A `bool` as a type: [`Yes`] or [`No`].
pub trait Choice: 'static {
    /// The value.
    const IS: bool;

    /// [`Yes`] if this or the other is [`Yes`].
    type Or<O: Choice>: Choice;

    /// An `Option<T>`, or `()`.
    type Maybe<T>: Default;

    /// `Some(value)`, or `()`.
    fn some<T>(value: T) -> Self::Maybe<T>;

    /// The value, if there is one.
    fn get<T>(maybe: &mut Self::Maybe<T>) -> Option<&mut T>;

    /// The value, if there is one.
    fn get_ref<T>(maybe: &Self::Maybe<T>) -> Option<&T>;

    /// Takes the value, if there is one.
    fn take<T>(maybe: &mut Self::Maybe<T>) -> Option<T>;
}

/// A part that is present.
#[derive(Debug)]
pub enum Yes {}

/// A part that is absent.
#[derive(Debug)]
pub enum No {}

/// The parts of its gate that a policy needs, as types and as values.
#[allow(missing_docs, reason = "the docs of a type are those of its value")]
pub trait Needs: 'static {
    /// The gate calls `on_head` and `settle`.
    type Settle: Choice;
    /// The gate calls `release`.
    type Release: Choice;
    /// `release` gets the completion of the request, and `settle` an outcome for a panic.
    type Completion: Choice;
    /// The gate answers panics.
    type Isolation: Choice;
    /// The call has a deadline.
    type Deadline: Choice;
    /// Response bodies have bounds, and can be ended from outside.
    type Ending: Choice;
    /// Requests have bounds.
    type Limit: Choice;
    /// The gate measures the polls of the inner future while a lag shedder needs them.
    type Polls: Choice;
    /// The gate reports polls of the inner future that take too long.
    type SlowPolls: Choice;

    const SETTLE: bool = Self::Settle::IS;
    const RELEASE: bool = Self::Release::IS;
    const COMPLETION: bool = Self::Completion::IS;
    const ISOLATION: bool = Self::Isolation::IS;
    const DEADLINE: bool = Self::Deadline::IS;
    const ENDING: bool = Self::Ending::IS;
    const LIMIT: bool = Self::Limit::IS;
    const POLLS: bool = Self::Polls::IS;
    const SLOW_POLLS: bool = Self::SlowPolls::IS;
}

/// The gate must call `settle` or `release` for the token.
pub(crate) type Owed<N> = <<N as Needs>::Settle as Choice>::Or<<N as Needs>::Release>;
/// The gate uses the parts after the head.
type Watched<N> = <<N as Needs>::Isolation as Choice>::Or<<N as Needs>::Ending>;
/// A response body carries a guard.
pub(crate) type InBody<N> = <Owed<N> as Choice>::Or<Watched<N>>;
/// Every call carries a guard.
pub(crate) type InCall<N> =
    <InBody<N> as Choice>::Or<<<N as Needs>::Deadline as Choice>::Or<<N as Needs>::SlowPolls>>;
/// A future may carry a guard. The future of a limited request has one only if its body is counted.
pub(crate) type InFuture<N> = <InCall<N> as Choice>::Or<<N as Needs>::Limit>;

/// A table: one row for each kind of policy.
macro_rules! needs {
    ($needs:tt $($(#[$doc:meta])* $name:ident: $choices:tt;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub enum $name {}

            needs!(@row $name $needs $choices);
        )+

        needs!(@both $needs);
    };
    (@row $name:ident [$($need:ident)+] [$($choice:ident)+]) => {
        impl Needs for $name {
            $(type $need = $choice;)+
        }
    };
    (@both [$($need:ident)+]) => {
        /// The needs of both.
        impl<A: Needs, B: Needs> Needs for (A, B) {
            $(type $need = <A::$need as Choice>::Or<B::$need>;)+
        }
    };
}

needs! {
                [Settle Release Completion Isolation Deadline Ending Limit Polls SlowPolls]
    /// Nothing after `admit`.
    Nothing:    [No     No      No         No        No       No     No    No    No];
    /// Every call, but none of the sealed parts.
    Everything: [Yes    Yes     Yes        No        No       No     No    No    No];
    /// `release` alone.
    Released:   [No     Yes     No         No        No       No     No    No    No];
    /// The outcome, and the time of the response head.
    Settled:    [Yes    No      No         No        No       No     No    No    No];
    /// Panic isolation.
    Isolated:   [No     No      No         Yes       No       No     No    No    No];
    /// A deadline for the response head.
    Timed:      [No     No      No         No        Yes      No     No    No    No];
    /// Bounds for the response body.
    Ended:      [No     No      No         No        No       Yes    No    No    No];
    /// The needs of a drain: the end of each request, and an end for its body.
    Drained:    [No     Yes     No         No        No       Yes    No    No    No];
    /// Bounds for the request.
    Limited:    [No     No      No         No        No       No     Yes   No    No];
    /// The polls of the inner future.
    Polled:     [No     No      No         No        No       No     No    Yes   No];
    /// The polls of the inner future that take too long.
    SlowPolled: [No     No      No         No        No       No     No    No    Yes];
}

// === impl Choice ===

impl Choice for Yes {
    const IS: bool = true;

    type Or<O: Choice> = Yes;
    type Maybe<T> = Option<T>;

    #[inline(always)]
    fn some<T>(value: T) -> Option<T> {
        Some(value)
    }

    #[inline(always)]
    fn get<T>(maybe: &mut Option<T>) -> Option<&mut T> {
        maybe.as_mut()
    }

    #[inline(always)]
    fn get_ref<T>(maybe: &Option<T>) -> Option<&T> {
        maybe.as_ref()
    }

    #[inline(always)]
    fn take<T>(maybe: &mut Option<T>) -> Option<T> {
        maybe.take()
    }
}

impl Choice for No {
    const IS: bool = false;

    type Or<O: Choice> = O;
    type Maybe<T> = ();

    #[inline(always)]
    fn some<T>(_: T) {}

    #[inline(always)]
    fn get<T>((): &mut ()) -> Option<&mut T> {
        None
    }

    #[inline(always)]
    fn get_ref<T>((): &()) -> Option<&T> {
        None
    }

    #[inline(always)]
    fn take<T>((): &mut ()) -> Option<T> {
        None
    }
}
