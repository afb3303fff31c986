//! Policies of policies.

mod tuples;
