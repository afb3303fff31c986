//! Recipes: short answers to single questions, each with code that compiles.
//!
//! | you want to | page |
//! |---|---|
//! | switch a layer off, or look at it before it rejects | [`operation`](operation#switch-a-layer-off) |
//! | deploy on Kubernetes without cutting requests off | [`operation`](operation#drain-on-kubernetes) |
//! | export metrics to Prometheus | [`operation`](operation#metrics-for-prometheus) |
//! | export metrics to OpenTelemetry | [`operation`](operation#metrics-for-opentelemetry) |
//! | read the settings from a file, and read it again | [`settings`] |
//! | log failures without rejections | [`operation`](operation#a-trace-layer-without-noise) |
//! | serve health checks, also over gRPC | [`health`](crate::health) |
//! | rehearse an outage | [`operation`](operation#a-drill) |
//! | serve events, long polls or WebSockets | [`streams`] |
//! | know the address of the client in a layer | [`axum`](axum#the-address-of-the-client) |
//! | read the body in a middleware function | [`axum`](axum#from_fn-inside-the-request-limit) |
//! | add CORS and authentication | [`axum`](axum#cors-and-authentication) |
//! | give each gRPC method its own timeout | [`placement`](crate::docs::placement#a-timeout-for-each-grpc-method) |
//! | call services with reqwest | [`clients`](clients#a-reqwest-client) |
//! | call many hosts with hyper | [`clients`](clients#a-hyper-client-with-a-breaker-for-each-host) |
//! | write a reverse proxy | [`proxy`] |
//! | call a database, or another client that is not HTTP | [`database`] |
//! | retry calls | [`retry`](retry#retry-within-a-budget) |
//! | pass a deadline on to calls | [`retry`](retry#pass-a-deadline-on) |
//! | write a policy of your own | [`policies`] |
//! | test timeouts and rejections in unit tests | [`testing`] |
//! | run on AWS Lambda | [`lambda`] |
//!
//! [`placement`](crate::docs::placement) has the rules that the recipes follow.

pub mod axum;
pub mod clients;
pub mod database;
pub mod lambda;
pub mod operation;
pub mod policies;
pub mod proxy;
pub mod retry;
pub mod settings;
pub mod streams;
pub mod testing;
