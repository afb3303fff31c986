//! The server under test, in a process of its own.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::routing::get;
use seawall::{ConcurrencyLimitLayer, GateLayer, LagShed, LagShedLayer};
use tower::{Layer, Service, ServiceBuilder};

use crate::laws::{Codel, Latch, RejectAll, TooBusy};
use crate::machine::{self, Schedule};
use crate::{Error, Law, Setup};

/// What the parent passes to the child.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Role {
    /// Be the server with this law.
    #[arg(long, hide = true)]
    serve: Option<Law>,
    /// Rounds of work in a microsecond, as measured by the parent.
    #[arg(long, hide = true, default_value_t = 1.0)]
    rounds_per_us: f64,
    /// The server has a core to itself.
    #[arg(long, hide = true)]
    pinned: bool,
}

/// A running server; it is killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// How many rounds of work a microsecond is. Handlers count rounds instead of reading the clock, so
/// that one that waits for its core does not do less work.
pub(crate) fn calibrate() -> f64 {
    let rounds = 200_000;
    let best = (0..50).map(|_| {
        let start = Instant::now();
        work(rounds);
        start.elapsed()
    });
    let best = best.min().expect("there are fifty");
    f64::from(rounds) / (best.as_secs_f64() * 1e6)
}

fn work(rounds: u32) {
    let mut x = 1_u64;
    for round in 0..rounds {
        x = black_box(x.wrapping_mul(6_364_136_223_846_793_005) + u64::from(round));
    }
    black_box(x);
}

// === impl Role ===

impl Role {
    /// Serves, if this process is the server.
    pub(crate) fn play(&self, setup: &Setup) -> Option<Result<(), Error>> {
        self.serve.map(|law| self.serve(law, setup))
    }

    fn serve(&self, law: Law, setup: &Setup) -> Result<(), Error> {
        machine::raise_file_limit();
        if self.pinned {
            machine::pin(0);
        }
        let mut builder = if setup.current_thread {
            tokio::runtime::Builder::new_current_thread()
        } else {
            tokio::runtime::Builder::new_multi_thread()
        };
        builder.worker_threads(setup.workers).enable_all();
        std::thread::spawn(end_with_parent);
        builder.build()?.block_on(async {
            let router = self.router(setup);
            match law {
                Law::None => serve(router, tower::layer::util::Identity::new()).await,
                Law::Seawall => match setup.limit {
                    None => serve(router, LagShedLayer::new(LagShed::default())).await,
                    Some(limit) => {
                        let shed = LagShedLayer::new(LagShed::default());
                        let limit = ConcurrencyLimitLayer::new(limit);
                        serve(router, ServiceBuilder::new().layer(shed).layer(limit)).await
                    }
                },
                Law::Latch => serve(router, GateLayer::from_policy(Latch::new())).await,
                Law::Toobusy => serve(router, GateLayer::from_policy(TooBusy::new())).await,
                Law::Codel => serve(router, GateLayer::from_policy(Codel::new())).await,
                Law::Reject => serve(router, GateLayer::from_policy(RejectAll::new())).await,
            }
        })
    }

    /// Half of the requests cost half of the mean, four tenths the mean, one tenth three and a half
    /// times the mean.
    fn router(&self, setup: &Setup) -> Router {
        let mean = setup.service_us as f64 * self.rounds_per_us;
        let turn = Arc::new(AtomicUsize::new(0));
        let await_for = Duration::from_millis(setup.await_ms);
        Router::new().route(
            "/",
            get(move || {
                let share = match turn.fetch_add(1, Relaxed) * 7 % 10 {
                    0..5 => 0.5,
                    5..9 => 1.0,
                    _ => 3.5,
                };
                async move {
                    if !await_for.is_zero() {
                        tokio::time::sleep(await_for).await;
                    }
                    work((mean * share) as u32);
                    "done\n"
                }
            }),
        )
    }
}

/// The law is outermost, before routing.
async fn serve<L, B>(router: Router, law: L) -> Result<(), Error>
where
    L: Layer<Router>,
    L::Service: Service<Request<Body>, Response = Response<B>, Error = std::convert::Infallible>
        + Clone
        + Send
        + 'static,
    <L::Service as Service<Request<Body>>>::Future: Send,
    B: axum::body::HttpBody<Data = axum::body::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let app = ServiceBuilder::new()
        .map_response(|response: Response<B>| response.map(Body::new))
        .layer(law)
        .service(router.with_state(()));
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener = socket.listen(4096)?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, tower::make::Shared::new(app)).await?;
    Ok(())
}

/// Ends this process with the parent, which holds the other end of standard input.
fn end_with_parent() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    std::process::exit(0);
}

// === impl Server ===

impl Server {
    pub(crate) fn start(
        law: Law,
        setup: Setup,
        rounds_per_us: f64,
        is_pinned: bool,
    ) -> Result<Self, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--serve", law.as_str()])
            .args(["--rounds-per-us", &rounds_per_us.to_string()])
            .args(["--service-us", &setup.service_us.to_string()])
            .args(["--await-ms", &setup.await_ms.to_string()])
            .args(["--workers", &setup.workers.to_string()]);
        if setup.current_thread {
            command.arg("--current-thread");
        }
        if let Some(limit) = setup.limit {
            command.args(["--limit", &limit.to_string()]);
        }
        if is_pinned {
            command.arg("--pinned");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse();
        let server = Self {
            address: address.map_err(|error| format!("the server said {line:?}: {error}"))?,
            child,
        };
        Ok(server)
    }

    /// The time that its threads ran, and that they waited for a core; `None` where the system does
    /// not report it.
    pub(crate) fn schedule(&self) -> Option<Schedule> {
        Schedule::of(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
