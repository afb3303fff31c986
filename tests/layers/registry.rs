//! One snapshot of all handles of a process.

use seawall::registry::HandleSnapshot;
use seawall::{ConcurrencyLimit, Registry};

#[test]
fn a_second_use_of_a_name_is_an_error() {
    let registry = Registry::new();
    registry.add("limit", &ConcurrencyLimit::from(1)).unwrap();
    let error = registry
        .add("limit", &ConcurrencyLimit::from(2))
        .unwrap_err();
    assert_eq!(error.field(), "name");
    assert!(error.to_string().contains("\"limit\""), "{error}");
    let snapshot = registry.snapshot();
    let HandleSnapshot::ConcurrencyLimit(limit) = &snapshot["limit"] else {
        panic!("{snapshot:?}");
    };
    assert_eq!(limit.limit, 1, "the first stays");
    assert!(registry.remove("limit"));
    assert!(!registry.remove("limit"));
    registry.add("limit", &ConcurrencyLimit::from(2)).unwrap();
    assert_eq!(registry.snapshot().len(), 1);
}

#[cfg(feature = "serde")]
#[test]
fn every_kind_is_shown_as_it_is_now() {
    use seawall::{CatchPanic, CircuitBreaker, Drain, LagShed, Timeout};

    let registry = Registry::new();
    let drain = Drain::default();
    let server = seawall::server()
        .on_panic(|_| {})
        .exempt(|_| false)
        .build()
        .unwrap();
    let client = seawall::client().policy(()).build().unwrap();
    registry.add("server", &server).unwrap();
    registry.add("client", &client).unwrap();
    registry.add("server handle", &server.handle()).unwrap();
    registry.add("client handle", &client.handle()).unwrap();
    #[cfg(feature = "keyed")]
    registry
        .add("hosts", &seawall::client().per_host().build().unwrap())
        .unwrap();
    registry.add("drain", &drain).unwrap();
    registry.add("lag", &LagShed::default()).unwrap();
    registry.add("breaker", &CircuitBreaker::default()).unwrap();
    registry.add("panics", &CatchPanic::new()).unwrap();
    registry
        .add("timeout", &Timeout::from(std::time::Duration::ZERO))
        .unwrap();
    registry
        .add("requests", &seawall::RequestLimit::from(1))
        .unwrap();
    let shown = || serde_json::to_value(registry.clone().snapshot()).unwrap();
    let before = shown();
    for (name, kind) in [
        ("server", "server"),
        ("client", "client"),
        ("server handle", "server"),
        ("client handle", "client"),
        ("drain", "drain"),
        ("lag", "lag_shed"),
        ("breaker", "circuit_breaker"),
        ("panics", "catch_panic"),
        ("timeout", "timeout"),
        ("requests", "request_limit"),
    ] {
        assert_eq!(before[name]["kind"], kind);
    }
    assert_eq!(before["drain"]["state"], "serving");
    assert_eq!(before["server"]["concurrency_limit"]["limit"], 1024);
    assert_eq!(before["client"]["circuit_breaker"]["state"], "closed");
    drain.begin();
    server.concurrency_limit().set_limit(7).unwrap();
    let after = shown();
    assert_eq!(after["drain"]["state"], "lame_duck");
    for server in ["server", "server handle"] {
        assert_eq!(after[server]["concurrency_limit"]["limit"], 7);
    }
    client.concurrency_limit().set_limit(7).unwrap();
    let after = shown();
    for client in ["client", "client handle"] {
        assert_eq!(after[client]["concurrency_limit"]["limit"], 7);
    }
}

/// The breakers of a family are under their keys.
#[cfg(all(feature = "serde", feature = "keyed"))]
#[test]
fn a_family_of_breakers_is_shown_by_key() {
    use seawall::circuit_breaker::{CircuitBreakers, CircuitBreakersSettings};

    let settings = CircuitBreakersSettings::default()
        .max_keys(7)
        .idle_timeout(std::time::Duration::from_secs(5));
    let tenants = CircuitBreakers::<u64>::new(settings).unwrap();
    assert_eq!(tenants.settings().max_keys, 7);
    assert_eq!(tenants.settings().idle_timeout.as_secs(), 5);
    let registry = Registry::new();
    registry.add("tenants", &tenants).unwrap();
    tenants.get_or_insert(&17).force_open();
    let shown = serde_json::to_value(registry.snapshot()).unwrap();
    assert_eq!(shown["tenants"]["kind"], "circuit_breakers");
    assert_eq!(shown["tenants"]["keys"]["17"]["state"], "forced_open");
}
