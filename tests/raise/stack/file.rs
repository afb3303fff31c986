//! Settings in TOML and JSON.

use seawall::circuit_breaker::Window;

use super::*;

pub(super) fn survives(settings: &Settings) {
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
        mode = "off"
        lame_duck = "6s"

        [timeout]
        duration = "1s"
        raisable_to = "2s"
        mode = "off" # in any position

        [response_body_timeout]
        mode = "off"
        deadline = true
        idle_timeout = "2s"
        idle_exempts_grpc = true
        progress_timeout = "3s"

        [concurrency_limit]
        mode = "dry_run"
        limit = 5
        max_queued = 6
        queue_timeout = "100ms"

        [request_limit]
        mode = "off"
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

/// No limit for the size of a body is a number that TOML does not have.
#[test]
fn an_unlimited_size_survives() {
    let settings = RequestLimitSettings::new(u64::MAX).raisable_to(u64::MAX);
    survives(&Settings::default().request_limit(settings.clone()));
    let text = "[request_limit]\nmax_body = 'unlimited'\nraisable_to = 'unlimited'";
    let read: Settings = toml::from_str(text).unwrap();
    assert_eq!(read.request_limit.unwrap().settings, Some(settings));
    let text: Settings = toml::from_str("[request_limit]\nmax_body = '7'").unwrap();
    assert_eq!(text.request_limit.unwrap().settings.unwrap().max_body, 7);
    let error = toml::from_str::<Settings>("[request_limit]\nmax_body = 'all'").unwrap_err();
    let expected = "expected a number of bytes or \"unlimited\"";
    assert!(error.to_string().contains(expected), "{error}");
}

/// An unknown part or field, a missing one, and a wrong kind of value.
#[test]
fn a_file_with_a_mistake_is_an_error() {
    for (text, expected) in [
        ("[timeouts]\nduration = '1s'", "unknown field `timeouts`"),
        ("[timeout]\nduraton = '1s'", "unknown field `duraton`"),
        ("[timeout]\nraisable_to = '2s'", "missing field `duration`"),
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
        (
            "[circuit_breaker]\nfailure_rate = 'of'",
            "expected a number or \"off\"",
        ),
        (
            "[circuit_breaker]\nwindow = { call = 5 }",
            "expected `{ calls }` or `{ duration, buckets }`",
        ),
        (
            "[circuit_breaker]\nopen_duration = { initial = '5s', factor = 2.0 }",
            "expected a duration such as \"5s\", or `{ initial, factor, max, jitter }`",
        ),
    ] {
        let error = toml::from_str::<Settings>(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}\n{error}");
    }
    // A format may have a value for no mode.
    let none = r#"{"timeout": {"mode": null, "duration": "1s"}, "catch_panic": {"mode": null}}"#;
    let none: Settings = serde_json::from_str(none).unwrap();
    assert_eq!(none.timeout.unwrap().mode, None);
    let twice = r#"{"timeout": {"mode": "off", "duration": "1s", "mode": "off"}}"#;
    let error = serde_json::from_str::<Settings>(twice).unwrap_err();
    assert!(
        error.to_string().contains("duplicate field `mode`"),
        "{error}"
    );
}

/// A table with a mode alone changes the mode alone, also of a part whose settings have no default.
#[test]
fn a_mode_alone_keeps_the_settings() {
    let stack = seawall::server()
        .timeout(Duration::from_secs(7))
        .lag_shed(LagThresholds::strict())
        .build()
        .unwrap();
    let code = stack.settings();
    let file: Settings =
        toml::from_str("[timeout]\nmode = 'off'\n[lag_shed]\nmode = 'dry_run'\n[drain]").unwrap();
    survives(&file);
    for settings in [file.clone(), file.or(&code)] {
        let changes = stack.apply(&settings).unwrap();
        let expected = "lag_shed.mode: enforce -> dry_run, timeout.mode: enforce -> off";
        assert_eq!(changes.to_string(), expected);
        stack.apply(&code).unwrap();
    }
    assert_eq!(stack.settings(), code);
}

/// A stack of a client whose breaker has a window of its own.
#[test]
fn a_file_need_not_have_the_window() {
    let breaker = CircuitBreakerSettings::default().window(Window::count_based(50));
    let breaker = seawall::CircuitBreaker::new(breaker).unwrap();
    let stack = seawall::client().circuit_breaker(breaker).build().unwrap();
    let code = stack.settings();
    let file: Settings = toml::from_str("[circuit_breaker]\nfailure_rate = 0.3").unwrap();
    let changes = stack.apply(&file.or(&code)).unwrap();
    assert_eq!(
        changes.to_string(),
        "circuit_breaker.failure_rate: 0.5 -> 0.3"
    );
    let window = stack
        .settings()
        .circuit_breaker
        .unwrap()
        .settings
        .unwrap()
        .window;
    assert_eq!(window, Some(Window::count_based(50)));
}

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
