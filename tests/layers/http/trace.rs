//! D2 of the faults that were found in the field: what a `TraceLayer` of tower-http around the
//! layers logs as a failure.

use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use seawall::{
    CatchPanicLayer, ConcurrencyLimit, ConcurrencyLimitLayer, IgnoreRejections, TimeoutLayer,
};
use tower::{Layer, Service};

use crate::handler::service_fn;
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

fn unavailable() -> Response<Script> {
    let mut response = ok(Script::default());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

/// A layer without a permit left.
fn full() -> ConcurrencyLimitLayer {
    let limit = ConcurrencyLimit::from(1);
    std::mem::forget(limit.try_acquire().unwrap());
    ConcurrencyLimitLayer::new(limit)
}

#[track_caller]
fn assert_one(failures: &[String], says: &str) {
    assert!(
        matches!(failures, [one] if one.contains(says)),
        "{failures:?}"
    );
}

macro_rules! a_rejection_is_no_failure {
    ($feature:literal, $tower_http:ident, $version:ident, $exhausted:literal, $unavailable:literal) => {
        #[cfg(feature = $feature)]
        mod $version {
            use super::*;
            use $tower_http::classify::{
                GrpcErrorsAsFailures, MakeClassifier, ServerErrorsAsFailures,
            };
            use $tower_http::trace::TraceLayer;

            /// The failures of one call that a `TraceLayer` with this classifier logs.
            async fn failures<M, L, S, B, E>(
                classifier: M,
                layer: L,
                inner: S,
                request: Request<Script>,
            ) -> Vec<String>
            where
                M: MakeClassifier + Clone,
                M::FailureClass: ToString,
                M::Classifier: Clone,
                L: Layer<S, Service: Service<Request<Script>, Response = Response<B>, Error = E>>,
                B: http_body::Body<Error: std::fmt::Display + 'static>,
                E: std::fmt::Debug + std::fmt::Display + 'static,
            {
                let failures = Arc::new(Mutex::new(Vec::new()));
                let seen = failures.clone();
                let on_failure = move |class: M::FailureClass, _: Duration, _: &tracing::Span| {
                    seen.lock().unwrap().push(class.to_string());
                };
                let mut service = TraceLayer::new(classifier)
                    .on_failure(on_failure)
                    .layer(layer.layer(inner));
                let response = service.call(request).await.unwrap();
                let _ = std::pin::pin!(response.into_body()).collect().await;
                std::mem::take(&mut failures.lock().unwrap())
            }

            #[tokio::test(start_paused = true)]
            async fn over_http() {
                let plain = ServerErrorsAsFailures::make_classifier();
                let ours = IgnoreRejections::new(plain.clone());
                let works = || answers(|| ok(Script::data(&["a"])));
                let status = ["Status code: 503 Service Unavailable"];

                assert_eq!(failures(plain, full(), works(), get()).await, status);
                let none: [&str; 0] = [];
                assert_eq!(failures(ours.clone(), full(), works(), get()).await, none);

                let layer = ConcurrencyLimitLayer::new(1);
                assert_eq!(
                    failures(ours.clone(), layer.clone(), works(), get()).await,
                    none
                );
                let fails = answers(unavailable);
                assert_eq!(failures(ours.clone(), layer, fails, get()).await, status);

                let panics = answers(|| -> Response<Script> { unwind() });
                let layer = CatchPanicLayer::new().on_panic(|_| {});
                assert_eq!(
                    failures(ours.clone(), layer, panics, get()).await,
                    ["Status code: 500 Internal Server Error"]
                );
                let hangs = service_fn(|_| pending::<Result<Response<Script>, Infallible>>());
                let layer = TimeoutLayer::new(SECOND);
                assert_eq!(
                    failures(ours, layer, hangs, get()).await,
                    ["Status code: 504 Gateway Timeout"]
                );
            }

            #[tokio::test(start_paused = true)]
            async fn over_grpc() {
                let plain = GrpcErrorsAsFailures::make_classifier();
                let ours = IgnoreRejections::new(plain.clone());
                let works = || answers(|| ok(Script::new([Step::Trailers("grpc-status", "0")])));

                assert_one(&failures(plain, full(), works(), grpc()).await, $exhausted);
                let none: [&str; 0] = [];
                assert_eq!(failures(ours.clone(), full(), works(), grpc()).await, none);

                let layer = ConcurrencyLimitLayer::new(1);
                assert_eq!(
                    failures(ours.clone(), layer.clone(), works(), grpc()).await,
                    none
                );
                let fails = answers(|| {
                    let mut response = ok(Script::default());
                    let status = HeaderValue::from_static("8");
                    response.headers_mut().insert("grpc-status", status);
                    response
                });
                assert_one(
                    &failures(ours.clone(), layer.clone(), fails, grpc()).await,
                    $exhausted,
                );
                let fails = answers(|| {
                    ok(Script::new([
                        Step::Data("a"),
                        Step::Trailers("grpc-status", "14"),
                    ]))
                });
                assert_one(&failures(ours, layer, fails, grpc()).await, $unavailable);
            }
        }
    };
}

a_rejection_is_no_failure!("tower-http-06", tower_http, v0_6, "Code: 8", "Code: 14");
a_rejection_is_no_failure!(
    "tower-http-07",
    tower_http_07,
    v0_7,
    "ResourceExhausted",
    "Unavailable"
);
