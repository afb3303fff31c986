//! The metrics and events of lag, under the names in the docs. The thread that measures uses only
//! global recorders and subscribers. The first test to run installs them, since a recorder misses
//! the series that already exist.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use seawall::observe::METRICS;
use seawall::{LagMonitor, LagShed, LagThresholds, LoadSignal};

use crate::support::*;

#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) static INSTALLED: LazyLock<(PrometheusHandle, Log)> = LazyLock::new(|| {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).expect("nobody else installs one");
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || writer.clone())
        .init();
    (handle, log)
});

#[test]
fn metrics_and_events_are_those_of_the_docs() {
    let _alone = alone();
    let (handle, log) = &*INSTALLED;

    let runtime = workers(1);
    // The monitor has the same name.
    let lag = LagShed::default().named("told");
    let monitor = LagMonitor::start(runtime.handle());
    lag.start(runtime.handle());
    monitor.on_lag(Duration::from_millis(10), |_| panic!("in a hook"));
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let stopped = Mutex::new(stopped);
    monitor.on_lag(Duration::from_millis(800), move |report| {
        if !report.is_over {
            let _ = stopped.lock().unwrap().recv();
        }
    });
    until("probes", || monitor.snapshot().probes > 2);
    let blocked = block(runtime.handle());
    let is_in = |line: &str| handle.render().contains(line);
    // Requests keep arriving, so that it is not a stall.
    until("shedding", || !admits_in(runtime.handle(), &lag));
    until("one-hot", || {
        admits_in(runtime.handle(), &lag);
        is_in(r#"seawall_lag_state{layer="lag_shed",name="told",state="shedding"} 1"#)
            && is_in(r#"seawall_lag_state{layer="lag_shed",name="told",state="warn"} 0"#)
            && is_in(r#"seawall_lag_state{layer="lag_shed",name="told",state="normal"} 0"#)
    });
    until("no reading", || {
        admits_in(runtime.handle(), &lag);
        lag.snapshot().fail_open > 0
    });
    assert!(is_in(
        r#"seawall_lag_shed_ratio{layer="lag_shed",name="told"} "#
    ));
    assert!(is_in(
        r#"seawall_lag_fail_open_total{layer="lag_shed",name="told"} "#
    ));
    drop((stop, blocked));
    until("normal again", || {
        is_in(r#"seawall_lag_state{layer="lag_shed",name="told",state="normal"} 1"#)
            && is_in(r#"seawall_lag_state{layer="lag_shed",name="told",state="shedding"} 0"#)
    });
    let page = handle.render();
    for line in [
        r#"seawall_lag_seconds{layer="lag_monitor",name="told"} "#,
        r#"seawall_lag_probe_seconds_count{layer="lag_monitor",name="told",contention="#,
        r#"seawall_lag_sampler_failures_total{layer="lag_monitor",name=""} "#,
    ] {
        assert!(page.contains(line), "{line}\nis not in\n{page}");
    }
    let scraped: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP "))
        .filter(|line| line.starts_with("seawall_lag_"))
        .collect();
    let documented = METRICS
        .iter()
        .map(|metric| format!("{} {}", metric.name, metric.help));
    let documented: BTreeSet<_> = documented
        .filter(|line| line.starts_with("seawall_lag_"))
        .collect();
    assert_eq!(scraped, documented.iter().map(String::as_str).collect());

    let text = log.text();
    assert!(!text.contains("lag changed"), "that is DEBUG: {text}");
    for words in [
        r#" WARN seawall: shedding layer="lag_shed" name="told" state="shedding" lag_ms="#,
        r#" INFO seawall: shedding no longer layer="lag_shed" name="told" state="#,
        r#"ERROR seawall: lag monitor failed layer="lag_monitor" error="a hook panicked""#,
    ] {
        assert!(text.contains(words), "{words}\nis not in\n{text}");
    }
}

#[test]
fn a_load_signal_near_its_threshold_is_reported_once() {
    let _alone = alone();
    let (_, log) = &*INSTALLED;
    let runtime = workers(1);
    let reads = Arc::new(AtomicU32::new(0));
    let read = reads.clone();
    // Above and below it for 20 readings each, so that the average reaches zero in between.
    let signal = LoadSignal::new("hovers", move || {
        f64::from(1 - read.fetch_add(1, SeqCst) / 20 % 2)
    });
    let day = Duration::from_secs(24 * 60 * 60);
    let lag = LagShed::new(LagThresholds::default().disarm_after(day)).unwrap();
    let lag = lag.named("hovers");
    lag.add_signal(signal);
    lag.start(runtime.handle());
    until("it was admitted and rejected twice", || {
        admits_in(runtime.handle(), &lag);
        reads.load(SeqCst) > 120
    });
    let text = log.text();
    let lines = text.lines().filter(|line| line.contains("hovers"));
    assert_eq!(lines.count(), 1, "{text}");
}

/// With a handle that lives on, and with none.
#[test]
fn the_lag_of_a_runtime_that_has_ended_is_0() {
    let _alone = alone();
    let (handle, _) = &*INSTALLED;
    for name in ["kept", "dropped"] {
        let runtime = workers(1);
        let shed = LagShed::default().named(name);
        shed.start(runtime.handle());
        let monitor = LagMonitor::start(runtime.handle());
        let series = format!(r#"seawall_lag_seconds{{layer="lag_monitor",name="{name}"}} "#);
        let is_zero = || {
            let page = handle.render();
            let value = page.lines().find_map(|line| line.strip_prefix(&series));
            value.map(|value| value.parse() == Ok(0.0))
        };
        until("probes", || monitor.snapshot().probes > 2);
        let blocked = block(runtime.handle());
        until("a lag", || is_zero() == Some(false));
        let kept = (name == "kept").then_some(monitor);
        drop(shed);
        // The worker ends without a reading in between.
        runtime.shutdown_background();
        drop(blocked);
        until("no lag", || is_zero() == Some(true));
        drop(kept);
    }
}

/// A drill that was not ended, and a shedder that is dropped.
/// Shedders of one name share the gauges of their states, which count them.
#[test]
fn a_shedder_that_is_gone_sheds_no_longer() {
    let _alone = alone();
    let (handle, _) = &*INSTALLED;
    let runtime = workers(1);
    let start = |is_forced: bool| {
        let shed = LagShed::default().named("gone");
        shed.start(runtime.handle());
        admits_in(runtime.handle(), &shed);
        shed.force_shedding(is_forced);
        shed
    };
    let shows = |state: &str, value: u8| {
        let state = format!(r#"layer="lag_shed",name="gone",state="{state}"}} {value}"#);
        handle.render().contains(&state)
    };
    let (first, second, normal) = (start(true), start(true), start(false));
    until("two shed", || shows("shedding", 2) && shows("normal", 1));
    drop(first);
    drop(normal);
    let ratio = |value: u8| {
        let ratio = r#"seawall_lag_shed_ratio{layer="lag_shed",name="gone"}"#;
        handle.render().contains(&format!("{ratio} {value}"))
    };
    until("one sheds", || {
        shows("shedding", 1) && shows("normal", 0) && ratio(1)
    });
    drop(second);
    until("none sheds", || {
        shows("shedding", 0) && shows("normal", 0) && ratio(0)
    });
}
