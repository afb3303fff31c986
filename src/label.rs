//! The labels of reasons, states and outcomes.

/// Implements `as_str` and `Display` for an enum whose values have labels. `Display` writes the
/// label, or the text if there is one.
macro_rules! labels {
    ($name:ident { $($value:pat => $label:literal),+ $(,)? }) => {
        labels!($name { $($value => $label, $label,)+ });
    };
    ($name:ident { $($value:pat => $label:expr, $text:expr,)+ }) => {
        impl $name {
            /// The label: lower case and stable, for example for metrics and logs.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($value => $label,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $($value => $text,)+
                })
            }
        }
    };
}

pub(crate) use labels;
