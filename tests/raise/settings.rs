//! Settings as values: they are read back, checked as a whole, and changed while requests run.

use std::convert::Infallible;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use seawall::{
    ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitSettings, LagThresholds, RequestBody,
    RequestLimit, RequestLimitLayer, RequestLimitSettings, Timeout, TimeoutLayer, TimeoutSettings,
};
use tower::{Layer, Service, ServiceBuilder};

use crate::handler::service_fn;
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

fn all_of_a_limit() -> RequestLimitSettings {
    RequestLimitSettings::new(10)
        .raisable_to(20)
        .max_header_bytes(1000)
        .max_headers(30)
        .max_uri(40)
        .body_idle_timeout(SECOND)
        .body_timeout(2 * SECOND)
        .min_body_rate(50, 3 * SECOND)
}

#[test]
fn what_is_set_is_read_back() {
    let timeout = Timeout::new(TimeoutSettings::new(SECOND).raisable_to(5 * SECOND)).unwrap();
    assert_eq!(
        timeout.settings(),
        TimeoutSettings::new(SECOND).raisable_to(5 * SECOND)
    );
    timeout.set_duration(2 * SECOND).unwrap();
    assert_eq!(
        timeout.settings(),
        TimeoutSettings::new(2 * SECOND).raisable_to(5 * SECOND)
    );
    timeout.set(TimeoutSettings::new(9 * SECOND)).unwrap();
    assert_eq!(
        (timeout.settings(), timeout.duration()),
        ((9 * SECOND).into(), 9 * SECOND)
    );
    timeout.set_duration(Duration::MAX).unwrap();
    assert_eq!(timeout.settings().duration, Duration::MAX);

    let limit = ConcurrencyLimit::new(3).unwrap();
    assert_eq!(limit.settings(), ConcurrencyLimitSettings::fixed(3));
    let settings = limit.settings().queue(7, SECOND);
    limit.set(settings).unwrap();
    limit.clone().set_limit(4).unwrap();
    let expected = ConcurrencyLimitSettings::fixed(4).queue(7, SECOND);
    assert_eq!(limit.settings(), expected);

    let limit = RequestLimit::new(all_of_a_limit()).unwrap();
    assert_eq!(limit.settings(), all_of_a_limit());
    limit.set_max_body(20).unwrap();
    assert_eq!((limit.max_body(), limit.settings().max_body), (20, 20));
    limit.set(7.into()).unwrap();
    assert_eq!(limit.settings(), RequestLimitSettings::new(7));
    assert_eq!(limit.settings().max_headers, None);
}

/// The error has the field, the value and the range, and no setting has changed.
#[test]
fn settings_that_make_no_sense_are_errors() {
    let timeout = Timeout::new(TimeoutSettings::new(SECOND).raisable_to(2 * SECOND)).unwrap();
    let before = timeout.settings();
    for (error, text) in [
        (
            Timeout::new(TimeoutSettings::new(2 * SECOND).raisable_to(SECOND)).unwrap_err(),
            "`duration` must be at most `raisable_to`, 1s, not 2s",
        ),
        (
            Timeout::new(TimeoutSettings::new(SECOND).raisable_to(Duration::ZERO)).unwrap_err(),
            "`duration` must be at most `raisable_to`, 0s, not 1s",
        ),
        (
            timeout.set_duration(3 * SECOND).unwrap_err(),
            "`duration` must be at most `raisable_to`, 2s, not 3s",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
    assert_eq!((timeout.settings(), timeout.duration()), (before, SECOND));

    let limit = ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(2).queue(1, SECOND)).unwrap();
    let before = limit.settings();
    for (settings, field) in [
        (ConcurrencyLimitSettings::fixed(0), "limit"),
        (ConcurrencyLimitSettings::fixed(1 << 31), "limit"),
        (
            ConcurrencyLimitSettings::fixed(9).queue(1, Duration::ZERO),
            "queue_timeout",
        ),
    ] {
        assert_eq!(limit.set(settings.clone()).unwrap_err().field(), field);
        assert_eq!(ConcurrencyLimit::new(settings).unwrap_err().field(), field);
    }
    assert_eq!((limit.settings(), limit.limit()), (before, 2));

    let limit = RequestLimit::new(all_of_a_limit()).unwrap();
    for (settings, field) in [
        (all_of_a_limit().raisable_to(9), "max_body"),
        (
            all_of_a_limit().body_idle_timeout(Duration::ZERO),
            "body_idle_timeout",
        ),
        (
            all_of_a_limit().body_timeout(Duration::ZERO),
            "body_timeout",
        ),
        (
            all_of_a_limit().min_body_rate(0, SECOND),
            "min_body_rate.bytes_per_second",
        ),
    ] {
        assert_eq!(limit.set(settings.clone()).unwrap_err().field(), field);
        assert_eq!(RequestLimit::new(settings).unwrap_err().field(), field);
    }
    assert_eq!(limit.set_max_body(21).unwrap_err().field(), "max_body");
    assert_eq!((limit.settings(), limit.max_body()), (all_of_a_limit(), 10));
}

/// Each setting reaches the requests that come after it.
#[tokio::test(start_paused = true)]
async fn requests_see_what_is_set() {
    let timeout = Timeout::from(SECOND);
    let limit = ConcurrencyLimit::from(1);
    let requests = RequestLimit::from(10);
    let status = async |path: &str| {
        let mut service = ServiceBuilder::new()
            .layer(TimeoutLayer::new(timeout.clone()))
            .layer(ConcurrencyLimitLayer::new(limit.clone()))
            .layer(RequestLimitLayer::new(requests.clone()))
            .service(answers(|| ok(Script::data(&["a"]))));
        let mut request = get();
        *request.uri_mut() = path.parse().unwrap();
        let response = service.call(request).await.unwrap();
        let status = response.status().as_u16();
        response.into_body().collect().await.unwrap();
        status
    };
    assert_eq!(status("/four").await, 200);
    requests.set(requests.settings().max_uri(4)).unwrap();
    assert_eq!(status("/four").await, 414);
    requests.set(10.into()).unwrap();
    assert_eq!(status("/four").await, 200);

    let permit = limit.try_acquire().unwrap();
    assert_eq!(status("/").await, 503);
    limit
        .set(ConcurrencyLimitSettings::fixed(1).queue(1, SECOND / 2))
        .unwrap();
    assert_eq!(timed(status("/")).await, (503, SECOND / 2), "it was queued");
    timeout.set_duration(SECOND / 4).unwrap();
    assert_eq!(timed(status("/")).await, (504, SECOND / 4));
    limit.set_limit(2).unwrap();
    assert_eq!(status("/").await, 200);
    drop(permit);
}

/// A layer that becomes raisable at run time is raised, and one that is no longer raisable is not.
#[tokio::test(start_paused = true)]
async fn a_limit_becomes_raisable_while_it_runs() {
    let outer = RequestLimit::from(2);
    let reads = async |request: Request<RequestBody<RequestBody<Script>>>| {
        let _ = request.into_body().collect().await;
        Ok::<_, Infallible>(ok(Script::default()))
    };
    let mut service = RequestLimitLayer::new(outer.clone())
        .layer(RequestLimitLayer::new(4).layer(service_fn(reads)));
    let mut status = async || {
        let request = post(Script::data(&["1234"]));
        service.call(request).await.unwrap().status().as_u16()
    };
    assert_eq!(status().await, 413);
    outer.set(outer.settings().raisable_to(4)).unwrap();
    assert_eq!(status().await, 200);
    outer.set(outer.settings().raisable_to(None)).unwrap();
    assert_eq!(status().await, 413);
}

/// A label is the same in `Display` and with `serde`. That of a reason or a cause, whose `Display`
/// is a sentence, is the one of `as_str`.
#[cfg(feature = "serde")]
#[test]
fn labels_are_the_same_everywhere() {
    use seawall::circuit_breaker::TransitionCause;
    use seawall::policy::Mode;
    use seawall::{Completion, CustomReason, DrainState, LagState, Outcome, Reason};

    fn same<T: std::fmt::Display + serde::Serialize>(value: T, label: &str) {
        assert_eq!(value.to_string(), label);
        assert_eq!(serde_json::to_value(&value).unwrap(), label);
    }
    same(Mode::Enforce, "enforce");
    same(Mode::DryRun, "dry_run");
    same(Mode::Off, "off");
    same(LagState::Normal, "normal");
    same(LagState::Warn, "warn");
    same(LagState::Shedding, "shedding");
    same(DrainState::Serving, "serving");
    same(DrainState::LameDuck, "lame_duck");
    same(DrainState::Rejecting, "rejecting");
    same(Outcome::Success, "success");
    same(Outcome::Failure, "failure");
    same(Outcome::Ignored, "ignored");
    same(Outcome::Cancelled, "cancelled");
    same(Outcome::Panicked, "panicked");
    same(Completion::Complete, "complete");
    same(Completion::Failed, "failed");
    same(Completion::Cancelled, "cancelled");
    same(Completion::Panicked, "panicked");

    for cause in [
        TransitionCause::FailureRate,
        TransitionCause::SlowCallRate,
        TransitionCause::ConsecutiveFailures,
        TransitionCause::OpenTimeOver,
        TransitionCause::ProbesSucceeded,
        TransitionCause::ProbesFailed,
        TransitionCause::HalfOpenTimeOver,
        TransitionCause::ByHand,
    ] {
        assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
    }
    static UNPAID: CustomReason = CustomReason::new("unpaid", "The account has an open invoice.");
    for (reason, label) in [
        (Reason::QueueTimeout, "queue_timeout"),
        (Reason::Custom(&UNPAID), "unpaid"),
    ] {
        assert_eq!(serde_json::to_value(reason).unwrap(), label);
    }
}

#[cfg(feature = "serde")]
#[test]
fn settings_survive_toml_and_json() {
    fn survives<T>(settings: T, toml: &str)
    where
        T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        assert_eq!(toml::from_str::<T>(toml).unwrap(), settings);
        assert_eq!(
            toml::from_str::<T>(&toml::to_string(&settings).unwrap()).unwrap(),
            settings
        );
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<T>(&json).unwrap(), settings);
        let unknown = toml::from_str::<T>(&format!("{toml}\nno_such_field = 1")).unwrap_err();
        assert!(unknown.to_string().contains("no_such_field"), "{unknown}");
    }
    survives(TimeoutSettings::new(5 * SECOND), "duration = '5s'");
    survives(
        TimeoutSettings::new(5 * SECOND).raisable_to(60 * SECOND),
        "duration = '5s'\nraisable_to = '1m'",
    );
    survives(ConcurrencyLimitSettings::fixed(5), "limit = 5");
    survives(
        ConcurrencyLimitSettings::fixed(5).queue(2, SECOND / 10),
        "limit = 5\nmax_queued = 2\nqueue_timeout = '100ms'",
    );
    survives(RequestLimitSettings::new(5), "max_body = 5");
    survives(
        all_of_a_limit(),
        r#"
        max_body = 10
        raisable_to = 20
        max_header_bytes = 1000
        max_headers = 30
        max_uri = 40
        body_idle_timeout = "1s"
        body_timeout = "2s"
        min_body_rate = { bytes_per_second = 50, grace = "3s" }
        "#,
    );
    survives(LagThresholds::default(), "");
    let milliseconds = Duration::from_millis;
    survives(
        LagThresholds::strict()
            .target(milliseconds(11))
            .bound(milliseconds(22))
            .max_bound(milliseconds(133))
            .arm(milliseconds(44))
            .max_arm(milliseconds(255))
            .disarm_after(milliseconds(1666)),
        r#"
        target = "11ms"
        bound = "22ms"
        max_bound = "133ms"
        arm = "44ms"
        max_arm = "255ms"
        disarm_after = "1s 666ms"
        "#,
    );
    assert!(toml::from_str::<seawall::request_limit::MinBodyRate>("bytes_per_second = 1").is_err());
}
