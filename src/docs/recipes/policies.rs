//! A policy of your own.
//!
//! A [`Policy`](crate::policy::Policy) admits or rejects a request, and learns how it ended. This
//! one limits the requests in flight of each tenant, so that no tenant can take all permits of the
//! stack:
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::{Arc, Mutex, PoisonError};
//! use std::time::Duration;
//! use axum::body::Body;
//! use axum::http::{Request, StatusCode};
//! use axum::{Router, routing::get};
//! use seawall::policy::{Admission, NoWait, Policy};
//! use seawall::{Completion, HttpRequest, Reason, Reporter, RequestHead};
//! use tower::ServiceExt;
//!
//! #[derive(Clone)]
//! struct PerTenant {
//!     limit: usize,
//!     in_flight: Arc<Mutex<HashMap<String, usize>>>,
//!     reporter: Reporter,
//! }
//!
//! impl PerTenant {
//!     fn new(limit: usize) -> Self {
//!         Self { limit, in_flight: Arc::default(), reporter: Reporter::new("per_tenant") }
//!     }
//! }
//!
//! impl Policy<HttpRequest> for PerTenant {
//!     type Token = String;
//!     type Wait = NoWait<String>;
//!
//!     fn admit(&self, head: &RequestHead<'_>) -> Admission<String, NoWait<String>> {
//!         let Some(tenant) = head.headers.get("x-tenant").and_then(|name| name.to_str().ok())
//!         else {
//!             return Admission::Bypass;
//!         };
//!         let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
//!         let count = in_flight.entry(tenant.to_owned()).or_insert(0);
//!         if *count >= self.limit {
//!             let rejection = self.reporter.reject(Reason::RateLimited);
//!             return Admission::Reject(rejection.with_retry_after(Duration::from_secs(1)));
//!         }
//!         *count += 1;
//!         Admission::Admit(tenant.to_owned())
//!     }
//!
//!     fn register(&self) {
//!         self.reporter.register_reasons(&[Reason::RateLimited]);
//!     }
//!
//!     fn release(&self, tenant: &mut String, _: Completion) {
//!         let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
//!         if let Some(count) = in_flight.get_mut(tenant) {
//!             *count -= 1;
//!             if *count == 0 {
//!                 in_flight.remove(tenant);
//!             }
//!         }
//!     }
//! }
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stack = seawall::server().policy(PerTenant::new(1)).build()?;
//! let app: Router = Router::new().route("/", get(async || "hello")).layer(stack);
//!
//! let call = |tenant| Request::get("/").header("x-tenant", tenant).body(Body::empty());
//! let first = app.clone().oneshot(call("a")?).await?; // its body is not read yet
//! let second = app.clone().oneshot(call("a")?).await?;
//! assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
//! let other = app.clone().oneshot(call("b")?).await?;
//! assert_eq!(other.status(), StatusCode::OK);
//! drop(first); // releases the token
//! assert_eq!(app.oneshot(call("a")?).await?.status(), StatusCode::OK);
//! # Ok(()) }
//! ```
//!
//! - **The gate calls `release` exactly once** for each admitted request: at the end of the
//!   response body, or when the future or the body is dropped, or at a panic or a timeout.
//! - **`Bypass`** admits a request without a token: this policy does not limit requests without a
//!   tenant.
//! - **`register`** shows the counter of the rejections with 0, before the first one.
//! - **The argument of [`Reporter::new`](crate::Reporter::new)** is the label `layer` of the
//!   metrics and the layer of the [`Rejection`](crate::Rejection).
//! - **The reason** decides the answer, here 429. For a status of your own use
//!   [`Reason::Custom`](crate::Reason::Custom).
//! - **The lock** is not on the path of requests without a tenant. If many cores share one map, use
//!   a map with several locks.
//!
//! [`policy`](crate::policy) describes the trait, and what a policy is notified of.
