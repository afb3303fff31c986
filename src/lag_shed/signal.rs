//! Loads other than lag, for which a share of the requests is rejected.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::config::ConfigError;
use crate::control::lag::{MS, Nanos};
use crate::observe;
use crate::unwind;

/// A load that a closure measures, as the share of the requests to reject: 0 or less rejects none,
/// 0.5 rejects half, 1 or more rejects all.
///
/// A [`LagShed`](crate::LagShed) rejects them in addition to the requests that have waited too
/// long. It averages the load over 25 ms.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
/// use seawall::{LagShed, LagShedLayer, LoadSignal};
///
/// let queued = Arc::new(AtomicUsize::new(0)); // in front of a dependency
/// let signal = {
///     let queued = queued.clone();
///     LoadSignal::new("queue", move || (queued.load(Relaxed) as f64 - 100.0) / 900.0)
/// };
/// let shed = LagShed::default();
/// shed.add_signal(signal);
/// let layer = LagShedLayer::new(shed);
/// # let _: LagShedLayer = layer;
/// ```
#[derive(Clone)]
pub struct LoadSignal {
    inner: Arc<Inner>,
}

struct Inner {
    name: &'static str,
    every: Nanos,
    read: Box<dyn Fn() -> f64 + Send + Sync>,
    /// The bits of the last value, and the time of the next one in nanoseconds. Only the sampler
    /// writes them.
    value: AtomicU64,
    due: AtomicU64,
}

/// The time between two readings of the memory. A reading costs up to three system calls, and the
/// memory changes slowly.
const MEMORY_EVERY: Nanos = 100 * MS;

/// The shares of the memory limit from which on requests are rejected, and all requests.
const MEMORY_FROM: f64 = 0.85;
const MEMORY_TO: f64 = 0.95;

// === impl LoadSignal ===

impl LoadSignal {
    /// Makes a signal with a name for snapshots and `Debug`.
    ///
    /// The thread that measures lag calls the closure at most every 10 ms. The closure must be fast
    /// and must not block. NaN counts as 0. So does a panic, which is reported as a failed
    /// measurement.
    pub fn new(name: &'static str, read: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self::every(name, 1, read)
    }

    fn every(
        name: &'static str,
        every: Nanos,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                name,
                every,
                read: Box::new(read),
                value: AtomicU64::new(0),
                due: AtomicU64::new(0),
            }),
        }
    }

    /// The resident memory of this process, compared with a limit in bytes. Rejections start at 85
    /// % of the limit, and all requests are rejected at 95 %.
    ///
    /// # Errors
    ///
    /// Returns an error if the limit is 0, or if the system does not report the memory of the
    /// process (Linux does, in `/proc/self/status`).
    pub fn memory_limit(bytes: u64) -> io::Result<Self> {
        ConfigError::check("bytes", bytes, 1..=u64::MAX)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        resident()?;
        let read = move || resident().map_or(0.0, |used| memory_pressure(used, bytes));
        Ok(Self::every("memory", MEMORY_EVERY, read))
    }

    /// The same as [`memory_limit`](Self::memory_limit), with the smallest `memory.max` of the
    /// process's control group and the groups around it (cgroup v2). The limit is read once.
    ///
    /// # Errors
    ///
    /// Returns [`NotFound`](io::ErrorKind::NotFound) if there is no such limit, and the errors of
    /// [`memory_limit`](Self::memory_limit).
    pub fn cgroup_memory() -> io::Result<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let limit = cgroup_limit(Path::new("/sys/fs/cgroup"), &groups).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "no memory.max limits this process")
        })?;
        Self::memory_limit(limit)
    }

    /// The signal's name.
    pub fn name(&self) -> &'static str {
        self.inner.name
    }

    /// The value, which is read again if it is due.
    pub(super) fn pressure(&self, now: Nanos) -> f64 {
        if now >= self.inner.due.load(Relaxed) {
            let value = unwind::without_panics(&self.inner.read).unwrap_or_else(|| {
                observe::sampler_failed("a load signal panicked", false);
                f64::NAN
            });
            self.inner.value.store(value.to_bits(), Relaxed);
            // The value is read at most once per round for all runtimes and handles.
            let due = now.saturating_add(self.inner.every);
            self.inner.due.store(due, Relaxed);
        }
        self.value()
    }

    /// The value at the last reading.
    pub(super) fn value(&self) -> f64 {
        f64::from_bits(self.inner.value.load(Relaxed))
    }
}

impl fmt::Debug for LoadSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadSignal")
            .field("name", &self.inner.name)
            .field("value", &self.value())
            .finish_non_exhaustive()
    }
}

fn memory_pressure(used: u64, limit: u64) -> f64 {
    (used as f64 / limit as f64 - MEMORY_FROM) / (MEMORY_TO - MEMORY_FROM)
}

/// The resident memory of this process, in bytes.
fn resident() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    parse_resident(&status)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no VmRSS in /proc/self/status"))
}

fn parse_resident(status: &str) -> Option<u64> {
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The smallest limit from the group of version 2 (`0::/path`) up to the root.
fn cgroup_limit(root: &Path, groups: &str) -> Option<u64> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let group = root.join(path);
    let dirs = group.ancestors().take_while(|dir| dir.starts_with(root));
    let limits = dirs.filter_map(|dir| {
        let limit = fs::read_to_string(dir.join("memory.max")).ok()?;
        // "max" is not a number: there is no limit.
        limit.trim().parse().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_words_are_read() {
        let status = "Name:\tx\nVmPeak:\t 9 kB\nVmRSS:\t    1748 kB\nRssAnon:\t 116 kB\n";
        assert_eq!(parse_resident(status), Some(1748 * 1024));
        assert_eq!(parse_resident("VmRSS:\t many kB\n"), None);
        assert_eq!(parse_resident(""), None);
    }

    #[test]
    fn memory_presses_from_85_to_95_percent() {
        let pressure = |used| memory_pressure(used, 1000);
        assert!(pressure(850).abs() < 1e-9);
        assert!((pressure(900) - 0.5).abs() < 1e-9);
        assert!((pressure(950) - 1.0).abs() < 1e-9);
        assert!(pressure(400) < 0.0);
        assert!((pressure(1200) - 3.5).abs() < 1e-9);
    }

    #[test]
    fn the_least_limit_of_all_groups_holds() {
        let root = std::env::temp_dir().join(format!("seawall-cgroup-{}", std::process::id()));
        let inner = root.join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(root.join("a/memory.max"), "4096\n").unwrap();
        fs::write(root.join("memory.max"), "8192\n").unwrap();
        assert_eq!(cgroup_limit(&root, "1:cpu:/x\n0::/a/b\n"), Some(4096));
        assert_eq!(cgroup_limit(&root, "0::/\n"), Some(8192));
        assert_eq!(cgroup_limit(&root, "4:memory:/a\n"), None, "version 1");
        fs::write(root.join("a/memory.max"), "max\n").unwrap();
        fs::remove_file(root.join("memory.max")).unwrap();
        assert_eq!(cgroup_limit(&root, "0::/a/b\n"), None);
        fs::remove_dir_all(&root).unwrap();
    }
}
