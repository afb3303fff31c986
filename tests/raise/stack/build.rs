//! What the builders of stacks take, and the errors of `build`.

use std::time::Duration;

use seawall::stack::{ClientBuilder, ServerBuilder};
use seawall::{
    CircuitBreaker, CircuitBreakerSettings, ConcurrencyLimit, ConcurrencyLimitSettings, Drain,
    DrainSettings, LagShed, LagThresholds, LoadSignal, RequestLimit, RequestLimitSettings, Timeout,
    TimeoutSettings,
};

use super::{MS, SECOND};

/// Values, settings and handles make the same part.
#[test]
fn parts_are_values_settings_or_handles() {
    let server = |build: fn(ServerBuilder) -> ServerBuilder| {
        let stack = build(seawall::server()).build();
        stack.unwrap().settings()
    };
    let queue = || ConcurrencyLimitSettings::fixed(7).queue(3, SECOND);
    assert_eq!(
        server(|it| it.concurrency_limit(7).request_limit(9).timeout(SECOND)),
        server(|it| {
            it.concurrency_limit(ConcurrencyLimit::from(7))
                .request_limit(RequestLimit::from(9))
                .timeout(Timeout::from(SECOND))
        }),
    );
    assert_eq!(
        server(|it| {
            it.concurrency_limit(7)
                .request_limit(RequestLimitSettings::new(9))
                .timeout(TimeoutSettings::new(SECOND))
        }),
        server(|it| it.concurrency_limit(7).request_limit(9).timeout(SECOND)),
    );
    let stack = seawall::server().concurrency_limit(queue()).build();
    assert_eq!(stack.unwrap().concurrency_limit().settings(), queue());
    assert_eq!(
        server(|it| it.drain(SECOND).lag_shed(LagThresholds::strict())),
        server(|it| {
            it.drain(Drain::new(DrainSettings::default().lame_duck(SECOND)).unwrap())
                .lag_shed(LagShed::new(LagThresholds::strict()).unwrap())
        }),
    );
    let stack = seawall::server()
        .lag_shed(LoadSignal::new("load", || 0.0))
        .build();
    assert_eq!(
        stack.unwrap().lag_shed().settings(),
        LagThresholds::default()
    );

    #[cfg(feature = "keyed")]
    {
        use seawall::circuit_breaker::CircuitBreakersSettings;
        use seawall::stack::HostBreakers;

        let settings = || CircuitBreakersSettings::default().max_keys(7);
        let handle = HostBreakers::new(settings()).unwrap();
        let client = || seawall::client().per_host();
        for builder in [
            client().circuit_breakers(settings()),
            client().circuit_breakers(&handle),
            client().circuit_breakers(handle.clone()),
        ] {
            let stack = builder.build().unwrap();
            assert_eq!(stack.circuit_breaker().breakers().settings().max_keys, 7);
        }
        let error = client().circuit_breakers(settings().max_keys(0)).build();
        assert_eq!(error.unwrap_err().field(), "circuit_breakers.max_keys");
        let each = CircuitBreakerSettings::default().consecutive_failures(3);
        let stack = seawall::client().circuit_breaker(each.clone()).per_host();
        let stack = stack.build().unwrap();
        let found = stack.circuit_breaker().breakers().settings().breaker;
        assert_eq!(found, each, "per_host keeps the settings");
        let wrong = CircuitBreakerSettings::default().failure_rate(2.0);
        let error = seawall::client().circuit_breaker(wrong.clone()).per_host();
        let error = error.build().unwrap_err();
        assert_eq!(error.field(), "circuit_breaker.failure_rate");
        let error = client().circuit_breakers(wrong).build().unwrap_err();
        assert_eq!(error.field(), "circuit_breakers.breaker.failure_rate");
    }

    let breaker = CircuitBreakerSettings::default().consecutive_failures(3);
    let of_settings = seawall::client().circuit_breaker(breaker.clone()).build();
    let handle = CircuitBreaker::new(breaker.clone()).unwrap();
    let of_handle = seawall::client().circuit_breaker(handle).build();
    for stack in [of_settings, of_handle] {
        assert_eq!(stack.unwrap().circuit_breaker().settings(), breaker);
    }
}

/// The field of the first error has the name of its part.
#[test]
fn what_is_out_of_range_is_an_error_of_build() {
    fn server(build: fn(ServerBuilder) -> ServerBuilder) -> String {
        let error = build(seawall::server()).build().unwrap_err();
        error.field().to_owned()
    }
    fn client(build: fn(ClientBuilder) -> ClientBuilder) -> String {
        let error = build(seawall::client()).build().unwrap_err();
        error.field().to_owned()
    }
    fn queue() -> ConcurrencyLimitSettings {
        ConcurrencyLimitSettings::fixed(1).queue(1, Duration::ZERO)
    }
    fn bounds() -> TimeoutSettings {
        TimeoutSettings::new(SECOND).raisable_to(MS)
    }
    fn bodies() -> RequestLimitSettings {
        RequestLimitSettings::new(2).raisable_to(1)
    }
    for (field, expected) in [
        (
            server(|it| it.concurrency_limit(0)),
            "concurrency_limit.limit",
        ),
        (
            client(|it| it.concurrency_limit(0)),
            "concurrency_limit.limit",
        ),
        (server(|it| it.timeout(bounds())), "timeout.duration"),
        // The first one, in the order of the fields of `Settings`.
        (
            server(|it| {
                let nothing = LagThresholds::default().target(Duration::ZERO);
                it.concurrency_limit(0).timeout(bounds()).lag_shed(nothing)
            }),
            "lag_shed.target",
        ),
        (
            server(|it| it.request_limit(bodies()).concurrency_limit(0)),
            "concurrency_limit.limit",
        ),
        (
            client(|it| it.concurrency_limit(0).timeout(bounds())),
            "timeout.duration",
        ),
        (client(|it| it.timeout(bounds())), "timeout.duration"),
        (
            server(|it| it.request_limit(bodies())),
            "request_limit.max_body",
        ),
        (
            server(|it| it.lag_shed(LagThresholds::default().target(Duration::ZERO))),
            "lag_shed.target",
        ),
        (
            server(|it| it.drain(DrainSettings::default().lame_duck(SECOND * 1_000_000_000))),
            "drain.lame_duck",
        ),
        (
            client(|it| it.circuit_breaker(CircuitBreakerSettings::default().failure_rate(2.0))),
            "circuit_breaker.failure_rate",
        ),
        (
            server(|it| it.concurrency_limit(queue())),
            "concurrency_limit.queue_timeout",
        ),
    ] {
        assert_eq!(field, expected);
    }
}

/// `{:?}` takes no lock twice.
#[tokio::test]
async fn stacks_and_handles_can_be_printed() {
    let lag = LagShed::default();
    lag.add_signal(LoadSignal::new("queue", || 0.0));
    lag.start(&tokio::runtime::Handle::current());
    let server = seawall::server().lag_shed(lag).build().unwrap();
    let client = seawall::client().build().unwrap();
    for text in [
        format!("{server:?} {:?} {:?}", server.handle(), server.lag_shed()),
        format!("{client:?} {:?}", client.handle()),
    ] {
        assert!(text.contains("ConcurrencyLimit"), "{text}");
    }
}
