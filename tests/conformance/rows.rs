//! The rows that are sequences of words.

use std::time::Duration;

use seawall::CircuitBreakerSettings;
use seawall::circuit_breaker::{OpenDuration, Window};

use crate::play::play;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The common configuration of resilience4j.
pub(crate) fn k() -> CircuitBreakerSettings {
    CircuitBreakerSettings::default()
        .window(Window::time_based(secs(20)).buckets(20))
        .minimum_calls(5)
        .failure_rate(0.5)
        .slow_call(secs(4), 0.5)
        .half_open_probes(4)
        .open_duration(secs(5))
        .half_open_timeout(secs(1))
}

/// The configuration of Polly.
pub(crate) fn q() -> CircuitBreakerSettings {
    CircuitBreakerSettings::default()
        .window(Window::time_based(secs(10)))
        .minimum_calls(4)
        .failure_rate(0.5)
        .half_open_probes(1)
        .open_duration(secs(30))
}

fn growing() -> CircuitBreakerSettings {
    k().open_duration(OpenDuration::exponential(secs(5), 1.5, secs(3600)))
        .half_open_timeout(secs(60))
}

/// A window only: nothing opens the breaker, and every rate is visible.
pub(crate) fn only(window: Window) -> CircuitBreakerSettings {
    CircuitBreakerSettings::default()
        .window(window)
        .minimum_calls(1)
        .slow_call(secs(4), 1.0)
}

fn v8() -> CircuitBreakerSettings {
    CircuitBreakerSettings::default()
        .failure_rate(0.5)
        .minimum_calls(10)
        .half_open_probes(1)
        .open_duration(secs(1))
}

#[tokio::test(start_paused = true)]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn resilience4j() {
    let two_hours = || k().open_duration(OpenDuration::from_fn(|_| secs(2 * 3600)));
    let half_an_hour = || k().open_duration(OpenDuration::from_fn(|_| secs(1800)));
    let four = || only(Window::count_based(4));
    let two = || only(Window::count_based(2));
    let five_seconds = || only(Window::time_based(secs(5)).buckets(5));
    for (id, config, words) in [
        (
            "R1",
            k(),
            "F F F =C rate:-1 S =C 4/3 rate:-1 S =O rate:60 5/3 rejected:0 A- rejected:1 reached:1 open:1",
        ),
        ("R2", k(), "S @1 S @2 S @3 F @4 F =C @5 =C F =O 6/3 rate:50"),
        (
            "R3",
            k(),
            "F(5) =C S(5) =C F(0.1) =C S(0.1) =C S(5) =O slow:60 slow_calls:3 5/2 rate:40 reached:0 reached_slow:1",
        ),
        (
            "R3, at the boundary",
            k(),
            "S(4) S(4) S(4) S(4) S(4) =C slow:0 Ss Ss Ss Ss =C slow_calls:4 Ss =O slow_calls:5 slow:50",
        ),
        (
            "R4",
            k(),
            "trip A- @3 A- rejected:2 @6 A+ =H 0/0 half_open:1",
        ),
        (
            "R4, at the boundary",
            k(),
            "trip @5- A- =O @5 =H A+ half_open:1",
        ),
        (
            "R5",
            growing(),
            "trip A- @3 A- @6 A+ =H trip =O @12 A- @13.5- A- @13.5 =H @17 A+ =H failed_recoveries:1",
        ),
        (
            "R5b, two hours",
            two_hours(),
            "trip @3600 A- @7200- A- @7201 A+ =H",
        ),
        (
            "R5b, half an hour",
            half_an_hour(),
            "trip @900 A- @1800- A- @1801 A+ =H",
        ),
        (
            "R6",
            k(),
            "trip @5 A+ A+ A+ A+ A- A- Rel A+ A- trip @10 A+ A+ A+ A+ A-",
        ),
        // Decision of this crate: it decides as soon as two of four have failed, since the other
        // two cannot change the result.
        ("R7", k(), "trip @5 F =H 1/1 F =O 2/2"),
        // Decision of this crate: the same for slow probes.
        ("R8", k(), "trip @5 Ss =H Ss =O slow_calls:2 2/0"),
        ("R9", k(), "trip @5 F =H S =H S =H 3/1 S =C 0/0 S 1/0"),
        // Decision of this crate: three of four have succeeded, and one more failure cannot reach a
        // half. An ignored probe changes nothing before.
        (
            "R10",
            k(),
            "trip @5 S S =H 2/0 I =H 2/0 ignored:1 A+ kF =H 3/1 S =C",
        ),
        ("R10, decided", k(), "trip @5 S S S =C"),
        ("R11", k(), "trip @5 I I I I =H 0/0 S S =H 2/0 S =C"),
        (
            "R12",
            k(),
            "A+ isolate A- @6 A- =FO kF =FO 0/0 rejected:2 total_failures:1",
        ),
        ("R13", k(), "disable S F F F F F F 0/0 =FC A+"),
        (
            "R14",
            k(),
            "observe F F F S S =OO rate:60 reached:1 F =OO reached:1",
        ),
        (
            "R14, slow ones after it",
            k(),
            "observe F F F S S reached:1 Fs Fs Fs Fs Fs reached:1 reached_slow:1 slow:50 =OO",
        ),
        (
            "R14, again after all was well",
            k().minimum_calls(1),
            "observe F reached:1 @30 S F reached:2",
        ),
        (
            "R12, after failures",
            k(),
            "F F isolate 0/0 reset disable 0/0",
        ),
        (
            "R14, slow",
            k(),
            "observe Fs Fs Fs Fs Fs =OO reached:1 reached_slow:1",
        ),
        (
            "R15",
            k(),
            "trip @5 A+ Rel =H @6- =H @6 =O @10 =O @11- =O A- @11 =H",
        ),
        // Decision of this crate: no method makes a breaker half-open. Any state may be forced, and
        // a state that is forced onto itself calls no hook.
        (
            "R16",
            k(),
            "observe observe observe_only:1 isolate isolate forced_open:1 disable disable forced_closed:1 observe observe_only:2 reset reset closed:1 =C trip trip open:1 isolate =FO trip =FO open:1 transitions:7",
        ),
        (
            "R17",
            four(),
            "observe F rate:100 S rate:50 S rate:33.333 S rate:25 S rate:0 4/0",
        ),
        (
            "R18",
            two(),
            "observe Fs slow_calls:1 rate:100 slow_failures:1 Ss slow_calls:2 rate:50 S slow_calls:1 rate:0 slow_failures:0 S slow_calls:0",
        ),
        (
            "R19",
            five_seconds(),
            "observe F @0.1 S @0.2 S 3/1 @1.2 S 4/1 @2.2 S 5/1 @3.2 F 6/2 @4.2 S 7/2 @5.2 S 5/1 @6.2 S 5/1 @11.2 S 1/0",
        ),
        (
            "R19, at the boundary",
            five_seconds(),
            "observe F @5- 1/1 @5 0/0",
        ),
        (
            "R20",
            five_seconds(),
            "observe F 1/1 @0.1 S 2/1 @0.8 Fs 3/2 @4.8 3/2 @5.8 0/0 @5.9 S 1/0 @10.9 S 1/0",
        ),
        (
            "R21, time",
            five_seconds(),
            "observe Ss Fs S(0.1) S(0.1) S(0.1) slow:40 slow_failures:1 mean:4.06",
        ),
        (
            "R21, calls",
            only(Window::count_based(5)),
            "observe F(99) Ss Fs S(0.1) S(0.1) S(0.1) slow:40 slow_failures:1 mean:4.06",
        ),
    ] {
        play(id, config, words).await;
    }
}

#[tokio::test(start_paused = true)]
async fn polly() {
    let two = || q().minimum_calls(2);
    let ten = || only(Window::time_based(secs(10)));
    let function = || {
        v8().open_duration(secs(30))
            .open_duration(OpenDuration::from_fn(|_| secs(1)))
    };
    let v8_words = "F F F F F F F F F F =O open:1 retry:1 @0.5 retry:0.5 @1 F =O half_open:1 open:2 retry:1 @2 S =C half_open:2 closed:1";
    for (id, config, words) in [
        // Decision of this crate: a rejection does not carry the last failure. The caller can keep
        // the failure itself.
        ("P1", q(), "F F F =C F =O A-"),
        // Decision of this crate: a success may open the breaker.
        ("P2", q(), "F F F =C S =O 4/3"),
        ("P3", q(), "S F F =C F =O"),
        ("P4", q(), "S S F =C F =O rate:50"),
        ("P5", q(), "S S S F =C rate:25"),
        ("P6", q(), "F F F @6 F =O"),
        ("P7", q(), "S S F @10 F =C 1/1"),
        ("P7, later", q(), "S S F @20 F =C 1/1"),
        ("P8", q(), "F F F @10- F =O"),
        ("P9", q(), "S @10- S S F =C @10 F =O 4/2"),
        ("P10", q(), "S @10- F F =C @10 F =C 3/3"),
        // Decision of this crate: the success at 1 s makes it two of four.
        ("P11", q(), "S @1 F F S =O"),
        (
            "P11, with one success more",
            q(),
            "S S @1 F S F S =C 6/2 @10 F =O 5/3",
        ),
        // A result that the caller does not classify as a failure is a success.
        ("P12", q(), "S S S S =C 4/0"),
        ("P13", q(), "F F F F =O @30 =H F =O"),
        (
            "P13, at the boundary",
            q(),
            "F F F F =O @30- =O A- @30 F =O",
        ),
        ("P14", q(), "F F F @6 F =O @30 =O @36- =O @36 =H"),
        ("P15", q(), "F F F F =O @30 S =C 0/0"),
        // Decision of this crate: a probe that hangs keeps its slot until it is dropped or the
        // half-open time is over.
        (
            "P16",
            two(),
            "F F =O @30 A+ =H A- @59 A- =H @60- A- @60 =O A- @90 A+ =H",
        ),
        ("P16, dropped", two(), "F F =O @30 A+ =H A- Rel A+ A-"),
        (
            "P17",
            two(),
            "A+ F F =O open:1 retry:30 kF =O open:1 retry:30 total_failures:3",
        ),
        ("P18", v8(), v8_words),
        ("P18b", function(), v8_words),
        (
            "P20",
            q(),
            "A+ A+ isolate =FO retry:-1 @3600 A- =FO kS =FO kF =FO 0/0 reset =C A+",
        ),
        (
            "P21",
            ten(),
            "observe F S @2 2/1 rate:50 F S @4 4/2 rate:50 S S @6 S S @8 8/2 rate:25 S S @10 8/1 rate:12.5 @12 6/0 rate:0",
        ),
        (
            "P22",
            ten(),
            "observe S @1 S @2 S @3 S @4 S @5 S @6 S @7 S @8 S @9 S 10/0 @10 9/0 @11 8/0",
        ),
        ("P23", ten(), "observe S S 2/0 @10- 2/0 @10 0/0 @10.001 0/0"),
    ] {
        play(id, config, words).await;
    }
}

#[tokio::test(start_paused = true)]
async fn polly_p24_calls_minimum_and_rate() {
    for (calls, minimum, failed, threshold, trips) in [
        (10, 10, 0.0, 0.1, false),
        (10, 10, 0.1, 0.1, true),
        (10, 10, 0.2, 0.1, true),
        (11, 10, 0.2, 0.1, true),
        (9, 10, 0.1, 0.1, false),
    ] {
        let config = CircuitBreakerSettings::default()
            .minimum_calls(minimum)
            .failure_rate(threshold);
        let failures = (f64::from(calls) * failed).round() as usize;
        let words = "observe ".to_owned()
            + &"S ".repeat(calls as usize - failures)
            + &"F ".repeat(failures);
        let id = format!("P24 ({calls}, {minimum}, {failed}, {threshold})");
        let expected = if trips { "reached:1" } else { "reached:0" };
        play(&id, config, &(words + expected)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn polly_p25_state_and_outcome() {
    for (id, words) in [
        ("P25 H+S", "trip @30 S =C"),
        ("P25 C+S", "S =C"),
        ("P25 isolated+S", "A+ isolate kS =FO"),
        ("P25 H+F", "trip @30 F =O"),
        ("P25 C+F, trips", "F F F F =O"),
        ("P25 C+F", "F =C"),
        ("P25 O+F", "A+ trip kF =O"),
        ("P25 isolated+F", "A+ isolate kF =FO"),
    ] {
        play(id, q(), words).await;
    }
}
