//! Measures the capacity of the server and the cells, and detects that the machine is busy with
//! something else.

use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::load::{Clients, Tally};
use crate::machine::{self, Schedule};
use crate::server::{self, Server};
use crate::{Error, Law, Setup};

/// What one run measures with. Cells that are not reliable are repeated while there is time.
pub(crate) struct Bench {
    rounds_per_us: f64,
    is_pinned: bool,
    /// TCP sockets before the first cell.
    sockets: u64,
    cells_left: usize,
    deadline: Instant,
}

/// What the server can do.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Capacity {
    #[serde(rename = "capacity_per_s")]
    pub(crate) per_s: f64,
    pub(crate) service_cost_us: f64,
    pub(crate) rejection_cost_us: f64,
}

/// One law under one load. Ratios are of 1.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Cell {
    pub(crate) law: Law,
    pub(crate) load: f64,
    pub(crate) offered_per_s: f64,
    pub(crate) goodput_ratio: f64,
    pub(crate) bound: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) served: f64,
    pub(crate) rejected: f64,
    pub(crate) gave_up: f64,
    pub(crate) failed: f64,
}

/// Why the numbers are not reliable, in words that follow "not judged:".
#[derive(Debug)]
pub(crate) struct Busy(String);

/// How long a measurement of the capacity takes.
pub(crate) const CALIBRATION: Duration = Duration::from_secs(6);

/// The largest share of the time that a server on a quiet machine waits for its core. It is 1 % at
/// the capacity and 4 % at ten times of it; thousands of new connections a second cost more.
const MOST_WAITED: f64 = 0.1;

/// The largest share of the cores that other programs have on a quiet machine.
const MOST_OTHERS: f64 = 0.15;

/// The least share of the time in which the clients keep the server busy when its capacity is
/// measured.
const LEAST_BUSY: f64 = 0.85;

/// How late the clients of a quiet machine are at the most, at the 99th percentile.
const MOST_LATE: Duration = Duration::from_millis(20);

/// The same if they share the cores with the server.
const MOST_LATE_SHARED: Duration = Duration::from_millis(100);

/// How often a cell is measured until it is reliable.
const TRIES: u32 = 3;

/// How long the connections of a cell may take to be gone.
const GONE: Duration = Duration::from_secs(3);

/// How long a cell takes, with the requests that are still under way at its end.
pub(crate) fn length(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds + 1.2)
}

/// The CPU time of both processes, and of all, before or after a measurement.
#[derive(Clone, Copy)]
struct Schedules {
    at: Instant,
    used: Option<Duration>,
    server: Option<Schedule>,
    clients: Option<Schedule>,
}

// === impl Bench ===

impl Bench {
    pub(crate) fn new(is_pinned: bool, cells: usize, deadline: Instant) -> Self {
        if is_pinned {
            machine::pin(0);
        }
        let rounds_per_us = server::calibrate();
        let is_pinned = is_pinned && machine::pin(1);
        if is_pinned {
            println!("the server has core 0 to itself, the clients have core 1");
        } else {
            println!("server and clients share the cores: latencies are not reliable");
        }
        Self {
            rounds_per_us,
            is_pinned,
            sockets: machine::sockets(),
            cells_left: cells,
            deadline,
        }
    }

    pub(crate) fn start(&self, law: Law, setup: Setup) -> Result<Server, Error> {
        Server::start(law, setup, self.rounds_per_us, self.is_pinned)
    }

    /// Measures the capacity, and again if the machine was busy and there is time.
    ///
    /// # Errors
    ///
    /// [`Busy`] if the machine was busy, and there is no time.
    pub(crate) async fn capacity(&self, setup: Setup, seconds: f64) -> Result<Capacity, Error> {
        let mut tries = TRIES;
        loop {
            let capacity = self.calibrated(setup).await;
            let Err(error) = capacity.as_ref() else {
                return capacity;
            };
            tries -= 1;
            if tries == 0 || !self.may_repeat(error, CALIBRATION, seconds)? {
                return capacity;
            }
            println!("{error}; once more");
        }
    }

    async fn calibrated(&self, setup: Setup) -> Result<Capacity, Error> {
        let (per_s, service_cost_us) = self.services(setup).await?;
        let rejection_cost_us = self.rejections(setup, per_s).await?;
        Ok(Capacity {
            per_s,
            service_cost_us,
            rejection_cost_us,
        })
    }

    /// Whether a measurement failed because the machine was busy, and there is time for another and
    /// for the cells that are left.
    fn may_repeat(&self, error: &Error, it: Duration, seconds: f64) -> Result<bool, Error> {
        let cells = length(seconds) * u32::try_from(self.cells_left)?;
        Ok(error.is::<Busy>() && Instant::now() + it + cells <= self.deadline)
    }

    /// The capacity and the cost of a service, with as many clients as keep the server busy, each
    /// sending as soon as it has an answer.
    async fn services(&self, setup: Setup) -> Result<(f64, f64), Error> {
        let server = self.start(Law::None, setup)?;
        let clients = Clients::new(server.address, setup.http2);
        let awaiting = setup.await_ms as f64 * 1000.0 / setup.service_us as f64;
        let connections = (16.0 + 2.0 * awaiting) as usize * setup.workers;
        clients
            .closed_loop(connections, Duration::from_millis(300))
            .await?;
        let before = Schedules::of(&server);
        let (answers, took) = clients
            .closed_loop(connections, Duration::from_millis(2500))
            .await?;
        let ran = self.ran(before, Schedules::of(&server))?;
        self.end(clients, server).await;

        let (answers, took) = (answers.max(1) as f64, took.as_secs_f64());
        // Where the system does not report how long the server ran, it counts as running all the
        // time.
        let ran = ran.map_or(took, |ran| ran.as_secs_f64());
        let cost = ran / answers * 1e6;
        let meant = setup.service_us as f64;
        if cost > 1.3 * meant + 200.0 {
            return busy(format!(
                "a service costs {cost:.0} µs instead of about {meant:.0}, so the cores are slower \
                 than when the example started, or other programs share them"
            ));
        }
        if self.is_pinned && ran / took < LEAST_BUSY {
            return busy(format!(
                "{:.0} answers a second of {cost:.0} µs keep the server busy for only {:.0} % of \
                 the time, so something else slows it or the clients down",
                answers / took,
                ran / took * 100.0
            ));
        }
        Ok((answers / took, cost))
    }

    /// The cost of a rejection in microseconds, in an open loop as in the cells: a server that is
    /// asked in batches, as in a closed loop, rejects at half of the cost.
    async fn rejections(&self, setup: Setup, capacity: f64) -> Result<f64, Error> {
        let server = self.start(Law::Reject, setup)?;
        let clients = Clients::new(server.address, setup.http2);
        let rate = (10.0 * capacity).min(5000.0);
        clients.open_loop(rate, Duration::from_millis(300)).await;
        let before = Schedules::of(&server);
        let time = Duration::from_millis(1500);
        let tally = clients.open_loop(rate, time).await;
        let ran = self.ran(before, Schedules::of(&server))?;
        self.end(clients, server).await;
        self.punctual(&tally)?;
        let answers = tally.rejected.max(1) as f64;
        Ok(ran.unwrap_or(time).as_secs_f64() / answers * 1e6)
    }

    /// Measures a cell, and once more if the machine was busy and there is time.
    ///
    /// # Errors
    ///
    /// [`Busy`] if the machine was busy, and there is no time.
    pub(crate) async fn cell(
        &mut self,
        setup: Setup,
        capacity: &Capacity,
        law: Law,
        load: f64,
        seconds: f64,
    ) -> Result<Cell, Error> {
        let mut tries = TRIES;
        loop {
            let cell = self.measured(setup, capacity, law, load, seconds).await;
            let Err(error) = cell.as_ref() else {
                self.cells_left = self.cells_left.saturating_sub(1);
                return cell;
            };
            tries -= 1;
            if tries == 0 || !self.may_repeat(error, Duration::ZERO, seconds)? {
                return cell;
            }
            println!("{:<8} {load:>4}x: {error}; once more", law.as_str());
        }
    }

    async fn measured(
        &self,
        setup: Setup,
        capacity: &Capacity,
        law: Law,
        load: f64,
        seconds: f64,
    ) -> Result<Cell, Error> {
        let server = self.start(law, setup)?;
        let clients = Clients::new(server.address, setup.http2);
        let before = Schedules::of(&server);
        let tally = clients
            .open_loop(load * capacity.per_s, Duration::from_secs_f64(seconds))
            .await;
        let after = Schedules::of(&server);
        self.end(clients, server).await;
        self.ran(before, after)?;
        self.punctual(&tally)?;
        let cell = Cell::new(law, load, seconds, capacity, &tally);
        if cell.goodput_ratio > 1.1 {
            return busy(format!(
                "the goodput is {:.2} of the capacity, so the capacity was measured while the \
                 machine was busy",
                cell.goodput_ratio
            ));
        }
        if cell.failed > 0.01 {
            return busy(format!(
                "{:.1} % of the requests failed before they reached the server, so the machine has \
                 no sockets left",
                cell.failed * 100.0
            ));
        }
        Ok(cell)
    }

    /// How long the server ran, if the system reports it and nothing else used the cores.
    fn ran(&self, before: Schedules, after: Schedules) -> Result<Option<Duration>, Error> {
        let passed = after.at - before.at;
        let since = |after: Option<Schedule>, before| Some(after?.since(before?));
        let Some(server) = since(after.server, before.server) else {
            return Ok(None);
        };
        let waited = server.waited.as_secs_f64() / passed.as_secs_f64();
        if self.is_pinned && waited > MOST_WAITED {
            return busy(format!(
                "the server waited for its core for {:.0} % of the time, because the machine is \
                 busy with something else or has more connections than it can open",
                waited * 100.0
            ));
        }
        let clients = since(after.clients, before.clients).unwrap_or_default();
        // Where the server has a core of its own, `used` is of the other.
        let shared = if self.is_pinned {
            Duration::ZERO
        } else {
            server.ran
        };
        if let Some((used, used_before)) = after.used.zip(before.used) {
            let others = used.saturating_sub(used_before + clients.ran + shared);
            let others = others.as_secs_f64() / (passed * machine::usable()).as_secs_f64();
            if others > MOST_OTHERS {
                return busy(format!(
                    "other programs used {:.0} % of the clients' cores",
                    others * 100.0
                ));
            }
        }
        Ok(Some(server.ran))
    }

    fn punctual(&self, tally: &Tally) -> Result<(), Error> {
        let late = Duration::from_micros(tally.late.value_at_quantile(0.99));
        let most = if self.is_pinned {
            MOST_LATE
        } else {
            MOST_LATE_SHARED
        };
        if late <= most {
            return Ok(());
        }
        busy(format!(
            "the clients sent up to {} ms late, because the machine is busy with something else or \
             the load is more than the clients can send",
            late.as_millis()
        ))
    }

    /// Closes the clients, ends the server, and waits until their connections are gone, so that
    /// they do not spoil the next measurement.
    async fn end(&self, clients: Clients, server: Server) {
        drop((clients, server));
        let end = Instant::now() + GONE;
        let tasks = Handle::current().metrics();
        let remain = || tasks.num_alive_tasks() > 0 || machine::sockets() > self.sockets + 16;
        while remain() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

// === impl Schedules ===

impl Schedules {
    fn of(server: &Server) -> Self {
        Self {
            at: Instant::now(),
            used: machine::used(),
            server: server.schedule(),
            clients: Schedule::of(std::process::id()),
        }
    }
}

// === impl Capacity ===

impl Capacity {
    fn bound(&self, load: f64) -> f64 {
        let p = self.rejection_cost_us / self.service_cost_us;
        ((1.0 - load * p) / (1.0 - p)).clamp(0.0, load)
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "capacity {:.0}/s, a request costs {:.0} µs, a rejection {:.1} µs",
            self.per_s, self.service_cost_us, self.rejection_cost_us,
        )
    }
}

// === impl Cell ===

impl Cell {
    fn new(law: Law, load: f64, seconds: f64, capacity: &Capacity, tally: &Tally) -> Self {
        let sent = tally.late.len().max(1) as f64;
        let ms = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            law,
            load,
            offered_per_s: sent / seconds,
            goodput_ratio: tally.good as f64 / seconds / capacity.per_s,
            bound: capacity.bound(load),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            served: tally.latency.len() as f64 / sent,
            rejected: tally.rejected as f64 / sent,
            gave_up: tally.gave_up as f64 / sent,
            failed: tally.failed as f64 / sent,
        }
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "{:<8} {:>4}x: goodput {:.2} of {:.2}, p99 {:.0} ms, rejected {:.1} %, gave up {:.1} %",
            self.law.as_str(),
            self.load,
            self.goodput_ratio,
            self.bound,
            self.p99_ms,
            self.rejected * 100.0,
            self.gave_up * 100.0,
        )
    }
}

// === impl Busy ===

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Busy {}

fn busy<T>(why: String) -> Result<T, Error> {
    Err(Busy(why).into())
}
