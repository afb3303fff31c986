//! Services that are not HTTP, with or without the `http` feature.

use std::time::Duration;

use seawall::{
    CatchPanicLayer, ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitSettings, LagShed,
    LagShedLayer, Reason, Rejection, TimeoutLayer,
};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};
use tower::{BoxError, Service, ServiceBuilder};

use crate::handler::service_fn;

/// An error type of a user, which needs no box.
#[derive(Debug, PartialEq)]
enum Error {
    Rejected(Reason),
    Own,
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Error::Rejected(rejection.reason())
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_stack_of_them() {
    let limit =
        ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(1, Duration::from_secs(1)))
            .unwrap();
    let mut service = ServiceBuilder::new()
        .layer(CatchPanicLayer::new().plain())
        .layer(LagShedLayer::new(LagShed::default()).plain())
        .layer(TimeoutLayer::new(Duration::from_secs(5)).plain())
        .layer(ConcurrencyLimitLayer::new(limit.clone()).plain())
        .service(service_fn(async |n: u64| {
            assert_ne!(n, 13, "unlucky");
            tokio::time::sleep(Duration::from_secs(n)).await;
            if n == 3 { Err(Error::Own) } else { Ok(n) }
        }));
    assert_eq!(service.call(2).await, Ok(2));
    assert_eq!(service.call(3).await, Err(Error::Own));
    assert_eq!(
        service.call(13).await,
        Err(Error::Rejected(Reason::Panicked))
    );
    assert_eq!(service.call(9).await, Err(Error::Rejected(Reason::Timeout)));

    let mut running = spawn(service.call(4));
    assert_pending!(running.poll());
    let mut waiting = spawn(service.call(1));
    assert_pending!(waiting.poll());
    let mut third = spawn(service.call(1));
    assert_eq!(
        assert_ready!(third.poll()),
        Err(Error::Rejected(Reason::ConcurrencyLimit))
    );
    assert_eq!(waiting.await, Err(Error::Rejected(Reason::QueueTimeout)));
    assert_eq!(running.await, Ok(4));
    assert_eq!((limit.in_flight(), limit.queued()), (0, 0));
}

#[tokio::test]
async fn a_boxed_error_holds_the_rejection() {
    let limit = ConcurrencyLimit::from(1);
    let _permit = limit.try_acquire_owned().unwrap();
    let mut service = ServiceBuilder::new()
        .layer(ConcurrencyLimitLayer::new(limit).plain())
        .service(service_fn(async |n: u32| Ok::<_, BoxError>(n)));
    let error = service.call(1).await.unwrap_err();
    assert!(error.downcast_ref::<Rejection>().is_some());
    assert_eq!(error.to_string(), "the concurrency limit is reached");
}
