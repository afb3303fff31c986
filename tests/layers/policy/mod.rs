//! Policies of policies, and gates inside gates.

mod raise;
mod tuples;
