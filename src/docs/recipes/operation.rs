//! Operation: switch layers off, drain on Kubernetes, export metrics, rehearse an outage.
//!
//! # Switch a layer off
//!
//! A stack has a switch for each part, and [`switched_by`](crate::GateLayer::switched_by) gives one
//! to a single layer. [`Mode::DryRun`](crate::policy::Mode::DryRun) counts what the part would
//! reject, and admits it:
//!
//! ```
//! use axum::{Router, routing::get};
//! use seawall::ConcurrencyLimitLayer;
//! use seawall::policy::{Mode, Switch};
//!
//! let stack = seawall::server().build()?;
//! let reports = Switch::new(Mode::DryRun);
//! let limit = ConcurrencyLimitLayer::new(16).switched_by(reports.clone());
//! let app: Router = Router::new()
//!     .route("/reports", get(async || "a report").layer(limit))
//!     .layer(stack.clone());
//!
//! // While the server runs:
//! stack.switches().lag_shed.set(Mode::Off);
//! stack.switches().concurrency_limit.set(Mode::DryRun);
//! reports.set(Mode::Enforce);
//! # let _ = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! - **What a change affects**: requests that arrive later. Requests that hold a permit keep it.
//! - **A drain, a timeout, a request limit and panic isolation** have no dry run. `Mode::DryRun` in
//!   a [`Switch`](crate::policy::Switch) turns them off;
//!   [`apply`](crate::stack::ServerHandle::apply) returns an error for it.
//! - **To decide at start**, use an `Option`: `GateLayer::from_policy(None::<MyPolicy>)` has no
//!   policy.
//! - **A snapshot shows the decisions of a handle**, in a dry run too: a breaker may be open, and a
//!   shedder may shed, although all requests are admitted.
//! - **To watch a dry run**, read `seawall_requests_would_reject_total`, or `would_reject` in a
//!   snapshot.
//!
//! # Drain on Kubernetes
//!
//! When Kubernetes deletes a pod, it sends SIGTERM and removes the pod from its endpoints at the
//! same time. Clients and proxies learn of that a few seconds later. The drain serves all requests
//! during these seconds, its lame-duck time, and then rejects new ones:
//!
//! ```no_run
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use seawall::Health;
//! use tokio::net::TcpListener;
//! use tokio::signal::unix::{SignalKind, signal};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let stack = seawall::server().drain(Duration::from_secs(10)).build()?;
//!     let app: Router = Router::new().route("/", get(async || "hello")).layer(stack.clone());
//!
//!     let health: Router = Router::new().fallback_service(Health::new(stack.drain().clone()));
//!     let admin = TcpListener::bind("0.0.0.0:3001").await?;
//!     tokio::spawn(async { axum::serve(admin, health).await });
//!
//!     let mut terminate = signal(SignalKind::terminate())?;
//!     let drain = stack.drain().clone();
//!     tokio::spawn(async move {
//!         terminate.recv().await;
//!         drain.begin();
//!     });
//!     let listener = TcpListener::bind("0.0.0.0:3000").await?;
//!     let serve = |shutdown| axum::serve(listener, app).with_graceful_shutdown(shutdown);
//!     let report = stack.drain().serve(serve, Duration::from_secs(20)).await?;
//!     println!("drained: {report}");
//!     Ok(())
//! }
//! ```
//!
//! ```yaml
//! spec:
//!   # Lame-duck time 10 s + grace period 20 s + 1 s, rounded up.
//!   terminationGracePeriodSeconds: 35
//!   containers:
//!     - name: orders
//!       readinessProbe:
//!         httpGet: { path: /readyz, port: 3001 }
//!         periodSeconds: 3
//!         failureThreshold: 2
//!       livenessProbe:
//!         httpGet: { path: /livez, port: 3001 }
//!         periodSeconds: 10
//!         timeoutSeconds: 5
//! ```
//!
//! - **`terminationGracePeriodSeconds`** must be more than the lame-duck time, the grace period and
//!   a second together. Kubernetes kills the process when it is over.
//! - **`preStop`.** You need no `preStop: { sleep: … }`: the lame-duck time has the same purpose,
//!   and the process learns of its end at once. If you keep one, Kubernetes sends SIGTERM after it;
//!   add its time to `terminationGracePeriodSeconds`, and set the lame-duck time to 1 s.
//! - **The lame-duck time** must be longer than the time after which every client and load balancer
//!   has noticed the drain. For a load balancer that reads the readiness probe, this is
//!   `periodSeconds` times `failureThreshold`.
//! - **Readiness** is 503 from the beginning of the drain on. Liveness stays 200: a busy or
//!   draining server must not be restarted.
//! - **The probes** have a listener of their own, so that they are answered under overload too.
//!   `examples/production.rs` has a complete server.
//!
//! # Metrics for Prometheus
//!
//! With the feature `metrics`, layers write through the `metrics` facade. Install the recorder
//! before the first request, with the [recommended buckets](crate::observe::BUCKETS):
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
//! use seawall::observe::BUCKETS;
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let prometheus = PrometheusBuilder::new()
//!     .set_buckets_for_metric(Matcher::Prefix("seawall_".to_owned()), BUCKETS)?
//!     .install_recorder()?;
//! let upkeep = prometheus.clone();
//! tokio::spawn(async move {
//!     loop {
//!         tokio::time::sleep(Duration::from_secs(5)).await;
//!         upkeep.run_upkeep();
//!     }
//! });
//!
//! let stack = seawall::server().named("orders").build()?;
//! let app: Router = Router::new().route("/", get(async || "hello")).layer(stack);
//! let admin: Router = Router::new().route("/metrics", get(async move || prometheus.render()));
//! # let _ = (app, admin);
//! # Ok(()) }
//! ```
//!
//! [`METRICS`](crate::observe::METRICS) lists all metrics. Start with these expressions:
//!
//! | question | PromQL |
//! |---|---|
//! | Which share of requests is rejected, and why? | `sum by (reason) (rate(seawall_requests_rejected_total[5m])) / scalar(sum(rate(seawall_requests_admitted_total[5m])) + sum(rate(seawall_requests_rejected_total[5m])))` |
//! | How full is the limit? | `seawall_requests_in_flight / seawall_concurrency_limit` |
//! | How long do requests wait in the queue? | `histogram_quantile(0.99, sum by (le) (rate(seawall_queue_seconds_bucket[5m])))` |
//! | Did a circuit open? | `increase(seawall_circuit_transitions_total{state="open"}[5m]) > 0` |
//! | How far is the runtime behind? | `seawall_lag_seconds` |
//!
//! If layers are nested, a request counts in each of them, and a permit that you take counts for
//! its handle: add the labels `layer` and `name` to the expression. Give handles of one kind
//! different [names](crate::ConcurrencyLimit::named): handles with the same name share their
//! series.
//!
//! # Metrics for OpenTelemetry
//!
//! A recorder of the `metrics` facade passes the metrics on to a meter of OpenTelemetry. This
//! recipe uses the crate `metrics-exporter-otel`:
//!
//! ```
//! use metrics::KeyName;
//! use metrics_exporter_otel::OpenTelemetryRecorder;
//! use opentelemetry::metrics::MeterProvider;
//! use opentelemetry_sdk::metrics::SdkMeterProvider;
//! use seawall::observe::{BUCKETS, METRICS, MetricKind};
//!
//! // Add the reader of your exporter, for example a `PeriodicReader` of `opentelemetry-otlp`.
//! let provider = SdkMeterProvider::builder().build();
//! let recorder = OpenTelemetryRecorder::new(provider.meter("seawall"));
//! for metric in METRICS.iter().filter(|metric| metric.kind == MetricKind::Histogram) {
//!     recorder.set_histogram_bounds(&KeyName::from(metric.name), BUCKETS.to_vec());
//! }
//! metrics::set_global_recorder(recorder)?;
//! // At the end of `main`, after the drain, so that the last values are exported:
//! provider.shutdown()?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! An OpenTelemetry collector can also scrape the Prometheus endpoint of the recipe above, with its
//! `prometheus` receiver.
//!
//! # A trace layer without noise
//!
//! `TraceLayer` of tower-http logs each 5xx as an `ERROR`, and so each request that is shed.
//! [`IgnoreRejections`](crate::IgnoreRejections) (feature `tower-http-06` or `tower-http-07`) lets it
//! log the failures of the service alone. Put the trace layer outside the stack:
//!
//! ```
//! use axum::{Router, routing::get};
//! use seawall::IgnoreRejections;
//! use tower_http::classify::ServerErrorsAsFailures;
//! use tower_http::trace::TraceLayer;
//!
//! let stack = seawall::server().build()?;
//! let classifier = IgnoreRejections::new(ServerErrorsAsFailures::make_classifier());
//! let app = Router::new()
//!     .route("/", get(async || "hello"))
//!     .layer(stack.clone())
//!     .layer(TraceLayer::new(classifier));
//! # let _: Router = app;
//! # Ok::<_, seawall::ConfigError>(())
//! ```
//!
//! # A drill
//!
//! A drill shows what clients do when the service rejects. Force the state, watch, and reset it:
//!
//! ```
//! use axum::body::Body;
//! use axum::http::{Request, StatusCode};
//! use axum::{Router, routing::get};
//! use seawall::policy::Mode;
//! use seawall::{CircuitBreaker, CircuitBreakerLayer};
//! use tower::ServiceExt;
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let database = CircuitBreaker::default().named("database");
//! let stack = seawall::server().build()?;
//! let app: Router = Router::new()
//!     .route("/", get(async || "hello").layer(CircuitBreakerLayer::new(database.clone())))
//!     .layer(stack.clone());
//! let status = async || {
//!     let request = Request::get("/").body(Body::empty()).unwrap();
//!     app.clone().oneshot(request).await.unwrap().status()
//! };
//!
//! database.force_open(); // the dependency is down
//! assert_eq!(status().await, StatusCode::SERVICE_UNAVAILABLE);
//! database.reset();
//!
//! stack.lag_shed().force_shedding(true); // every request is rejected
//! assert_eq!(status().await, StatusCode::SERVICE_UNAVAILABLE);
//!
//! stack.switches().lag_shed.set(Mode::DryRun); // every request is counted and admitted
//! assert_eq!(status().await, StatusCode::OK);
//!
//! stack.lag_shed().force_shedding(false);
//! stack.switches().lag_shed.set(Mode::Enforce);
//! # Ok(()) }
//! ```
//!
//! - **Before the first drill**, force the state in a dry run: the metrics show how many requests
//!   the drill would reject.
//! - **One process.** A state that you force holds in one process. Start with one of many.
//! - **What to look at**: whether clients honour `Retry-After`, whether their retries stay within a
//!   budget, and whether your alerts fire.
//! - `examples/production.rs` has drills on its admin listener. Do not make that listener public.
