//! A tuple of policies is a policy.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::needs::Needs;
use super::{Admission, Expiry, NeedsOf, NeverWaits, Parts, Permit, Policy, Wait};
#[cfg(feature = "http")]
use crate::http::head::ResponseHeadMut;
use crate::outcome::{Completion, Outcome};
use crate::rejection::Rejection;
use crate::request::{RequestKind, sealed};
use crate::unwind;

pin_project! {
    /// The wait of the last policy of a tuple, with the permits of the others. A gate takes their
    /// tokens out before it polls the wait.
    #[derive(Debug)]
    pub struct Beside<E, W> {
        earlier: E,
        #[pin]
        wait: W,
    }
}

impl<E, W> sealed::Sealed for Beside<E, W> {}

/// Calls the policies that never wait, one after the other. If a later one rejects, the earlier
/// tokens are settled with `Ignored`; if one panics, with `Panicked`.
macro_rules! admit {
    ($request:ident [$($done:ident)*]) => {};
    ($request:ident [$($done:ident)*] $next:ident $($rest:ident)*) => {
        let $next = match $next.admit($request) {
            Admission::Admit(token) => Some(Permit::<&$next, R>::earlier($next, token)),
            Admission::Bypass => None,
            Admission::Reject(rejection) => {
                let _end = ($($done.map(Permit::into_ignored),)*);
                return Admission::Reject(rejection);
            }
            // Only the last policy may wait.
            Admission::Wait(wait) => return Admission::Reject(wait.give_up()),
        };
        admit!($request [$($done)* $next] $($rest)*);
    };
}

/// Calls a method of each member that has one of these needs, with its token and a value. With
/// `@reversed`, the last member comes first.
macro_rules! call {
    ($(@$order:ident)? $self:ident $both:ident $method:ident [$($need:ident)+] ($name:ident $n:tt)) => {
        if const { $(NeedsOf::<$name, R>::$need)||+ } {
            if let Some(token) = &mut $both.0.$n {
                $self.$n.$method(token, $both.1);
            }
        }
    };
    (@reversed $self:ident $both:ident $method:ident $needs:tt $first:tt $($rest:tt)+) => {
        each::<R, Self, _>(
            $both,
            |both| call!(@reversed $self both $method $needs $($rest)+),
            |both| call!(@reversed $self both $method $needs $first),
        )
    };
    ($self:ident $both:ident $method:ident $needs:tt $first:tt $($rest:tt)+) => {
        each::<R, Self, _>(
            $both,
            |both| call!($self both $method $needs $first),
            |both| call!($self both $method $needs $($rest)+),
        )
    };
}

/// Calls both: a panic of a policy of the user must not keep the tokens of the others.
#[inline(always)]
pub(super) fn each<R: RequestKind, P: Policy<R>, T>(
    shared: &mut T,
    first: impl FnOnce(&mut T),
    second: impl FnOnce(&mut T),
) {
    if const { P::IS_OURS } {
        first(shared);
        second(shared);
    } else {
        unwind::both(shared, first, second);
    }
}

/// The needs of all members, as nested pairs.
macro_rules! needs {
    ($last:ty) => { <$last as Wait>::Needs };
    ($first:ty, $($rest:ty),+) => { (<$first as Wait>::Needs, needs!($($rest),+)) };
}

/// The parts of all members; where only one applies, of the first.
macro_rules! parts {
    ($self:ident $token:ident ($name:ident $n:tt)) => {
        match &$token.$n {
            Some(token) => $self.$n.parts(Some(token)),
            None => Parts::default(),
        }
    };
    ($self:ident $token:ident ($name:ident $n:tt) $($rest:tt)+) => {{
        let rest = parts!($self $token $($rest)+);
        match &$token.$n {
            Some(token) => $self.$n.parts(Some(token)).or(rest),
            None => rest,
        }
    }};
}

/// `$first` … never wait; `$last` may.
macro_rules! policies {
    ($(($first:ident $n:tt))+; $last:ident $m:tt) => {
        impl<R, $($first,)+ $last> Policy<R> for ($($first,)+ $last)
        where
            R: RequestKind,
            $($first: Policy<R, Wait: NeverWaits>,)+
            $last: Policy<R>,
        {
            type Token = ($(Option<$first::Token>,)+ Option<$last::Token>);
            type Wait = Beside<($(Option<Permit<$first, R>>,)+), $last::Wait>;

            const IS_OURS: bool = $($first::IS_OURS &&)+ $last::IS_OURS;

            #[inline(always)]
            #[allow(non_snake_case, reason = "the macro has one name per member")]
            fn admit(&self, request: &R::Head<'_>) -> Admission<Self::Token, Self::Wait> {
                let ($($first,)+ $last) = self;
                admit!(request [] $($first)+);
                let last = match $last.admit(request) {
                    Admission::Admit(token) => Some(token),
                    Admission::Bypass => None,
                    Admission::Reject(rejection) => {
                        drop(($($first.map(Permit::into_ignored),)+));
                        return Admission::Reject(rejection);
                    }
                    Admission::Wait(wait) => {
                        let earlier = ($($first.and_then(|permit| {
                            // This may panic, and so comes while the permit has the token.
                            let policy = self.$n.clone();
                            let token = permit.into_token()?;
                            // A panic while it is dropped is not one of the call.
                            Some(Permit::new(policy, token).cancelled_if_dropped())
                        }),)+);
                        return Admission::Wait(Beside { earlier, wait });
                    }
                };
                Admission::Admit(($($first.and_then(Permit::into_token),)+ last))
            }

            #[cfg(feature = "http")]
            #[inline(always)]
            fn on_head(&self, token: &mut Self::Token, head: &mut ResponseHeadMut<'_>) {
                $(if const { NeedsOf::<$first, R>::SETTLE } {
                    if let Some(token) = &mut token.$n {
                        self.$n.on_head(token, head);
                    }
                })+
                if const { NeedsOf::<$last, R>::SETTLE } {
                    if let Some(token) = &mut token.$m {
                        self.$m.on_head(token, head);
                    }
                }
            }

            fn register(&self) {
                $(self.$n.register();)+
                self.$m.register();
            }

            #[inline(always)]
            fn settle(&self, token: &mut Self::Token, outcome: Outcome) {
                let both = &mut (token, outcome);
                call!(self both settle [SETTLE] $(($first $n))+ ($last $m));
            }

            #[inline(always)]
            fn release(&self, token: &mut Self::Token, completion: Completion) {
                let both = &mut (token, completion);
                call!(@reversed self both release [RELEASE] $(($first $n))+ ($last $m));
            }

            #[inline]
            fn expire(&self, token: &mut Self::Token, expiry: &mut Expiry) {
                let both = &mut (token, expiry);
                call!(self both expire [SETTLE DEADLINE] $(($first $n))+ ($last $m));
            }

            fn for_dry_run(&self, token: Self::Token) -> Option<Self::Token> {
                let last = token.$m.and_then(|token| self.$m.for_dry_run(token));
                Some(($(token.$n.and_then(|token| self.$n.for_dry_run(token)),)+ last))
            }

            #[inline(always)]
            fn parts<'a>(&'a self, token: Option<&'a Self::Token>) -> Parts<'a> {
                let Some(token) = token else {
                    return Parts::default()$(.or(self.$n.parts(None)))+.or(self.$m.parts(None));
                };
                parts!(self token $(($first $n))+ ($last $m))
            }
        }

        impl<R, $($first,)+ T, W> Wait for Beside<($(Option<Permit<$first, R>>,)+), W>
        where
            R: RequestKind,
            $($first: Policy<R>,)+
            W: Wait<Token = T>,
        {
            type Token = ($(Option<$first::Token>,)+ Option<T>);
            type Needs = needs!($($first::Wait,)+ W);
            type Waits = W::Waits;

            fn poll_token(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<Result<Self::Token, Rejection>> {
                let waited = ready!(self.project().wait.poll_token(cx));
                Poll::Ready(waited.map(|token| ($(None::<$first::Token>,)+ Some(token))))
            }

            fn take_earlier(&mut self) -> Option<Self::Token> {
                let Self { earlier, wait } = self;
                let earlier = ($(earlier.$n.take().and_then(Permit::into_token),)+);
                Some(($(earlier.$n,)+ wait.take_earlier()))
            }

            fn add(earlier: &mut Self::Token, waited: Self::Token) {
                match (&mut earlier.$m, waited.$m) {
                    (Some(earlier), Some(waited)) => W::add(earlier, waited),
                    (last, waited) => *last = waited,
                }
            }

            fn give_up(self) -> Rejection {
                drop(($(self.earlier.$n.map(Permit::into_ignored),)+));
                self.wait.give_up()
            }
        }
    };
}

policies!((A 0); B 1);
policies!((A 0) (B 1); C 2);
policies!((A 0) (B 1) (C 2); D 3);
policies!((A 0) (B 1) (C 2) (D 3); E 4);
policies!((A 0) (B 1) (C 2) (D 3) (E 4); F 5);
policies!((A 0) (B 1) (C 2) (D 3) (E 4) (F 5); G 6);
policies!((A 0) (B 1) (C 2) (D 3) (E 4) (F 5) (G 6); H 7);
