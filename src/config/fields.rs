//! The fields of settings as texts, for [`Changes`](crate::stack::Changes).

use std::time::Duration;

use super::error::text;

/// Settings whose fields can be listed. [`fields!`] implements it.
#[allow(dead_code, reason = "only stacks list them, which need HTTP")]
pub(crate) trait Fields {
    /// Calls `each` with the path and the value of every field below `path`. A field that is `None`
    /// is left out.
    fn each(&self, path: &str, each: &mut dyn FnMut(String, String));
}

/// Lists the fields of settings. If one is missing, this does not compile.
macro_rules! fields {
    ($settings:ident { $($field:ident),+ $(,)? }) => {
        impl crate::config::Fields for $settings {
            fn each(&self, path: &str, each: &mut dyn FnMut(String, String)) {
                let Self { $($field),+ } = self;
                $(
                    let path_of_field = format!("{path}.{}", stringify!($field));
                    crate::config::Fields::each($field, &path_of_field, each);
                )+
            }
        }
    };
}

pub(crate) use fields;

// === impl Fields ===

macro_rules! values {
    ($($value:ty),+) => {$(
        impl Fields for $value {
            fn each(&self, path: &str, each: &mut dyn FnMut(String, String)) {
                each(path.to_owned(), text(self));
            }
        }
    )+};
}

values!(bool, u32, u64, usize, f64, Duration);

impl<T: Fields> Fields for Option<T> {
    fn each(&self, path: &str, each: &mut dyn FnMut(String, String)) {
        if let Some(value) = self {
            value.each(path, each);
        }
    }
}
