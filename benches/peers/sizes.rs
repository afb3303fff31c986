//! The sizes of futures and bodies.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use seawall::{
    CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, ConcurrencyLimitLayer, LagShed,
    LagShedLayer, RequestLimitLayer, ResponseBodyTimeoutSettings, TimeoutLayer,
};
use tower::{Layer, Service};

use crate::drive::{Bare, ReqBody, runtime};
use crate::{report, stacks};

/// The sizes of the future and of the response body.
fn sizes<S, B>(_: &S) -> (usize, usize)
where
    S: Service<Request<ReqBody>, Response = Response<B>>,
{
    (size_of::<S::Future>(), size_of::<B>())
}

pub(crate) fn print() {
    let _runtime = runtime().enter();
    let bare = sizes(&Bare::<Infallible>::new());
    let mut table = report::table(&["bytes added to the bare service's", "", "future", "body"]);
    macro_rules! add {
        ($name:literal, $layer:expr) => {
            let (future, body) = sizes(&$layer.layer(Bare::<Infallible>::new()));
            let (future, body) = (future - bare.0, body - bare.1);
            table.add_row([$name, "", &future.to_string(), &body.to_string()]);
        };
    }
    let second = Duration::from_secs(1);
    add!("CatchPanicLayer", CatchPanicLayer::new());
    add!("LagShedLayer", LagShedLayer::new(LagShed::default()));
    add!(
        "CircuitBreakerLayer",
        CircuitBreakerLayer::new(CircuitBreaker::default())
    );
    add!("TimeoutLayer", TimeoutLayer::new(second));
    add!(
        "TimeoutLayer, progress_timeout",
        TimeoutLayer::new(second)
            .response_body_timeout(ResponseBodyTimeoutSettings::default().progress_timeout(second))
    );
    add!("ConcurrencyLimitLayer", ConcurrencyLimitLayer::new(1));
    add!("RequestLimitLayer", RequestLimitLayer::new(1));
    add!("all six in one gate", stacks::one_gate());
    add!("server()", stacks::server());
    println!("\n{table}");
    println!(
        "bare: future {}, body {}; tokio's timer takes {}",
        bare.0,
        bare.1,
        size_of::<tokio::time::Sleep>()
    );
}
