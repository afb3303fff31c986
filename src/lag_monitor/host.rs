//! Detects that the host is short of CPU; see
//! [`host_is_short`](super::LagReport::host_is_short).

use std::fs;
use std::time::Duration;

/// Compares the pressure with the CPU time of this process, once a second.
pub(super) struct Host {
    cores: f64,
    read_at: Duration,
    usage: Option<Usage>,
    is_short: bool,
}

/// Sums since the start of the host and of this process.
#[derive(Clone, Copy)]
struct Usage {
    stalled: Duration,
    ran: Duration,
}

const EVERY: Duration = Duration::from_secs(1);

// === impl Host ===

impl Host {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            cores: cores as f64,
            read_at: Duration::ZERO,
            usage: None,
            is_short: false,
        }
    }

    /// The result of the last full second; `false` if the system does not report it.
    pub(super) fn is_short(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.read_at);
        if passed >= EVERY {
            let usage = read();
            let both = self.usage.zip(usage);
            self.is_short =
                both.is_some_and(|(before, after)| judge(self.cores, passed, before, after));
            (self.read_at, self.usage) = (now, usage);
        }
        self.is_short
    }
}

fn judge(cores: f64, passed: Duration, before: Usage, after: Usage) -> bool {
    let share = |before: Duration, after: Duration| {
        after.saturating_sub(before).as_secs_f64() / passed.as_secs_f64()
    };
    share(before.stalled, after.stalled) > 0.2 && share(before.ran, after.ran) < 0.9 * cores
}

/// The pressure on the process's own control group (cgroup v2) if there is one, else on the host.
///
/// The pressure of the host counts the tasks of all groups, also those that their own quota stops
/// or that have a low weight: it is high on hosts where this process gets every core that it needs.
fn read() -> Option<Usage> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let own = group
        .and_then(|path| fs::read_to_string(format!("/sys/fs/cgroup{path}/cpu.pressure")).ok());
    let pressure = own.or_else(|| fs::read_to_string("/proc/pressure/cpu").ok())?;
    Some(Usage {
        stalled: parse_stalled(&pressure)?,
        ran: parse_ran(&fs::read_to_string("/proc/self/stat").ok()?)?,
    })
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=MICROSECONDS`: the time in which at least one task
/// waited, averaged over the cores that had work.
fn parse_stalled(pressure: &str) -> Option<Duration> {
    let mut lines = pressure.lines();
    let some = lines.find_map(|line| line.strip_prefix("some "))?;
    let (_, total) = some.split_once("total=")?;
    let total = total.split_ascii_whitespace().next()?;
    Some(Duration::from_micros(total.parse().ok()?))
}

/// Fields 14 and 15 of `/proc/PID/stat`, user and system time in hundredths of a second. Field 2,
/// the name, may contain anything, but is the last in parentheses.
fn parse_ran(stat: &str) -> Option<Duration> {
    let mut times = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || Some(Duration::from_millis(times.next()?.parse().ok()?) * 10);
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_files_of_the_kernel_are_read_and_broken_ones_are_not() {
        let full = "full avg10=0.00 avg60=0.00 avg300=0.00 total=9\n";
        for (pressure, expected) in [
            (
                "some avg10=0.03 avg60=0.73 avg300=1.85 total=1500\n",
                Some(1500),
            ),
            (&format!("{full}some avg10=1.00 total=7 more=1\n"), Some(7)),
            (full, None),
            ("some avg10=0.03", None),
            ("some total=-1", None),
            ("some total=x", None),
            ("", None),
        ] {
            let expected = expected.map(Duration::from_micros);
            assert_eq!(parse_stalled(pressure), expected, "{pressure}");
        }
        for (stat, expected) in [
            ("42 (a) S 1 2 3 4 5 6 7 8 9 10 120 30 7 7 20", Some(1500)),
            ("42 (a) b ) 9) S 1 2 3 4 5 6 7 8 9 10 1 0", Some(10)),
            ("42 (a) S 1 2 3 4 5 6 7 8 9 10 120", None),
            ("42 (a) S 1 2 3 4 5 6 7 8 9 10 120 -3", None),
            ("42 a S 1 2", None),
            ("", None),
        ] {
            assert_eq!(
                parse_ran(stat),
                expected.map(Duration::from_millis),
                "{stat}"
            );
        }
    }

    #[test]
    fn a_host_is_short_if_tasks_wait_for_cores_that_this_process_does_not_use() {
        for (stalled, ran, expected) in [
            (10, 900, false),   // the cores are free
            (200, 900, false),  // exactly a fifth
            (201, 900, true),   // others have the second core
            (900, 0, true),     // other processes have both
            (900, 1799, true),  // just less than nine tenths of both
            (900, 1800, false), // this process has both
        ] {
            let before = Usage {
                stalled: 500 * MS,
                ran: 700 * MS,
            };
            let after = Usage {
                stalled: before.stalled + stalled * MS,
                ran: before.ran + ran * MS,
            };
            let short = judge(2.0, 1000 * MS, before, after);
            assert_eq!(short, expected, "{stalled} {ran}");
            let short = judge(2.0, 2000 * MS, before, after);
            assert_eq!(short, stalled > 400, "{stalled} {ran} in two seconds");
        }
    }

    #[test]
    fn the_answer_of_the_last_second_holds() {
        let mut host = Host::new();
        host.is_short = true;
        assert!(host.is_short(999 * MS));
        assert!(
            !host.is_short(1000 * MS),
            "there is no reading to compare with"
        );
    }
}
