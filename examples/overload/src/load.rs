//! The clients: open-loop, so that a slow server does not slow them down. Latency counts from the
//! time at which a request was meant to be sent.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{Request, StatusCode, Version};
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::LocalSet;

use crate::Error;

/// A client gives up after this long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Requests that one HTTP/2 connection carries at once.
const STREAMS: u32 = 100;

/// The most connections, or streams, that are open at once: the clients have limits, too.
const OPEN: usize = 12_000;

/// The results of the requests.
pub(crate) struct Tally {
    /// Latency of the accepted, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// How late they were sent, in microseconds.
    pub(crate) late: Histogram<u64>,
    /// Accepted, answered before the time was over.
    pub(crate) good: u64,
    pub(crate) rejected: u64,
    /// Not answered before the client gave up.
    pub(crate) gave_up: u64,
    /// Failed for another reason, for example because no connection could be opened.
    pub(crate) failed: u64,
}

#[derive(Clone)]
pub(crate) struct Clients {
    address: SocketAddr,
    http2: bool,
    idle: Rc<RefCell<Vec<Leased>>>,
    open: Arc<Semaphore>,
}

/// A connection, or a share in one, and the permit to have it open.
struct Leased {
    sender: Sender,
    #[expect(dead_code, reason = "held")]
    permit: OwnedSemaphorePermit,
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

// === impl Tally ===

impl Tally {
    fn new() -> Self {
        let histogram =
            || Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds make sense");
        Self {
            latency: histogram(),
            late: histogram(),
            good: 0,
            rejected: 0,
            gave_up: 0,
            failed: 0,
        }
    }
}

// === impl Clients ===

impl Clients {
    pub(crate) fn new(address: SocketAddr, http2: bool) -> Self {
        Self {
            address,
            http2,
            idle: Rc::default(),
            open: Arc::new(Semaphore::new(OPEN)),
        }
    }

    /// Poisson arrivals at `rate` a second for `duration`; ends when every request has ended.
    pub(crate) async fn open_loop(&self, rate: f64, duration: Duration) -> Tally {
        let tally = Rc::new(RefCell::new(Tally::new()));
        let local = LocalSet::new();
        let clients = self.clone();
        let shared = tally.clone();
        local.spawn_local(async move {
            let mut random = fastrand::Rng::with_seed(7);
            let start = Instant::now();
            let mut at = 0.0;
            loop {
                at += -(1.0 - random.f64()).ln() / rate;
                if at >= duration.as_secs_f64() {
                    return;
                }
                let intended = start + Duration::from_secs_f64(at);
                if intended > Instant::now() {
                    tokio::time::sleep_until(intended.into()).await;
                } else {
                    tokio::task::consume_budget().await;
                }
                let late = Instant::now().saturating_duration_since(intended);
                record(&mut shared.borrow_mut().late, late);
                let one = clients
                    .clone()
                    .one(intended, start + duration, shared.clone());
                tokio::task::spawn_local(one);
            }
        });
        local.await;
        Rc::into_inner(tally)
            .expect("every request is over")
            .into_inner()
    }

    /// `connections` clients that each send as soon as they have an answer. Returns the number of
    /// answers, and in which time they came.
    pub(crate) async fn closed_loop(
        &self,
        connections: usize,
        duration: Duration,
    ) -> Result<(u64, Duration), Error> {
        let start = Instant::now();
        let end = start + duration;
        let each = (0..connections).map(|_| async {
            let mut sender = self.connect().await?;
            let mut answers = 0;
            while Instant::now() < end {
                self.exchange(&mut sender).await?;
                answers += 1;
            }
            Ok::<u64, Error>(answers)
        });
        let answers = futures_util::future::try_join_all(each).await?;
        Ok((answers.iter().sum(), start.elapsed()))
    }

    async fn one(self, intended: Instant, over: Instant, tally: Rc<RefCell<Tally>>) {
        let deadline = intended + PATIENCE;
        let result = tokio::time::timeout_at(deadline.into(), async {
            let mut leased = self.lease().await?;
            let status = self.exchange(&mut leased.sender).await?;
            self.idle.borrow_mut().push(leased);
            Ok::<_, Error>(status)
        });
        let result = result.await;
        let now = Instant::now();
        let mut tally = tally.borrow_mut();
        match result {
            Err(_) => tally.gave_up += 1,
            // Ready at the poll that would have found the timer expired: too late.
            Ok(Ok(_)) if now > deadline => tally.gave_up += 1,
            Ok(Ok(StatusCode::OK)) => {
                record(&mut tally.latency, now - intended);
                tally.good += u64::from(now <= over);
            }
            Ok(Ok(StatusCode::SERVICE_UNAVAILABLE)) => tally.rejected += 1,
            Ok(_) => tally.failed += 1,
        }
    }

    /// An idle connection, or a new one.
    async fn lease(&self) -> Result<Leased, Error> {
        loop {
            let idle = self.idle.borrow_mut().pop();
            let Some(leased) = idle else { break };
            if !leased.sender.is_closed() {
                return Ok(leased);
            }
        }
        let shares = if self.http2 { STREAMS } else { 1 };
        let mut permit = self.open.clone().try_acquire_many_owned(shares)?;
        let sender = self.connect().await?;
        if let Sender::Http2(sender) = &sender {
            while permit.num_permits() > 1 {
                let sender = Sender::Http2(sender.clone());
                let permit = permit.split(1).expect("there is more than one");
                self.idle.borrow_mut().push(Leased { sender, permit });
            }
        }
        Ok(Leased { sender, permit })
    }

    async fn connect(&self) -> Result<Sender, Error> {
        let stream = self.dial().await?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        Ok(if self.http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            Sender::Http1(sender)
        })
    }

    /// Connects from one of many loopback addresses, where the system has them (Linux). Thousands
    /// of clients that give up every second would use up the ports of one address, as a port is
    /// free again only after a minute.
    async fn dial(&self) -> std::io::Result<TcpStream> {
        let host = fastrand::u8(2..32);
        let socket = TcpSocket::new_v4()?;
        if socket.bind(([127, 0, 0, host], 0).into()).is_ok() {
            return socket.connect(self.address).await;
        }
        TcpStream::connect(self.address).await
    }

    async fn exchange(&self, sender: &mut Sender) -> Result<StatusCode, Error> {
        let request = Request::builder();
        let response = match sender {
            Sender::Http1(sender) => {
                let request = request.uri("/").header("host", "localhost");
                sender.ready().await?;
                sender.send_request(request.body(Empty::new())?).await?
            }
            Sender::Http2(sender) => {
                let request = request.version(Version::HTTP_2).uri("http://localhost/");
                sender.ready().await?;
                sender.send_request(request.body(Empty::new())?).await?
            }
        };
        let status = response.status();
        response.into_body().collect().await?;
        Ok(status)
    }
}

// === impl Sender ===

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
}
