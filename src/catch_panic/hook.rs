//! Who is told of a panic, and what of the request is kept for that.

use std::any::Any;
use std::fmt;

#[cfg(feature = "http")]
use crate::protocol::{HttpView, RequestHead, RequestSummary};
use crate::protocol::{PlainView, View};

/// A caught panic, as a hook sees it.
pub struct PanicReport<'a> {
    payload: &'a (dyn Any + Send),
    #[cfg(feature = "http")]
    request: Option<&'a RequestSummary>,
}

/// No hook: nothing of the request is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHook;

/// A closure that is told of every panic.
#[derive(Clone, Copy)]
pub struct Hook<F>(pub(super) F);

/// Is told of panics. `Kept` is what it wants to know of a request that is gone by then.
pub trait OnPanic<V: View>: Clone {
    type Kept;

    fn keep(&self, head: &V::Head<'_>) -> Self::Kept;
}

/// Tells the hook, with what was kept.
pub trait Report<K>: Clone {
    fn report(&self, payload: &(dyn Any + Send), kept: &K);
}

// === impl PanicReport ===

impl PanicReport<'_> {
    /// What the panic was raised with.
    pub fn payload(&self) -> &(dyn Any + Send) {
        self.payload
    }

    /// The message, if the payload is text, as it is for `panic!`.
    pub fn message(&self) -> Option<&str> {
        message(self.payload)
    }

    /// The request that it was; `None` over `Plain`.
    #[cfg(feature = "http")]
    pub fn request(&self) -> Option<&RequestSummary> {
        self.request
    }
}

impl fmt::Debug for PanicReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("PanicReport");
        debug.field("message", &self.message());
        #[cfg(feature = "http")]
        debug.field("request", &self.request);
        debug.finish()
    }
}

// === impl OnPanic, Report ===

impl<V: View> OnPanic<V> for NoHook {
    type Kept = ();

    fn keep(&self, _: &V::Head<'_>) {}
}

impl Report<()> for NoHook {
    fn report(&self, _: &(dyn Any + Send), (): &()) {}
}

impl<Req, F: Clone> OnPanic<PlainView<Req>> for Hook<F> {
    type Kept = ();

    fn keep(&self, _: &Req) {}
}

impl<F> Report<()> for Hook<F>
where
    F: Fn(&PanicReport<'_>) + Clone,
{
    fn report(&self, payload: &(dyn Any + Send), (): &()) {
        (self.0)(&PanicReport {
            payload,
            #[cfg(feature = "http")]
            request: None,
        });
    }
}

#[cfg(feature = "http")]
impl<F: Clone> OnPanic<HttpView> for Hook<F> {
    type Kept = RequestSummary;

    fn keep(&self, head: &RequestHead<'_>) -> RequestSummary {
        RequestSummary::of(head)
    }
}

#[cfg(feature = "http")]
impl<F> Report<RequestSummary> for Hook<F>
where
    F: Fn(&PanicReport<'_>) + Clone,
{
    fn report(&self, payload: &(dyn Any + Send), kept: &RequestSummary) {
        (self.0)(&PanicReport {
            payload,
            request: Some(kept),
        });
    }
}

impl<F> fmt::Debug for Hook<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook(..)")
    }
}

/// `panic!` gives a `&str` or a `String`.
pub(super) fn message(payload: &(dyn Any + Send)) -> Option<&str> {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}
