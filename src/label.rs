//! The labels of states and outcomes.

/// Implements `as_str` and `Display` for an enum whose values have labels.
macro_rules! labels {
    ($name:ident { $($value:pat => $label:literal),+ $(,)? }) => {
        impl $name {
            /// The label: lower case and stable, for metrics and logs.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($value => $label,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use labels;
