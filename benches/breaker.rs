//! What a circuit breaker costs per call beside its peers, with one thread and with two: `cargo bench --bench breaker`.
//!
//! All run in the same process; the ratio is what counts. Each peer does what its defaults do, or what its row says.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use divan::{Bencher, black_box};
use seawall::circuit_breaker::Window;
use seawall::{CircuitBreaker, CircuitBreakerLayer};
use tower::{BoxError, Layer, Service};

const MINUTE: Duration = Duration::from_secs(60);

fn main() {
    divan::main();
}

/// Asks for a call and says that it succeeded.
mod admit_and_record {
    use failsafe::CircuitBreaker as _;
    use failsafe::{Config, backoff, failure_policy};
    use recloser::Recloser;

    use super::*;

    fn seawall(bencher: Bencher<'_, '_>, breaker: &CircuitBreaker) {
        bencher.bench(|| {
            let ticket = breaker.try_acquire().expect("closed");
            black_box(ticket).success();
        });
    }

    #[divan::bench(threads = [1, 2], sample_size = 2000)]
    fn seawall_time(bencher: Bencher<'_, '_>) {
        seawall(bencher, &CircuitBreaker::default());
    }

    #[divan::bench(threads = [1, 2], sample_size = 2000)]
    fn seawall_time_slow_calls(bencher: Bencher<'_, '_>) {
        let builder = CircuitBreaker::builder().slow_call(MINUTE, 0.5);
        seawall(bencher, &builder.build().expect("a breaker"));
    }

    #[divan::bench(threads = [1, 2], sample_size = 2000)]
    fn seawall_calls(bencher: Bencher<'_, '_>) {
        let builder = CircuitBreaker::builder().window(Window::calls(100));
        seawall(bencher, &builder.build().expect("a breaker"));
    }

    /// One in a hundred fails, so that there is something to add up.
    #[divan::bench(threads = [1, 2], sample_size = 2000)]
    fn seawall_time_some_fail(bencher: Bencher<'_, '_>) {
        let breaker = CircuitBreaker::default();
        bencher.bench(|| {
            let ticket = breaker.try_acquire().expect("closed");
            if fastrand::u8(..100) == 0 {
                black_box(ticket).failure();
            } else {
                black_box(ticket).success();
            }
        });
    }

    /// The last 100 calls.
    #[divan::bench(threads = [1, 2], sample_size = 2000)]
    fn recloser_calls(bencher: Bencher<'_, '_>) {
        let breaker = Recloser::default();
        bencher.bench(|| breaker.call(|| black_box(Ok::<_, Infallible>(()))).is_ok());
    }

    /// Failures in a row, or a moving average of the rate.
    #[divan::bench(threads = [1, 2], sample_size = 2000)]
    fn failsafe_default(bencher: Bencher<'_, '_>) {
        let breaker = Config::new().build();
        bencher.bench(|| breaker.call(|| black_box(Ok::<_, Infallible>(()))).is_ok());
    }

    #[divan::bench(threads = [1, 2], sample_size = 2000)]
    fn failsafe_consecutive(bencher: Bencher<'_, '_>) {
        let policy = failure_policy::consecutive_failures(5, backoff::constant(MINUTE));
        let breaker = Config::new().failure_policy(policy).build();
        bencher.bench(|| breaker.call(|| black_box(Ok::<_, Infallible>(()))).is_ok());
    }
}

/// The same around a Tower service that is ready at once.
mod service {
    use tower_resilience_circuitbreaker as resilience;

    use super::*;

    #[derive(Clone)]
    struct Bare;

    impl Service<u64> for Bare {
        type Response = u64;
        type Error = BoxError;
        type Future = Ready<Result<u64, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, number: u64) -> Self::Future {
            ready(Ok(number))
        }
    }

    /// A clone per call, all of one breaker; making the clone is not measured.
    fn calls<S>(bencher: Bencher<'_, '_>, service: S)
    where
        S: Service<u64> + Clone + Send + Sync + 'static,
    {
        bencher
            .with_inputs(|| service.clone())
            .bench_refs(|service| {
                let mut cx = Context::from_waker(Waker::noop());
                assert!(service.poll_ready(&mut cx).is_ready());
                let mut call = std::pin::pin!(service.call(black_box(7)));
                black_box(call.as_mut().poll(&mut cx).is_ready())
            });
    }

    #[divan::bench(threads = [1, 2], sample_size = 2000)]
    fn bare(bencher: Bencher<'_, '_>) {
        calls(bencher, Bare);
    }

    #[divan::bench(threads = [1, 2], sample_size = 2000)]
    fn seawall_time(bencher: Bencher<'_, '_>) {
        let layer = CircuitBreakerLayer::new(CircuitBreaker::default()).plain();
        calls(bencher, layer.layer(Bare));
    }

    #[divan::bench(threads = [1, 2], sample_size = 2000)]
    fn seawall_calls(bencher: Bencher<'_, '_>) {
        let builder = CircuitBreaker::builder().window(Window::calls(100));
        let breaker = builder.build().expect("a breaker");
        calls(
            bencher,
            CircuitBreakerLayer::new(breaker).plain().layer(Bare),
        );
    }

    #[divan::bench(threads = [1, 2], sample_size = 2000)]
    fn seawall_open(bencher: Bencher<'_, '_>) {
        let breaker = CircuitBreaker::builder()
            .open_for(MINUTE)
            .build()
            .expect("a breaker");
        breaker.trip();
        calls(
            bencher,
            CircuitBreakerLayer::new(breaker).plain().layer(Bare),
        );
    }

    #[divan::bench(threads = [1, 2], sample_size = 2000)]
    fn tower_resilience_calls(bencher: Bencher<'_, '_>) {
        let layer = resilience::CircuitBreakerLayer::builder()
            .build()
            .expect("a breaker");
        calls(bencher, layer.layer(Bare));
    }

    #[divan::bench(threads = [1, 2], sample_size = 2000)]
    fn tower_resilience_time(bencher: Bencher<'_, '_>) {
        let layer = resilience::CircuitBreakerLayer::builder()
            .sliding_window_type(resilience::SlidingWindowType::TimeBased)
            .sliding_window_duration(Duration::from_secs(10))
            .build()
            .expect("a breaker");
        calls(bencher, layer.layer(Bare));
    }
}
