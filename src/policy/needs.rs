//! What a policy asks of the gate, as types: what no policy of a gate needs is `()` in its futures
//! and bodies, and its code is not compiled.

/// A `bool` as a type: [`Yes`] or [`No`].
pub trait Choice: 'static {
    /// The value.
    const IS: bool;

    /// [`Yes`] if this or the other is.
    type Or<O: Choice>: Choice;

    /// An `Option<T>`, or `()`.
    type Maybe<T>: Default;

    /// `Some(value)`, or `()`.
    fn some<T>(value: T) -> Self::Maybe<T>;

    /// What is there.
    fn get<T>(maybe: &mut Self::Maybe<T>) -> Option<&mut T>;

    /// Takes out what is there.
    fn take<T>(maybe: &mut Self::Maybe<T>) -> Option<T>;

    /// `B`, or `A`.
    type Pick<A, B>;

    /// `wrap(value)`, or the value.
    fn pick<A, B>(value: A, wrap: impl FnOnce(A) -> B) -> Self::Pick<A, B>;
}

/// A part that is there.
#[derive(Debug)]
pub enum Yes {}

/// A part that is not.
#[derive(Debug)]
pub enum No {}

/// What a policy asks of its gate.
pub trait Needs: 'static {
    /// `settle` is called.
    type Settle: Choice;
    /// `release` is called.
    type Release: Choice;
    /// `release` is notified how the request ended, and `settle` whether the call unwound.
    type Completion: Choice;
    /// `on_head` is called.
    type Head: Choice;
    /// Panics become answers.
    type Isolation: Choice;
    /// The call has a deadline.
    type Deadline: Choice;
    /// Response bodies have bounds, and can be ended from outside.
    type Ending: Choice;
    /// Requests have bounds.
    type Limit: Choice;
    /// Polls of the inner future are measured, while a lag shedder watches.
    type Polls: Choice;
    /// Polls of the inner future that take too long are reported.
    type SlowPolls: Choice;
}

/// The token is owed a call.
pub(crate) type Owed<N> = <<N as Needs>::Settle as Choice>::Or<<N as Needs>::Release>;
/// The parts are used after the head.
type Watched<N> = <<N as Needs>::Isolation as Choice>::Or<<N as Needs>::Ending>;
/// A response body carries a guard.
pub(crate) type InBody<N> = <Owed<N> as Choice>::Or<Watched<N>>;
/// Every call carries a guard.
pub(crate) type InCall<N> =
    <InBody<N> as Choice>::Or<<<N as Needs>::Deadline as Choice>::Or<<N as Needs>::SlowPolls>>;
/// A future may carry a guard: that of a limited request has one only if its body is counted.
pub(crate) type InFuture<N> = <InCall<N> as Choice>::Or<<N as Needs>::Limit>;

/// One call after `admit`, or all of them.
macro_rules! needs {
    ($(#[$doc:meta])* $name:ident: $($need:ident $choice:ident),+) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl Needs for $name {
            $(type $need = $choice;)+
        }
    };
}

needs! {
    /// Nothing after `admit`.
    Nothing: Settle No, Release No, Completion No, Head No,
    Isolation No, Deadline No, Ending No, Limit No, Polls No, SlowPolls No
}
needs! {
    /// All that a policy can be notified, but nothing of the sealed parts.
    Everything: Settle Yes, Release Yes, Completion Yes, Head Yes,
    Isolation No, Deadline No, Ending No, Limit No, Polls No, SlowPolls No
}
needs! {
    /// `release` alone.
    Released: Settle No, Release Yes, Completion No, Head No,
    Isolation No, Deadline No, Ending No, Limit No, Polls No, SlowPolls No
}
needs! {
    /// The outcome, and when the head comes.
    Settled: Settle Yes, Release No, Completion No, Head Yes,
    Isolation No, Deadline No, Ending No, Limit No, Polls No, SlowPolls No
}
needs! {
    /// Isolation of panics.
    Isolated: Settle No, Release No, Completion No, Head No,
    Isolation Yes, Deadline No, Ending No, Limit No, Polls No, SlowPolls No
}
needs! {
    /// A deadline to the head.
    Timed: Settle No, Release No, Completion No, Head No,
    Isolation No, Deadline Yes, Ending No, Limit No, Polls No, SlowPolls No
}
needs! {
    /// Bounds for the response body.
    Ended: Settle No, Release No, Completion No, Head No,
    Isolation No, Deadline No, Ending Yes, Limit No, Polls No, SlowPolls No
}
needs! {
    /// What a drain needs: when the request is over, and an end for its body.
    Drained: Settle No, Release Yes, Completion No, Head No,
    Isolation No, Deadline No, Ending Yes, Limit No, Polls No, SlowPolls No
}
needs! {
    /// Bounds for the request.
    Limited: Settle No, Release No, Completion No, Head No,
    Isolation No, Deadline No, Ending No, Limit Yes, Polls No, SlowPolls No
}

needs! {
    /// The polls of the inner future.
    Polled: Settle No, Release No, Completion No, Head No,
    Isolation No, Deadline No, Ending No, Limit No, Polls Yes, SlowPolls No
}
needs! {
    /// The polls of the inner future that take too long.
    SlowPolled: Settle No, Release No, Completion No, Head No,
    Isolation No, Deadline No, Ending No, Limit No, Polls No, SlowPolls Yes
}

/// What either needs.
impl<A: Needs, B: Needs> Needs for (A, B) {
    type Settle = <A::Settle as Choice>::Or<B::Settle>;
    type Release = <A::Release as Choice>::Or<B::Release>;
    type Completion = <A::Completion as Choice>::Or<B::Completion>;
    type Head = <A::Head as Choice>::Or<B::Head>;
    type Isolation = <A::Isolation as Choice>::Or<B::Isolation>;
    type Deadline = <A::Deadline as Choice>::Or<B::Deadline>;
    type Ending = <A::Ending as Choice>::Or<B::Ending>;
    type Limit = <A::Limit as Choice>::Or<B::Limit>;
    type Polls = <A::Polls as Choice>::Or<B::Polls>;
    type SlowPolls = <A::SlowPolls as Choice>::Or<B::SlowPolls>;
}

// === impl Choice ===

impl Choice for Yes {
    const IS: bool = true;

    type Or<O: Choice> = Yes;
    type Maybe<T> = Option<T>;
    type Pick<A, B> = B;

    #[inline(always)]
    fn some<T>(value: T) -> Option<T> {
        Some(value)
    }

    #[inline(always)]
    fn get<T>(maybe: &mut Option<T>) -> Option<&mut T> {
        maybe.as_mut()
    }

    #[inline(always)]
    fn take<T>(maybe: &mut Option<T>) -> Option<T> {
        maybe.take()
    }

    #[inline(always)]
    fn pick<A, B>(value: A, wrap: impl FnOnce(A) -> B) -> B {
        wrap(value)
    }
}

impl Choice for No {
    const IS: bool = false;

    type Or<O: Choice> = O;
    type Maybe<T> = ();
    type Pick<A, B> = A;

    #[inline(always)]
    fn some<T>(_: T) {}

    #[inline(always)]
    fn get<T>((): &mut ()) -> Option<&mut T> {
        None
    }

    #[inline(always)]
    fn take<T>((): &mut ()) -> Option<T> {
        None
    }

    #[inline(always)]
    fn pick<A, B>(value: A, _: impl FnOnce(A) -> B) -> A {
        value
    }
}
