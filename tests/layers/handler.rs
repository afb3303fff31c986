//! A handler whose type shows only its request, its response and its error. The compiler makes each
//! gate once for each type of its inner service, and `tower::service_fn` has a type for each
//! closure: with it, these tests take a third longer to build.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

type Call<Req, Res, E> =
    dyn Fn(Req) -> Pin<Box<dyn Future<Output = Result<Res, E>> + Send>> + Send + Sync;

/// See [`service_fn`].
pub(crate) struct Handler<Req, Res, E>(Arc<Call<Req, Res, E>>);

impl<Req, Res, E> Clone for Handler<Req, Res, E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Req, Res, E> Service<Req> for Handler<Req, Res, E> {
    type Response = Res;
    type Error = E;
    type Future = Pin<Box<dyn Future<Output = Result<Res, E>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        (self.0)(request)
    }
}

/// `tower::service_fn`, boxed.
pub(crate) fn service_fn<Req, Res, E, F>(
    handler: impl Fn(Req) -> F + Send + Sync + 'static,
) -> Handler<Req, Res, E>
where
    F: Future<Output = Result<Res, E>> + Send + 'static,
{
    Handler(Arc::new(move |request| Box::pin(handler(request))))
}
