//! The settings of a stack: read, applied as a whole or not at all, and reported.

use std::thread::ScopedJoinHandle;

use seawall::circuit_breaker::Window;
use seawall::stack::{Change, Changes};

use super::*;

fn lines(changes: &Changes) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

#[test]
fn every_field_of_a_server_is_applied_read_back_and_reported() {
    let stack = seawall::server().build().unwrap();
    let first = stack.settings();
    assert_eq!(stack.apply(&first).unwrap().to_string(), "no changes");

    let all = all_of_a_server();
    let changes = stack.apply(&all).unwrap();
    assert_eq!(stack.settings(), all);
    assert_eq!(
        lines(&changes),
        [
            "catch_panic.mode: enforce -> off",
            "lag_shed.mode: enforce -> dry_run",
            "lag_shed.target: 20ms -> 21ms",
            "lag_shed.bound: 30ms -> 31ms",
            "lag_shed.max_bound: 240ms -> 241ms",
            "lag_shed.arm: 80ms -> 81ms",
            "lag_shed.max_arm: 400ms -> 401ms",
            "lag_shed.disarm_after: 500ms -> 501ms",
            "drain.mode: enforce -> off",
            "drain.lame_duck: 5s -> 6s",
            "timeout.mode: enforce -> off",
            "timeout.duration: 30s -> 1s",
            "timeout.raisable_to: none -> 2s",
            "response_body_timeout.mode: enforce -> off",
            "response_body_timeout.deadline: false -> true",
            "response_body_timeout.idle_exempts_grpc: false -> true",
            "response_body_timeout.progress_timeout: 60s -> 3s",
            "response_body_timeout.idle_timeout: none -> 2s",
            "concurrency_limit.mode: enforce -> dry_run",
            "concurrency_limit.limit: 1024 -> 5",
            "concurrency_limit.max_queued: 0 -> 6",
            "concurrency_limit.queue_timeout: 0s -> 100ms",
            "request_limit.mode: enforce -> off",
            "request_limit.max_body: 2097152 -> 10",
            "request_limit.raisable_to: none -> 20",
            "request_limit.max_header_bytes: none -> 1000",
            "request_limit.max_headers: none -> 30",
            "request_limit.max_uri: none -> 40",
            "request_limit.body_idle_timeout: none -> 1s",
            "request_limit.body_timeout: none -> 2s",
            "request_limit.min_body_rate.bytes_per_second: none -> 50",
            "request_limit.min_body_rate.grace: none -> 3s",
        ]
    );
    // The handles and the switches have them.
    assert_eq!(
        stack.lag_shed().settings(),
        all.lag_shed.clone().unwrap().settings.unwrap()
    );
    assert_eq!(
        stack.drain().settings(),
        all.drain.clone().unwrap().settings.unwrap()
    );
    assert_eq!(stack.timeout().duration(), SECOND);
    assert_eq!(
        stack.response_body_timeout().settings(),
        all.response_body_timeout.clone().unwrap().settings.unwrap()
    );
    assert_eq!(stack.concurrency_limit().limit(), 5);
    assert_eq!(stack.request_limit().max_body(), 10);
    let switches = stack.switches().clone();
    for (switch, mode) in [
        (switches.catch_panic, Mode::Off),
        (switches.lag_shed, Mode::DryRun),
        (switches.drain, Mode::Off),
        (switches.timeout, Mode::Off),
        (switches.response_body_timeout, Mode::Off),
        (switches.concurrency_limit, Mode::DryRun),
        (switches.request_limit, Mode::Off),
    ] {
        assert_eq!(switch.mode(), mode);
    }

    let back = stack.apply(&first).unwrap();
    assert_eq!(stack.settings(), first);
    assert_eq!(back.len(), changes.len());
    for there in changes {
        let back = back.iter().find(|back| back.field() == there.field());
        let back = back.unwrap();
        assert_eq!(there.old_value(), back.new_value());
        assert_eq!(there.new_value(), back.old_value());
    }
}

#[test]
fn every_field_of_a_client_is_applied_read_back_and_reported() {
    let stack = seawall::client().build().unwrap();
    let first = stack.settings();
    let all = all_of_a_client();
    let changes = stack.apply(&all).unwrap();
    assert_eq!(stack.settings(), all);
    assert_eq!(
        lines(&changes),
        [
            "circuit_breaker.mode: enforce -> dry_run",
            "circuit_breaker.failure_rate: 0.5 -> 0.25",
            "circuit_breaker.open_duration: 5s -> 1s",
            "circuit_breaker.open_duration.factor: 1.0 -> 2.0",
            "circuit_breaker.open_duration.max: 86400s -> 60s",
            "circuit_breaker.open_duration.jitter: 0.0 -> 0.5",
            "circuit_breaker.half_open_probes: 10 -> 9",
            "circuit_breaker.slow_call.duration: none -> 1s",
            "circuit_breaker.slow_call.rate: none -> 0.75",
            "circuit_breaker.consecutive_failures: none -> 7",
            "circuit_breaker.minimum_calls: none -> 8",
            "circuit_breaker.half_open_timeout: none -> 11s",
            "timeout.mode: enforce -> off",
            "timeout.duration: 10s -> 1s",
            "timeout.raisable_to: none -> 2s",
            "response_body_timeout.mode: enforce -> off",
            "response_body_timeout.deadline: false -> true",
            "response_body_timeout.idle_timeout: 60s -> 2s",
            "response_body_timeout.idle_exempts_grpc: true -> false",
            "response_body_timeout.progress_timeout: none -> 3s",
            "concurrency_limit.mode: enforce -> dry_run",
            "concurrency_limit.limit: 128 -> 5",
            "concurrency_limit.max_queued: 0 -> 6",
            "concurrency_limit.queue_timeout: 0s -> 100ms",
        ]
    );
    assert_eq!(
        stack.circuit_breaker().settings(),
        all.circuit_breaker.unwrap().settings.unwrap()
    );

    // Another function is a change, the same one is none.
    let function = || OpenDuration::from_fn(|_| SECOND);
    let with = |open| {
        let breaker = CircuitBreakerSettings::default().open_duration(open);
        first.clone().circuit_breaker(breaker)
    };
    let one = with(function());
    stack.apply(&one).unwrap();
    assert!(stack.apply(&one).unwrap().is_empty());
    let changes = stack.apply(&with(function())).unwrap();
    let fields: Vec<_> = changes.iter().map(Change::field).collect();
    assert_eq!(fields, ["circuit_breaker.open_duration"]);
}

#[cfg(feature = "keyed")]
#[test]
fn the_breakers_of_all_hosts_change() {
    let stack = seawall::client().per_host().build().unwrap();
    let breakers = stack.circuit_breaker().breakers().clone();
    let known = breakers.get_or_insert(&"known".parse().unwrap());
    let all = all_of_a_client();
    assert_eq!(stack.apply(&all).unwrap().len(), 24);
    assert_eq!(stack.settings(), all);
    let new = breakers.get_or_insert(&"new".parse().unwrap());
    let breaker = all.circuit_breaker.unwrap().settings.unwrap();
    assert_eq!(
        (known.settings(), new.settings()),
        (breaker.clone(), breaker.clone())
    );

    let other = breaker.window(Window::count_based(100));
    let error = stack
        .apply(&Settings::default().circuit_breaker(other))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`circuit_breaker.window` must be the one with which the breaker was made, 10s, \
         not 100 calls"
    );
}

/// A part that is not named keeps what it has, also what another path has changed.
#[test]
fn a_part_that_is_not_named_is_kept() {
    let stack = seawall::server().build().unwrap();
    stack.timeout().set_duration(SECOND).unwrap();
    stack.switches().timeout.set(Mode::Off);
    let limit = ConcurrencyLimitSettings::fixed(5);
    let changes = stack
        .apply(&Settings::default().concurrency_limit(limit))
        .unwrap();
    assert_eq!(changes.to_string(), "concurrency_limit.limit: 1024 -> 5");
    assert_eq!(stack.timeout().duration(), SECOND);
    assert_eq!(stack.switches().timeout.mode(), Mode::Off);
}

/// A part without a mode keeps the mode that it has, also in a file, and reports no change of it.
#[test]
fn a_mode_that_is_not_named_is_kept() {
    let stack = seawall::server().build().unwrap();
    let first = stack.settings();
    stack.switches().timeout.set(Mode::Off);
    stack.switches().concurrency_limit.set(Mode::DryRun);
    let file = Settings::default()
        .timeout(TimeoutSettings::new(SECOND))
        .concurrency_limit(ConcurrencyLimitSettings::fixed(5));
    #[cfg(feature = "serde")]
    assert_eq!(
        toml::from_str::<Settings>("timeout.duration = '1s'\nconcurrency_limit.limit = 5").unwrap(),
        file
    );
    let changes = stack.apply(&file).unwrap();
    assert_eq!(
        lines(&changes),
        [
            "timeout.duration: 30s -> 1s",
            "concurrency_limit.limit: 1024 -> 5",
        ]
    );
    assert_eq!(stack.switches().timeout.mode(), Mode::Off);
    assert_eq!(stack.switches().concurrency_limit.mode(), Mode::DryRun);

    // On top of the first settings, it has their modes.
    let changes = stack.apply(&file.or(&first)).unwrap();
    assert_eq!(
        lines(&changes),
        [
            "timeout.mode: off -> enforce",
            "concurrency_limit.mode: dry_run -> enforce",
        ]
    );
}

/// What has no dry run would be off in that mode.
#[test]
fn a_dry_run_of_a_part_that_has_none_is_an_error() {
    let stack = seawall::server().build().unwrap();
    let first = stack.settings();
    let limit = ConcurrencyLimitSettings::fixed(5);
    let with = |settings: Settings| settings.concurrency_limit(limit.clone());
    for (settings, field) in [
        (
            Settings::default().catch_panic(Mode::DryRun),
            "catch_panic.mode",
        ),
        (
            Settings::default().drain(dry(DrainSettings::default())),
            "drain.mode",
        ),
        (
            Settings::default().timeout(dry(TimeoutSettings::new(SECOND))),
            "timeout.mode",
        ),
        (
            Settings::default().request_limit(dry(RequestLimitSettings::new(1))),
            "request_limit.mode",
        ),
    ] {
        let error = stack.apply(&with(settings)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "`{field}` must be `enforce` or `off`, since the part has no dry run, not dry_run"
            )
        );
        assert_eq!(stack.settings(), first);
    }
    let client = seawall::client().build().unwrap();
    let timeout = dry(TimeoutSettings::new(SECOND));
    let error = client.apply(&Settings::default().timeout(timeout));
    assert_eq!(error.unwrap_err().field(), "timeout.mode");

    // What a stack has, it takes back.
    stack.switches().timeout.set(Mode::DryRun);
    assert!(stack.apply(&stack.settings()).unwrap().is_empty());
}

/// A valid change of every part beside one that is not: nothing is changed, and the error has the
/// field, the value and the range.
#[test]
fn a_server_takes_all_or_nothing() {
    let server = seawall::server().build().unwrap();
    let rest = "above 0s";
    let day = "within 1ns..=86400s";
    let thresholds = LagThresholds::default;
    let limit = ConcurrencyLimitSettings::fixed;
    let requests = RequestLimitSettings::new(10);
    let of_server = [
        (
            all_of_a_server().lag_shed(thresholds().target(Duration::ZERO)),
            "lag_shed.target",
            "0s",
            day,
        ),
        (
            all_of_a_server().lag_shed(thresholds().bound(241 * MS)),
            "lag_shed.max_bound",
            "240ms",
            "within 241ms..=86400s",
        ),
        (
            all_of_a_server().lag_shed(thresholds().disarm_after(Duration::MAX)),
            "lag_shed.disarm_after",
            "18446744073709551615.999999999s",
            day,
        ),
        (
            all_of_a_server().drain(DrainSettings::default().lame_duck(999 * MS)),
            "drain.lame_duck",
            "999ms",
            "within 1s..=86400s",
        ),
        (
            all_of_a_server().timeout(TimeoutSettings::new(2 * SECOND).raisable_to(SECOND)),
            "timeout.duration",
            "2s",
            "at most `raisable_to`, 1s",
        ),
        (
            all_of_a_server().concurrency_limit(limit(0)),
            "concurrency_limit.limit",
            "0",
            "within 1..=2147483647",
        ),
        // Also in a part that is off.
        (
            all_of_a_server().concurrency_limit(PartSettings::from(limit(0)).mode(Mode::Off)),
            "concurrency_limit.limit",
            "0",
            "within 1..=2147483647",
        ),
        (
            all_of_a_server().concurrency_limit(limit(1).queue(1, Duration::ZERO)),
            "concurrency_limit.queue_timeout",
            "0s",
            rest,
        ),
        (
            all_of_a_server().request_limit(requests.clone().raisable_to(9)),
            "request_limit.max_body",
            "10",
            "at most `raisable_to`, 9",
        ),
        (
            all_of_a_server().request_limit(requests.clone().body_timeout(Duration::ZERO)),
            "request_limit.body_timeout",
            "0s",
            rest,
        ),
        (
            all_of_a_server().request_limit(requests.min_body_rate(0, SECOND)),
            "request_limit.min_body_rate.bytes_per_second",
            "0",
            "within 1..=18446744073709551615",
        ),
        (
            all_of_a_server().circuit_breaker(CircuitBreakerSettings::default()),
            "circuit_breaker",
            "",
            "left out, since the stack has no such part",
        ),
    ];
    let before = server.settings();
    for (settings, field, value, allowed) in of_server {
        let error = server.apply(&settings).unwrap_err();
        assert_eq!(server.check(&settings).as_ref(), Err(&error));
        assert_eq!(
            (error.field(), error.value(), error.allowed()),
            (field, value, allowed)
        );
        assert_eq!(error.to_string(), message(field, value, allowed));
        assert_eq!(server.settings(), before, "{field}");
        assert_eq!(
            server.snapshot(),
            seawall::server().build().unwrap().snapshot()
        );
    }
}

/// The text of an error. A part that the stack does not have has no value.
fn message(field: &str, value: &str, allowed: &str) -> String {
    match value {
        "" => format!("`{field}` must be {allowed}"),
        value => format!("`{field}` must be {allowed}, not {value}"),
    }
}

/// One file for two stacks: both are checked before the first one is changed.
#[test]
fn a_check_changes_nothing() {
    let (server, client) = (
        seawall::server().build().unwrap(),
        seawall::client().build().unwrap(),
    );
    let before = (server.settings(), client.settings());
    server.check(&all_of_a_server()).unwrap();
    client.check(&all_of_a_client()).unwrap();
    assert_eq!((server.settings(), client.settings()), before);
    assert!(!server.apply(&all_of_a_server()).unwrap().is_empty());
    assert!(!client.apply(&all_of_a_client()).unwrap().is_empty());
}

#[test]
fn a_client_takes_all_or_nothing() {
    let client = seawall::client().build().unwrap();
    let (breaker, limit) = (
        CircuitBreakerSettings::default,
        ConcurrencyLimitSettings::fixed,
    );
    let thresholds = LagThresholds::default;
    let absent = "left out, since the stack has no such part";
    let rate = "within 0.0001..=1.0";
    let of_client = [
        (
            all_of_a_client().circuit_breaker(breaker().failure_rate(0.0)),
            "circuit_breaker.failure_rate",
            "0.0",
            rate,
        ),
        (
            all_of_a_client().circuit_breaker(breaker().failure_rate(f64::NAN)),
            "circuit_breaker.failure_rate",
            "NaN",
            rate,
        ),
        (
            all_of_a_client().circuit_breaker(breaker().failure_rate(None)),
            "circuit_breaker.failure_rate",
            "None",
            "within 0.0001..=1.0 where neither slow_call nor consecutive_failures is set",
        ),
        (
            all_of_a_client().circuit_breaker(breaker().slow_call(SECOND, 1.5)),
            "circuit_breaker.slow_call.rate",
            "1.5",
            rate,
        ),
        (
            all_of_a_client().circuit_breaker(breaker().open_duration(Duration::ZERO)),
            "circuit_breaker.open_duration",
            "0s",
            "within 1ms..=86400s",
        ),
        (
            all_of_a_client().circuit_breaker(breaker().window(Window::time_based(20 * SECOND))),
            "circuit_breaker.window",
            "20s",
            "the one with which the breaker was made, 10s",
        ),
        (
            all_of_a_client().concurrency_limit(limit(1 << 31)),
            "concurrency_limit.limit",
            "2147483648",
            "within 1..=2147483647",
        ),
        (
            all_of_a_client().catch_panic(Mode::Off),
            "catch_panic",
            "",
            absent,
        ),
        (
            all_of_a_client().lag_shed(thresholds()),
            "lag_shed",
            "",
            absent,
        ),
        (
            all_of_a_client().drain(DrainSettings::default()),
            "drain",
            "",
            absent,
        ),
        (
            all_of_a_client().request_limit(RequestLimitSettings::new(1)),
            "request_limit",
            "",
            absent,
        ),
    ];
    let before = client.settings();
    for (settings, field, value, allowed) in of_client {
        let error = client.apply(&settings).unwrap_err();
        assert_eq!(client.check(&settings).as_ref(), Err(&error));
        assert_eq!(
            (error.field(), error.value(), error.allowed()),
            (field, value, allowed)
        );
        assert_eq!(client.settings(), before, "{field}");
    }
}

/// Two threads apply, a third one reads: it never finds a mixture, and neither does the end.
#[test]
fn two_threads_that_apply_leave_no_mixture() {
    const ROUNDS: usize = 2000;

    // The second stack has the same handles.
    let stacks = {
        let one = seawall::server().build().unwrap();
        let other = seawall::server()
            .lag_shed(one.lag_shed().clone())
            .drain(one.drain().clone())
            .timeout(one.timeout().clone())
            .response_body_timeout(one.response_body_timeout().clone())
            .concurrency_limit(one.concurrency_limit().clone())
            .request_limit(one.request_limit().clone())
            .build()
            .unwrap();
        [one, other]
    };
    let first = stacks[0].settings();
    let handles = |settings: Settings| {
        (
            settings.lag_shed.map(|part| part.settings),
            settings.drain.map(|part| part.settings),
            settings.timeout.map(|part| part.settings),
            settings.response_body_timeout.map(|part| part.settings),
            settings.concurrency_limit.map(|part| part.settings),
            settings.request_limit.map(|part| part.settings),
        )
    };
    let second = all_of_a_server();
    std::thread::scope(|scope| {
        let threads = [(&stacks[0], &first), (&stacks[1], &second)].map(|(stack, settings)| {
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    stack.apply(settings).unwrap();
                }
            })
        });
        while !threads.iter().all(ScopedJoinHandle::is_finished) {
            let found = handles(stacks[0].settings());
            assert!(found == handles(first.clone()) || found == handles(second.clone()));
        }
    });

    let stack = &stacks[0];
    std::thread::scope(|scope| {
        for settings in [&first, &second] {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    stack.apply(settings).unwrap();
                    let found = stack.settings();
                    assert!(found == first || found == second, "{found:?}");
                }
            });
        }
    });
    let found = stack.settings();
    assert!(found == first || found == second, "{found:?}");
}

/// A half-open time is over, and no call has come since: the settings of that time decide, before
/// the stack is locked. A hook may read the settings.
#[tokio::test(start_paused = true)]
async fn settings_do_not_decide_about_probes_of_before() {
    let second = std::time::Duration::from_secs(1);
    let settings = seawall::CircuitBreakerSettings::default().open_duration(second);
    let hosts = seawall::client().per_host().build().unwrap();
    let breakers = hosts.circuit_breaker().breakers().clone();
    let changed = breakers.settings().breaker(settings.clone());
    breakers.set(changed).unwrap();
    let one = seawall::CircuitBreaker::new(settings.clone()).unwrap();
    let single = seawall::client()
        .circuit_breaker(one.clone())
        .build()
        .unwrap();
    let of_host = breakers.get_or_insert(&"host".parse().unwrap());
    for breaker in [&one, &of_host] {
        breaker.trip();
    }
    tokio::time::advance(second).await;
    for breaker in [&one, &of_host] {
        for outcome in [
            seawall::Outcome::Success,
            seawall::Outcome::Success,
            seawall::Outcome::Failure,
        ] {
            breaker.try_acquire().unwrap().settle(outcome);
        }
    }
    tokio::time::advance(second).await;
    let reads = hosts.clone();
    breakers.on_transition(move |_, _| drop(reads.settings()));
    let new = seawall::stack::Settings::default().circuit_breaker(settings.failure_rate(0.3));
    single.apply(&new).unwrap();
    hosts.apply(&new).unwrap();
    for breaker in [&one, &of_host] {
        assert_eq!(breaker.state(), seawall::CircuitState::Closed);
    }
}
