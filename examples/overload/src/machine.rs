//! What the operating system reports and allows.

use std::sync::OnceLock;
use std::time::Duration;

/// The sums of what the threads of a process did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Schedule {
    pub(crate) ran: Duration,
    pub(crate) waited: Duration,
}

/// Pins this thread, and those that it starts, to the core with this number, where the system
/// allows it.
pub(crate) fn pin(core: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: core })
}

/// The number of cores before this thread was pinned to one.
pub(crate) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// An overload without a shedder needs a connection for each request that waits.
pub(crate) fn raise_file_limit() {
    let _ = rlimit::increase_nofile_limit(65_536);
}

/// TCP sockets that are open or about to close, where the system reports them (Linux); else 0.
pub(crate) fn sockets() -> u64 {
    let stat = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let number = |line: &str, name| {
        let mut words = line.split(' ').skip_while(|word| *word != name);
        words.nth(1)?.parse::<u64>().ok()
    };
    let line = stat.lines().find(|line| line.starts_with("TCP:"));
    line.map_or(0, |line| {
        number(line, "inuse").unwrap_or(0) + number(line, "orphan").unwrap_or(0)
    })
}

/// The number of cores that this thread may use now.
pub(crate) fn usable() -> u32 {
    core_affinity::get_core_ids().map_or(1, |cores| cores.len() as u32)
}

/// The time in which the cores that this thread may use now ran a program, or were taken away by
/// the host of a virtual machine, where the system reports it (Linux).
pub(crate) fn used() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let cores = core_affinity::get_core_ids()?;
    let used = |line: &str| {
        let (name, times) = line.split_once(' ')?;
        let id: usize = name.strip_prefix("cpu")?.parse().ok()?;
        cores.iter().find(|core| core.id == id)?;
        // user nice system idle iowait irq softirq steal, in hundredths of a second.
        let times: Vec<u64> = times.split(' ').flat_map(str::parse).collect();
        let used = times.get(..3)?.iter().sum::<u64>() + times.get(7)?;
        Some(Duration::from_millis(10 * used))
    };
    Some(stat.lines().filter_map(used).sum())
}

/// The load average over 1, 5 and 15 minutes, where the system reports it.
pub(crate) fn load_average() -> Option<String> {
    let line = std::fs::read_to_string("/proc/loadavg").ok()?;
    let three: Vec<&str> = line.split(' ').take(3).collect();
    Some(three.join(" "))
}

/// The machine, for the caption.
pub(crate) fn describe() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
        .unwrap_or(std::env::consts::ARCH);
    format!("{model}, {} cores, {}", cores(), std::env::consts::OS)
}

// === impl Schedule ===

impl Schedule {
    /// `/proc/PID/task/*/schedstat`.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let mut sum = Self::default();
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
            let path = task.ok()?.path().join("schedstat");
            // A thread may have ended in between.
            let Ok(line) = std::fs::read_to_string(path) else {
                continue;
            };
            let mut words = line.split_whitespace().map(str::parse);
            let mut next = || Some(Duration::from_nanos(words.next()?.ok()?));
            sum.ran += next()?;
            sum.waited += next()?;
        }
        Some(sum)
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            ran: self.ran.saturating_sub(before.ran),
            waited: self.waited.saturating_sub(before.waited),
        }
    }
}
