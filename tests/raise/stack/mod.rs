//! The recommended stack: its settings as a whole.

mod any;
mod apply;
mod build;
mod client;
#[cfg(feature = "serde")]
mod file;
mod retune;

use std::time::Duration;

use seawall::circuit_breaker::OpenDuration;
use seawall::policy::Mode;
use seawall::stack::{PartSettings, Settings};
use seawall::{
    CircuitBreakerSettings, ConcurrencyLimitSettings, DrainSettings, LagThresholds,
    RequestLimitSettings, ResponseBodyTimeoutSettings, TimeoutSettings,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MODES: [Mode; 3] = [Mode::Enforce, Mode::DryRun, Mode::Off];
const NO_DRY_RUN: [Mode; 2] = [Mode::Enforce, Mode::Off];

fn off<S>(settings: S) -> PartSettings<S> {
    PartSettings::from(settings).mode(Mode::Off)
}

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
    let bodies = ResponseBodyTimeoutSettings::default()
        .deadline(true)
        .idle_timeout(2 * SECOND)
        .idle_exempts_grpc(true)
        .progress_timeout(3 * SECOND);
    Settings::default()
        .catch_panic(Mode::Off)
        .lag_shed(dry(thresholds))
        .drain(off(DrainSettings::default().lame_duck(6 * SECOND)))
        .timeout(off(TimeoutSettings::new(SECOND).raisable_to(2 * SECOND)))
        .response_body_timeout(off(bodies))
        .concurrency_limit(dry(ConcurrencyLimitSettings::fixed(5).queue(6, 100 * MS)))
        .request_limit(off(requests))
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
    let bodies = ResponseBodyTimeoutSettings::default()
        .deadline(true)
        .idle_timeout(2 * SECOND)
        .progress_timeout(3 * SECOND);
    Settings::default()
        .circuit_breaker(dry(breaker))
        .timeout(off(TimeoutSettings::new(SECOND).raisable_to(2 * SECOND)))
        .response_body_timeout(off(bodies))
        .concurrency_limit(dry(ConcurrencyLimitSettings::fixed(5).queue(6, 100 * MS)))
}
