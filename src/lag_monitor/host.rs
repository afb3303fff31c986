//! Finds out whether the host is short of CPU, rather than the service using too much of it.

use std::time::Duration;

/// Compares the time that the threads of this process waited for a core with the time that they
/// ran, about once a second.
#[derive(Debug)]
pub(super) struct Host {
    cores: f64,
    before: Option<(Duration, Schedule)>,
    is_short: bool,
}

/// Sums over the threads of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Schedule {
    ran: Duration,
    waited: Duration,
}

const EVERY: Duration = Duration::from_secs(1);

/// The most threads that are read; a process may have hundreds, mostly asleep.
#[cfg(target_os = "linux")]
const THREADS: usize = 128;

// === impl Host ===

impl Host {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            cores: cores as f64,
            before: None,
            is_short: false,
        }
    }

    /// The result of the last full second; `false` if the system does not report it.
    pub(super) fn is_short(&mut self, now: Duration) -> bool {
        let Some((at, before)) = self.before else {
            self.before = read().map(|schedule| (now, schedule));
            return false;
        };
        let passed = now.saturating_sub(at);
        if passed >= EVERY {
            let after = read();
            self.is_short = after.is_some_and(|after| judge(self.cores, passed, before, after));
            self.before = after.map(|after| (now, after));
        }
        self.is_short
    }
}

/// The threads waited for more than a fifth of a core's time, and this process did not use all
/// cores itself.
fn judge(cores: f64, passed: Duration, before: Schedule, after: Schedule) -> bool {
    let share = |before: Duration, after: Duration| {
        after.saturating_sub(before).as_secs_f64() / passed.as_secs_f64()
    };
    share(before.waited, after.waited) > 0.2 && share(before.ran, after.ran) < 0.9 * cores
}

/// `/proc/self/task/*/schedstat`: nanoseconds run, nanoseconds waited, time slices (Linux, with
/// `CONFIG_SCHED_INFO`).
#[cfg(target_os = "linux")]
fn read() -> Option<Schedule> {
    let mut sum = Schedule::default();
    for task in std::fs::read_dir("/proc/self/task").ok()?.take(THREADS) {
        let path = task.ok()?.path().join("schedstat");
        // A thread may have ended in between.
        if let Some(one) = std::fs::read_to_string(path)
            .ok()
            .and_then(|line| parse(&line))
        {
            sum.ran += one.ran;
            sum.waited += one.waited;
        }
    }
    (sum != Schedule::default()).then_some(sum)
}

#[cfg(not(target_os = "linux"))]
fn read() -> Option<Schedule> {
    None
}

#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "there is nothing to read")
)]
fn parse(line: &str) -> Option<Schedule> {
    let mut words = line.split_ascii_whitespace().map(str::parse);
    let mut next = || Some(Duration::from_nanos(words.next()?.ok()?));
    Some(Schedule {
        ran: next()?,
        waited: next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(ran: u64, waited: u64) -> Schedule {
        Schedule {
            ran: Duration::from_millis(ran),
            waited: Duration::from_millis(waited),
        }
    }

    #[test]
    fn a_line_of_the_kernel_is_read_and_a_broken_one_is_not() {
        let line = "1500000 20000000 7\n";
        let expected = Schedule {
            ran: Duration::from_micros(1500),
            waited: Duration::from_millis(20),
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse("1500000"), None);
        assert_eq!(parse("x 1 2"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn only_waiting_while_others_have_the_cores_speaks_against_the_host() {
        let second = Duration::from_secs(1);
        let judged = |ran: u64, waited: u64| {
            judge(
                2.0,
                second,
                schedule(500, 500),
                schedule(500 + ran, 500 + waited),
            )
        };
        assert!(!judged(900, 10), "it hardly waited");
        assert!(
            judged(900, 500),
            "it ran on one of two cores and waited all the same"
        );
        assert!(!judged(1950, 500), "it had both cores to itself");
    }

    #[test]
    fn the_answer_of_the_last_second_holds() {
        let mut host = Host::new();
        host.before = Some((Duration::ZERO, Schedule::default()));
        host.is_short = true;
        assert!(host.is_short(Duration::from_millis(999)));
    }
}
