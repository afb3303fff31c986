//! The settings of a stack: read, applied as a whole or not at all, and reported.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use proptest::prelude::*;
use seawall::circuit_breaker::{OpenDuration, Window};
use seawall::policy::Mode;
use seawall::stack::{Change, Changes, PartSettings, Settings};
use seawall::{
    CircuitBreakerSettings, ConcurrencyLimit, ConcurrencyLimitSettings, ConfigError, Drain,
    DrainSettings, LagShed, LagThresholds, RequestLimit, RequestLimitSettings, Timeout,
    TimeoutSettings,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MODES: [Mode; 3] = [Mode::Enforce, Mode::DryRun, Mode::Off];

fn dry<S>(settings: S) -> PartSettings<S> {
    PartSettings::from(settings).mode(Mode::DryRun)
}

/// Every field of a server differs from its default.
fn all_of_a_server() -> Settings {
    let thresholds = LagThresholds::default()
        .target(21 * MS)
        .bound(31 * MS)
        .max_bound(241 * MS)
        .arm(81 * MS)
        .max_arm(401 * MS)
        .disarm_after(501 * MS);
    let requests = RequestLimitSettings::new(10)
        .raisable_to(20)
        .max_header_bytes(1000)
        .max_headers(30)
        .max_uri(40)
        .body_idle_timeout(SECOND)
        .body_timeout(2 * SECOND)
        .min_body_rate(50, 3 * SECOND);
    Settings::default()
        .catch_panic(Mode::Off)
        .lag_shed(dry(thresholds))
        .drain(dry(DrainSettings::default().lame_duck(6 * SECOND)))
        .timeout(dry(TimeoutSettings::new(SECOND).raisable_to(2 * SECOND)))
        .concurrency_limit(dry(ConcurrencyLimitSettings::fixed(5).queue(6, 100 * MS)))
        .request_limit(dry(requests))
}

/// Every field of a client differs from its default, except the window, which cannot be changed.
fn all_of_a_client() -> Settings {
    let breaker = CircuitBreakerSettings::default()
        .failure_rate(0.25)
        .slow_call(SECOND, 0.75)
        .consecutive_failures(7)
        .minimum_calls(8)
        .open_duration(OpenDuration::exponential(SECOND, 2.0, 60 * SECOND).jitter(0.5))
        .half_open_probes(9)
        .half_open_timeout(11 * SECOND);
    Settings::default()
        .circuit_breaker(dry(breaker))
        .timeout(dry(TimeoutSettings::new(SECOND).raisable_to(2 * SECOND)))
        .concurrency_limit(dry(ConcurrencyLimitSettings::fixed(5).queue(6, 100 * MS)))
}

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
            "drain.mode: enforce -> dry_run",
            "drain.lame_duck: 5s -> 6s",
            "timeout.mode: enforce -> dry_run",
            "timeout.duration: 30s -> 1s",
            "timeout.raisable_to: none -> 2s",
            "concurrency_limit.mode: enforce -> dry_run",
            "concurrency_limit.limit: 1024 -> 5",
            "concurrency_limit.max_queued: 0 -> 6",
            "concurrency_limit.queue_timeout: 0ns -> 100ms",
            "request_limit.mode: enforce -> dry_run",
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
        all.lag_shed.clone().unwrap().settings
    );
    assert_eq!(
        stack.drain().settings(),
        all.drain.clone().unwrap().settings
    );
    assert_eq!(stack.timeout().duration(), SECOND);
    assert_eq!(stack.concurrency_limit().limit(), 5);
    assert_eq!(stack.request_limit().max_body(), 10);
    let switches = stack.switches();
    assert_eq!(switches.catch_panic.mode(), Mode::Off);
    for switch in [
        switches.lag_shed,
        switches.drain,
        switches.timeout,
        switches.concurrency_limit,
        switches.request_limit,
    ] {
        assert_eq!(switch.mode(), Mode::DryRun);
    }

    let back = stack.apply(&first).unwrap();
    assert_eq!(stack.settings(), first);
    assert_eq!(back.len(), changes.len());
    for (there, back) in changes.into_iter().zip(back) {
        assert_eq!(there.field(), back.field());
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
            "timeout.mode: enforce -> dry_run",
            "timeout.duration: 10s -> 1s",
            "timeout.raisable_to: none -> 2s",
            "concurrency_limit.mode: enforce -> dry_run",
            "concurrency_limit.limit: 128 -> 5",
            "concurrency_limit.max_queued: 0 -> 6",
            "concurrency_limit.queue_timeout: 0ns -> 100ms",
        ]
    );
    assert_eq!(
        stack.circuit_breaker().settings(),
        all.circuit_breaker.unwrap().settings
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
    let known = breakers.get(&"known".parse().unwrap());
    let all = all_of_a_client();
    assert_eq!(stack.apply(&all).unwrap().len(), 19);
    assert_eq!(stack.settings(), all);
    let new = breakers.get(&"new".parse().unwrap());
    let breaker = all.circuit_breaker.unwrap().settings;
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

/// A valid change of every part beside one that is not: nothing is changed, and the error has the
/// field, the value and the range.
#[test]
fn a_server_takes_all_or_nothing() {
    let server = seawall::server().build().unwrap();
    let rest = "within 1ns..=18446744073709551615.999999999s";
    let day = "within 1ns..=86400s";
    let thresholds = LagThresholds::default();
    let limit = ConcurrencyLimitSettings::fixed;
    let requests = RequestLimitSettings::new(10);
    let of_server = [
        (
            all_of_a_server().lag_shed(thresholds.target(Duration::ZERO)),
            "lag_shed.target",
            "0ns",
            day,
        ),
        (
            all_of_a_server().lag_shed(thresholds.bound(241 * MS)),
            "lag_shed.max_bound",
            "240ms",
            "within 241ms..=86400s",
        ),
        (
            all_of_a_server().lag_shed(thresholds.disarm_after(Duration::MAX)),
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
            "timeout.raisable_to",
            "1s",
            "within 2s..=18446744073709551615.999999999s",
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
            "0ns",
            rest,
        ),
        (
            all_of_a_server().request_limit(requests.clone().raisable_to(9)),
            "request_limit.raisable_to",
            "9",
            "within 10..=18446744073709551615",
        ),
        (
            all_of_a_server().request_limit(requests.clone().body_timeout(Duration::ZERO)),
            "request_limit.body_timeout",
            "0ns",
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
            "given",
            "left out, since the stack has no such part",
        ),
    ];
    let before = server.settings();
    for (settings, field, value, allowed) in of_server {
        let error = server.apply(&settings).unwrap_err();
        assert_eq!(
            (error.field(), error.value(), error.allowed()),
            (field, value, allowed)
        );
        assert_eq!(
            error.to_string(),
            format!("`{field}` must be {allowed}, not {value}")
        );
        assert_eq!(server.settings(), before, "{field}");
        assert_eq!(
            server.snapshot(),
            seawall::server().build().unwrap().snapshot()
        );
    }
}

#[test]
fn a_client_takes_all_or_nothing() {
    let client = seawall::client().build().unwrap();
    let (breaker, limit) = (
        CircuitBreakerSettings::default,
        ConcurrencyLimitSettings::fixed,
    );
    let thresholds = LagThresholds::default();
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
            "0ns",
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
            "given",
            absent,
        ),
        (
            all_of_a_client().lag_shed(thresholds),
            "lag_shed",
            "given",
            absent,
        ),
        (
            all_of_a_client().drain(DrainSettings::default()),
            "drain",
            "given",
            absent,
        ),
        (
            all_of_a_client().request_limit(RequestLimitSettings::new(1)),
            "request_limit",
            "given",
            absent,
        ),
    ];
    let before = client.settings();
    for (settings, field, value, allowed) in of_client {
        let error = client.apply(&settings).unwrap_err();
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
            settings.concurrency_limit.map(|part| part.settings),
            settings.request_limit.map(|part| part.settings),
        )
    };
    let second = all_of_a_server();
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for (stack, settings) in stacks.iter().zip([&first, &second]) {
            let done = &done;
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    stack.apply(settings).unwrap();
                }
                done.fetch_add(1, SeqCst);
            });
        }
        while done.load(SeqCst) < 2 {
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

// === any settings ===

/// Some are outside the ranges of some fields.
fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_nanos(1)),
        (1_u64..2000).prop_map(Duration::from_millis),
        (1_u64..1 << 50).prop_map(Duration::from_nanos),
        Just(Duration::MAX),
    ]
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1_u64..100, Just(1 << 40), Just(i64::MAX as u64)]
}

fn part<S: std::fmt::Debug + Clone + 'static>(
    settings: impl Strategy<Value = S> + 'static,
) -> BoxedStrategy<Option<PartSettings<S>>> {
    let part = (0..3_usize, settings);
    let part = part.prop_map(|(mode, settings)| PartSettings::from(settings).mode(MODES[mode]));
    prop::option::weighted(0.8, part).boxed()
}

fn settings_of_a_server() -> BoxedStrategy<Settings> {
    let thresholds = (time(), time(), time(), time()).prop_map(|(bound, more, arm, disarm)| {
        LagThresholds::default()
            .bound(bound)
            .max_bound(bound.saturating_add(more))
            .arm(arm)
            .disarm_after(disarm)
    });
    let timeout = (time(), prop::option::of(time()));
    let timeout = timeout.prop_map(|(time, most)| TimeoutSettings::new(time).raisable_to(most));
    let limit = (size(), size(), time()).prop_map(|(limit, queue, time)| {
        ConcurrencyLimitSettings::fixed(limit as usize).queue(queue as usize, time)
    });
    let sizes = (size(), prop::option::of(size()), prop::option::of(size()));
    let paces = (prop::option::of(time()), prop::option::of((size(), time())));
    let requests = (sizes, paces).prop_map(|((body, most, uri), (idle, rate))| {
        let settings = RequestLimitSettings::new(body)
            .raisable_to(most)
            .max_uri(uri)
            .body_idle_timeout(idle);
        match rate {
            Some((rate, grace)) => settings.min_body_rate(rate, grace),
            None => settings,
        }
    });
    let drain = time().prop_map(|time| DrainSettings::default().lame_duck(time));
    let catch_panic = prop::option::of(0..3_usize);
    let parts = (
        catch_panic,
        part(thresholds),
        part(drain),
        part(timeout),
        part(limit),
        part(requests),
    );
    parts
        .prop_map(|(mode, lag_shed, drain, timeout, limit, requests)| {
            let mut settings = Settings::default();
            if let Some(mode) = mode {
                settings = settings.catch_panic(MODES[mode]);
            }
            settings.lag_shed = lag_shed;
            settings.drain = drain;
            settings.timeout = timeout;
            settings.concurrency_limit = limit;
            settings.request_limit = requests;
            settings
        })
        .boxed()
}

/// What the handles say by themselves.
fn first_error(settings: &Settings) -> Option<(&'static str, ConfigError)> {
    fn error<S: Clone, H>(
        name: &'static str,
        part: Option<&PartSettings<S>>,
        new: impl Fn(S) -> Result<H, ConfigError>,
    ) -> Option<(&'static str, ConfigError)> {
        let settings = part?.settings.clone();
        Some((name, new(settings).err()?))
    }
    let Settings {
        lag_shed,
        drain,
        timeout,
        concurrency_limit,
        request_limit,
        ..
    } = settings;
    let limit = concurrency_limit.as_ref();
    error("lag_shed", lag_shed.as_ref(), LagShed::new)
        .or_else(|| error("drain", drain.as_ref(), Drain::new))
        .or_else(|| error("timeout", timeout.as_ref(), Timeout::new))
        .or_else(|| error("concurrency_limit", limit, ConcurrencyLimit::new))
        .or_else(|| error("request_limit", request_limit.as_ref(), RequestLimit::new))
}

/// The paths of the values that differ.
#[cfg(feature = "serde")]
fn differing(old: &Settings, new: &Settings) -> std::collections::BTreeSet<String> {
    use std::collections::BTreeMap;

    use serde_json::Value;

    fn leaves(path: &str, value: Value, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    leaves(&format!("{path}.{name}"), value, found);
                }
            }
            value => drop(found.insert(path[1..].to_owned(), value)),
        }
    }
    let [old, new] = [old, new].map(|settings| {
        let mut found = BTreeMap::new();
        leaves("", serde_json::to_value(settings).unwrap(), &mut found);
        found
    });
    let paths = old.keys().chain(new.keys());
    let differing = paths.filter(|path| old.get(*path) != new.get(*path));
    differing.cloned().collect()
}

proptest! {
    /// Whatever a stack has: it takes what all of its handles would take, reports what differs, and
    /// nothing else happens.
    #[test]
    fn any_settings(old in settings_of_a_server(), new in settings_of_a_server()) {
        let stack = seawall::server().build().unwrap();
        let first = stack.settings();
        let old = if stack.apply(&old).is_ok() { old.or(&first) } else { first };
        prop_assert_eq!(&stack.settings(), &old);
        match (stack.apply(&new), first_error(&new)) {
            (Ok(changes), None) => {
                let new = new.or(&old);
                prop_assert_eq!(&stack.settings(), &new);
                #[cfg(feature = "serde")]
                {
                    let fields: Vec<_> = changes.iter().map(Change::field).collect();
                    let expected = differing(&old, &new);
                    prop_assert_eq!(fields.len(), expected.len(), "{:?}, {:?}", &fields, &expected);
                    for field in fields {
                        prop_assert!(expected.contains(field), "{}", field);
                    }
                }
                prop_assert_eq!(changes.is_empty(), old == new);
            }
            (Err(error), Some((part, expected))) => {
                prop_assert_eq!(error.field(), format!("{part}.{}", expected.field()));
                prop_assert_eq!(error.value(), expected.value());
                prop_assert_eq!(error.allowed(), expected.allowed());
                prop_assert_eq!(&stack.settings(), &old);
            }
            (found, expected) => prop_assert!(false, "{found:?}, {expected:?}"),
        }
    }

    /// A file has what was written to it.
    #[cfg(feature = "serde")]
    #[test]
    fn any_settings_survive_toml_and_json(settings in settings_of_a_server()) {
        survives(&settings);
    }
}

#[cfg(feature = "serde")]
fn survives(settings: &Settings) {
    let text = toml::to_string(settings).unwrap();
    assert_eq!(
        &toml::from_str::<Settings>(&text).unwrap(),
        settings,
        "{text}"
    );
    let text = serde_json::to_string(settings).unwrap();
    assert_eq!(
        &serde_json::from_str::<Settings>(&text).unwrap(),
        settings,
        "{text}"
    );
}

#[cfg(feature = "serde")]
#[test]
fn a_file_has_what_a_stack_has() {
    survives(&Settings::default());
    survives(&all_of_a_server());
    survives(&all_of_a_client());
    survives(&seawall::server().build().unwrap().settings());
    survives(&seawall::client().build().unwrap().settings());
    let all = r#"
        [catch_panic]
        mode = "off"

        [lag_shed]
        mode = "dry_run"
        target = "21ms"
        bound = "31ms"
        max_bound = "241ms"
        arm = "81ms"
        max_arm = "401ms"
        disarm_after = "501ms"

        [drain]
        mode = "dry_run"
        lame_duck = "6s"

        [timeout]
        duration = "1s"
        raisable_to = "2s"
        mode = "dry_run" # in any position

        [concurrency_limit]
        mode = "dry_run"
        limit = 5
        max_queued = 6
        queue_timeout = "100ms"

        [request_limit]
        mode = "dry_run"
        max_body = 10
        raisable_to = 20
        max_header_bytes = 1000
        max_headers = 30
        max_uri = 40
        body_idle_timeout = "1s"
        body_timeout = "2s"
        min_body_rate = { bytes_per_second = 50, grace = "3s" }
    "#;
    assert_eq!(toml::from_str::<Settings>(all).unwrap(), all_of_a_server());
}

/// An unknown part or field, a missing one, and a wrong kind of value.
#[cfg(feature = "serde")]
#[test]
fn a_file_with_a_mistake_is_an_error() {
    for (text, expected) in [
        ("[timeouts]\nduration = '1s'", "unknown field `timeouts`"),
        ("[timeout]\nduraton = '1s'", "unknown field `duraton`"),
        ("[timeout]\nmode = 'off'", "missing field `duration`"),
        ("[timeout]\nduration = 1", "expected a duration"),
        (
            "[timeout]\nduration = '1s'\nmode = 'on'",
            "unknown variant `on`",
        ),
        ("[lag_shed]\nbounds = '1s'", "unknown field `bounds`"),
        ("[drain]\nlame_duk = '1s'", "unknown field `lame_duk`"),
        (
            "[concurrency_limit]\nlimit = -1",
            "invalid value: integer `-1`",
        ),
        (
            "[concurrency_limit]\nlimit = 1\nqueue = 2",
            "unknown field `queue`",
        ),
        (
            "[request_limit]\nmax_body = 1\nmax_bod = 1",
            "unknown field `max_bod`",
        ),
        (
            "[request_limit]\nmax_body = 1\nmin_body_rate = { grace = '1s' }",
            "missing field `bytes_per_second`",
        ),
        ("[catch_panic]\nmod = 'off'", "unknown field `mod`"),
        (
            "[circuit_breaker]\nfailure_rat = 0.5",
            "unknown field `failure_rat`",
        ),
    ] {
        let error = toml::from_str::<Settings>(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}\n{error}");
    }
    let twice = r#"{"timeout": {"mode": "off", "duration": "1s", "mode": "off"}}"#;
    let error = serde_json::from_str::<Settings>(twice).unwrap_err();
    assert!(
        error.to_string().contains("duplicate field `mode`"),
        "{error}"
    );
}

#[cfg(feature = "serde")]
#[test]
fn changes_can_be_sent() {
    let stack = seawall::server().build().unwrap();
    let timeout = TimeoutSettings::new(SECOND).raisable_to(2 * SECOND);
    let changes = stack.apply(&Settings::default().timeout(timeout)).unwrap();
    assert_eq!(
        serde_json::to_value(&changes).unwrap(),
        serde_json::json!([
            { "field": "timeout.duration", "old": "30s", "new": "1s" },
            { "field": "timeout.raisable_to", "old": null, "new": "2s" },
        ])
    );
}
