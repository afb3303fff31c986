//! A tuple of policies is a policy.

use super::wait::Adapt;
use super::{Admission, End, Interest, NoWait, Outcome, Policy, Ticket, Wait};
#[cfg(feature = "http")]
use crate::protocol::ResponseHeadMut;
use crate::protocol::View;

/// Puts the tickets of the earlier policies beside the one that the last had to wait for.
#[derive(Debug)]
pub struct Beside<F>(F);

impl<F, T> Adapt<T> for Beside<F> {
    type Ticket = (F, T);

    fn adapt(self, ticket: T) -> (F, T) {
        (self.0, ticket)
    }
}

macro_rules! tickets {
    ($($name:ident)+) => {
        impl<$($name: Ticket),+> Ticket for ($($name,)+) {
            #[inline]
            fn interest(&self) -> Interest {
                #[allow(non_snake_case, reason = "the macro has one name per member")]
                let ($($name,)+) = self;
                let interest = Interest::Nothing;
                $(let interest = interest.max($name.interest());)+
                interest
            }

            #[inline]
            fn settle(&mut self, outcome: Outcome) {
                #[allow(non_snake_case, reason = "the macro has one name per member")]
                let ($($name,)+) = self;
                $($name.settle(outcome);)+
            }

            #[cfg(feature = "http")]
            #[inline]
            fn on_head(&mut self, head: &mut ResponseHeadMut<'_>) {
                #[allow(non_snake_case, reason = "the macro has one name per member")]
                let ($($name,)+) = self;
                $($name.on_head(head);)+
            }

            #[inline]
            fn on_end(&mut self, end: End) {
                #[allow(non_snake_case, reason = "the macro has one name per member")]
                let ($($name,)+) = self;
                $($name.on_end(end);)+
            }
        }
    };
}

/// `$first` … never wait; `$last` may.
macro_rules! policies {
    ($($first:ident)+; $last:ident) => {
        impl<View_, $($first,)+ $last> Policy<View_> for ($($first,)+ $last)
        where
            View_: View,
            $($first: Policy<View_, Wait = NoWait>,)+
            $last: Policy<View_>,
        {
            type Ticket = (($($first::Ticket,)+), $last::Ticket);
            type Wait = <$last::Wait as Wait<$last::Ticket>>::Map<Beside<($($first::Ticket,)+)>>;

            #[inline]
            #[allow(non_snake_case, reason = "the macro has one name per member")]
            fn admit(&self, request: &View_::Head<'_>) -> Admission<Self::Ticket, Self::Wait> {
                let ($($first,)+ $last) = self;
                let earlier = ($(
                    match $first.admit(request) {
                        Admission::Admit(ticket) => ticket,
                        Admission::Wait(never) => match never {},
                        Admission::Reject(rejection) => return Admission::Reject(rejection),
                    },
                )+);
                match $last.admit(request) {
                    Admission::Admit(ticket) => Admission::Admit((earlier, ticket)),
                    Admission::Wait(wait) => Admission::Wait(wait.map(Beside(earlier))),
                    Admission::Reject(rejection) => Admission::Reject(rejection),
                }
            }
        }
    };
}

tickets!(A);
tickets!(A B);
tickets!(A B C);
tickets!(A B C D);
tickets!(A B C D E);

policies!(A; B);
policies!(A B; C);
policies!(A B C; D);
policies!(A B C D; E);
policies!(A B C D E; F);
