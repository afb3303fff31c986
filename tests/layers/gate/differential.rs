//! One gate over six policies behaves like six nested layers.
//!
//! The same random script runs through both: requests, changes of settings, steps of the clock, and
//! polls and drops at any point. After every step, both have the same answers, counters and states,
//! and have settled and released the same requests in the same order.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use seawall::policy::{Admission, NoWait, Policy};
use seawall::{
    CatchPanic, CatchPanicLayer, CircuitBreaker, CircuitBreakerLayer, CircuitBreakerSettings,
    Completion, ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitSettings, GateLayer,
    HttpRequest, LagShed, LagShedLayer, LagThresholds, Outcome, Reason, Rejection, Reporter,
    RequestHead, RequestLimit, RequestLimitLayer, Timeout, TimeoutLayer,
};
use tokio::task::yield_now;
use tokio::time::advance;
use tower::{BoxError, Layer, Service, ServiceBuilder};

use crate::support::{Script, Step, steps, unwind};

const DAY: Duration = Duration::from_secs(86400);
/// Every thousandth step of the script starts again with another seed.
const STEPS_PER_SEED: u64 = 1000;
const MAX_LIVE: usize = 8;
const MAX_BODY: u64 = 10;

/// The behaviour of the inner service for a request.
#[derive(Clone, Debug)]
struct Plan {
    id: u32,
    panics_in_call: bool,
    reads_body: bool,
    pending: u8,
    then: Then,
    body: Vec<Step>,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Panics,
    Responds(u16),
    RespondsGrpc,
}

/// The inner service of both.
#[derive(Clone)]
struct Inner;

impl<B> Service<Request<B>> for Inner
where
    B: Body + Send + 'static,
{
    type Response = Response<Script>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Script>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut plan = request.extensions().get::<Plan>().unwrap().clone();
        if plan.panics_in_call {
            unwind();
        }
        let mut body = plan.reads_body.then(|| Box::pin(request.into_body()));
        Box::pin(std::future::poll_fn(move |cx| {
            while let Some(reading) = &mut body {
                match reading.as_mut().poll_frame(cx) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(_)) | None) => body = None,
                    Poll::Pending => return Poll::Pending,
                }
            }
            if let Some(rest) = plan.pending.checked_sub(1) {
                plan.pending = rest;
                return Poll::Pending;
            }
            let mut response = Response::new(Script::new(std::mem::take(&mut plan.body)));
            match plan.then {
                Then::Panics => unwind(),
                Then::Responds(status) => {
                    *response.status_mut() = StatusCode::from_u16(status).unwrap();
                }
                Then::RespondsGrpc => {
                    let grpc = "application/grpc".parse().unwrap();
                    response.headers_mut().insert("content-type", grpc);
                }
            }
            Poll::Ready(Ok(response))
        }))
    }
}

/// Rejects while its flag is set, as a lag shedder does under load.
#[derive(Clone)]
struct Shed {
    sheds: Arc<AtomicBool>,
    reporter: Reporter,
}

impl Policy<HttpRequest> for Shed {
    type Token = ();
    type Wait = NoWait;

    fn admit(&self, _: &RequestHead<'_>) -> Admission<(), NoWait> {
        if self.sheds.load(Relaxed) {
            return Admission::Reject(self.reporter.reject(Reason::Overloaded));
        }
        Admission::Admit(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Admitted,
    Settled(Outcome),
    Released(Completion),
}

/// Records the calls that it gets.
#[derive(Clone, Default)]
struct Witness(Arc<Mutex<Vec<(u32, Event)>>>);

impl Witness {
    fn log(&self, id: u32, event: Event) {
        self.0.lock().unwrap().push((id, event));
    }

    fn has_settled(&self, id: u32) -> bool {
        let log = self.0.lock().unwrap();
        log.iter()
            .any(|(of, event)| *of == id && matches!(event, Event::Settled(_)))
    }

    fn take(&self) -> Vec<(u32, Event)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Policy<HttpRequest> for Witness {
    type Token = (u32, u8);
    type Wait = NoWait<(u32, u8)>;

    fn admit(&self, head: &RequestHead<'_>) -> Admission<(u32, u8), Self::Wait> {
        let id = head.extensions.get::<Plan>().unwrap().id;
        self.log(id, Event::Admitted);
        Admission::Admit((id, 0))
    }

    fn settle(&self, (id, calls): &mut (u32, u8), outcome: Outcome) {
        assert_eq!(std::mem::replace(calls, 1), 0, "settled once");
        self.log(*id, Event::Settled(outcome));
    }

    fn release(&self, (id, calls): &mut (u32, u8), completion: Completion) {
        assert_eq!(
            std::mem::replace(calls, 2),
            1,
            "released once, after it is settled"
        );
        self.log(*id, Event::Released(completion));
    }
}

/// The parts of one of the two stacks.
#[derive(Clone)]
struct Parts {
    catch_panic: CatchPanic,
    lag_shed: LagShed,
    shed: Shed,
    breaker: CircuitBreaker,
    before: Witness,
    timeout: Timeout,
    after: Witness,
    limit: ConcurrencyLimit,
    requests: RequestLimit,
}

impl Parts {
    fn new(sheds: &Arc<AtomicBool>) -> Self {
        let settings = CircuitBreakerSettings::default()
            .failure_rate(0.6)
            .minimum_calls(6)
            .open_duration(Duration::from_millis(900))
            .half_open_probes(2);
        Self {
            catch_panic: CatchPanic::new(),
            // A machine that is short of CPU must not change an answer.
            lag_shed: LagShed::new(LagThresholds::default().max_arm(DAY).arm(DAY)).unwrap(),
            shed: Shed {
                sheds: sheds.clone(),
                reporter: Reporter::new("shed"),
            },
            breaker: CircuitBreaker::new(settings).unwrap(),
            before: Witness::default(),
            timeout: Timeout::from(Duration::from_millis(700)),
            after: Witness::default(),
            limit: ConcurrencyLimit::new(
                ConcurrencyLimitSettings::fixed(3).queue(2, Duration::from_millis(400)),
            )
            .unwrap(),
            requests: RequestLimit::from(MAX_BODY),
        }
    }

    /// All readable state. In nested layers, a deadline that includes the body also ends the answer
    /// of an inner layer: those are not counted.
    fn state(&self, cut: u64) -> impl PartialEq + std::fmt::Debug + use<> {
        let timed_out = self.timeout.snapshot().timed_out - cut;
        (
            self.catch_panic.snapshot(),
            self.breaker.snapshot(),
            (timed_out, self.timeout.snapshot().malformed),
            self.limit.snapshot(),
            self.requests.snapshot(),
            self.shed.reporter.rejected(),
        )
    }
}

type Call = Pin<Box<dyn Future<Output = Result<Response<AnyBody>, Infallible>>>>;
type AnyBody = Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>;

/// A request in one of the two stacks.
enum Live {
    Calling(Call),
    Reading(AnyBody),
    Over,
}

/// The result of a poll.
#[derive(Debug, PartialEq)]
enum Seen {
    Pending,
    Head(u16, Option<Reason>),
    Data(Bytes),
    Trailers(Option<String>),
    Error,
    Unwound,
    End,
}

impl Live {
    /// `cut` counts the answers of a layer that the deadline of an outer layer ended.
    fn poll(&mut self, cut: &mut u64) -> Seen {
        let mut cx = Context::from_waker(Waker::noop());
        match self {
            Live::Calling(call) => match call.as_mut().poll(&mut cx) {
                Poll::Pending => Seen::Pending,
                Poll::Ready(Ok(response)) => {
                    let rejection = response.extensions().get::<Rejection>();
                    let reason = rejection.map(Rejection::reason);
                    let seen = Seen::Head(response.status().as_u16(), reason);
                    *self = Live::Reading(response.into_body());
                    if reason.is_some() {
                        // The answer is read at once, since the outer nested layers hold their
                        // tokens until then.
                        loop {
                            match self.poll(cut) {
                                Seen::End => break,
                                Seen::Error => *cut += 1,
                                _ => {}
                            }
                        }
                    }
                    seen
                }
            },
            Live::Reading(body) => {
                let seen = match body.as_mut().poll_frame(&mut cx) {
                    Poll::Pending => return Seen::Pending,
                    Poll::Ready(None) => Seen::End,
                    Poll::Ready(Some(Err(_))) => Seen::Error,
                    Poll::Ready(Some(Ok(frame))) => match Frame::into_data(frame) {
                        Ok(data) => Seen::Data(data),
                        Err(frame) => {
                            let trailers = frame.into_trailers().unwrap();
                            let status = trailers.get("grpc-status");
                            Seen::Trailers(status.map(|status| status.to_str().unwrap().into()))
                        }
                    },
                };
                if matches!(seen, Seen::End | Seen::Error) {
                    *self = Live::Over;
                }
                seen
            }
            Live::Over => Seen::End,
        }
    }
}

/// A service with its types hidden.
type Start = Box<dyn FnMut(Request<Script>) -> Call>;

fn start<S, B>(mut service: S) -> Start
where
    S: Service<Request<Script>, Response = Response<B>, Error = Infallible> + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    Box::new(move |request| {
        let call = service.call(request);
        Box::pin(async move {
            let response = call.await?;
            Ok(response.map(|body| {
                Box::pin(http_body_util::BodyExt::map_err(body, Into::into)) as AnyBody
            }))
        })
    })
}

fn fused(parts: &Parts) -> Start {
    let parts = parts.clone();
    let timeout = TimeoutLayer::new(parts.timeout).including_body();
    let policies = (
        parts.catch_panic,
        (parts.lag_shed, parts.shed),
        (parts.before, parts.breaker),
        timeout.policy().clone(),
        parts.after,
        parts.requests,
        parts.limit,
    );
    start(GateLayer::from_policy(policies).layer(Inner))
}

fn nested(parts: &Parts) -> Start {
    let parts = parts.clone();
    start(
        ServiceBuilder::new()
            .layer(CatchPanicLayer::from_policy(parts.catch_panic))
            .layer(LagShedLayer::new(parts.lag_shed))
            .layer(GateLayer::from_policy(parts.shed))
            .layer(GateLayer::from_policy(parts.before))
            .layer(CircuitBreakerLayer::new(parts.breaker))
            .layer(TimeoutLayer::new(parts.timeout).including_body())
            .layer(GateLayer::from_policy(parts.after))
            .layer(ConcurrencyLimitLayer::new(parts.limit))
            .layer(RequestLimitLayer::new(parts.requests))
            .service(Inner),
    )
}

/// A request, the same for both stacks.
fn request(random: &mut fastrand::Rng, id: u32) -> impl Fn() -> Request<Script> + use<> {
    let is_grpc = random.u8(..4) == 0;
    let mut body = Vec::new();
    for _ in 0..random.u8(..3) {
        let step = match random.u8(..8) {
            0 => Step::Pending,
            1 => Step::Error,
            2 if random.bool() => Step::Panic,
            _ => Step::Data("abc"),
        };
        body.push(step);
    }
    if is_grpc && random.u8(..4) > 0 {
        let status = *random.choice(&["0", "5", "14"]).unwrap();
        body.push(Step::Trailers("grpc-status", status));
    }
    let plan = Plan {
        id,
        panics_in_call: random.u8(..32) == 0,
        reads_body: random.bool(),
        pending: random.u8(..4),
        then: match random.u8(..16) {
            0 => Then::Panics,
            1..4 => Then::Responds(500),
            4 => Then::Responds(429),
            5 => Then::Responds(204),
            _ if is_grpc => Then::RespondsGrpc,
            _ => Then::Responds(200),
        },
        body,
    };
    // Over HTTP/1, the answer to a request whose body must be read first comes later, and with it
    // the outcome for nested layers.
    let is_http2 = is_grpc || random.bool();
    let chunks = random.usize(..if is_http2 { 6 } else { 2 });
    let declares = random.bool();
    let asks = (random.u8(..8) == 0).then(|| format!("{}m", random.u16(1..900)));
    move || {
        let mut steps = vec![Step::Data("abc"); chunks];
        if chunks > 1 {
            steps.insert(1, Step::Pending);
        }
        let mut script = Script::new(steps);
        if declares {
            script = script.exact(chunks as u64 * 3);
        }
        let mut request = Request::new(script);
        request.extensions_mut().insert(plan.clone());
        if is_http2 {
            *request.version_mut() = http::Version::HTTP_2;
            *request.method_mut() = http::Method::POST;
        }
        if is_grpc {
            let grpc = "application/grpc".parse().unwrap();
            request.headers_mut().insert("content-type", grpc);
        }
        if let Some(asks) = &asks {
            let headers = request.headers_mut();
            headers.insert("grpc-timeout", asks.parse().unwrap());
        }
        request
    }
}

struct Pair {
    fused: Live,
    nested: Live,
    is_grpc: bool,
    /// A layer has answered or ended the request. Its completion is not compared: a nested inner
    /// layer is dropped, and a policy in the same gate is released.
    is_ended_by_layer: bool,
}

impl Pair {
    /// Polls both, and compares the results.
    fn poll(&mut self, cut: &mut [u64; 2]) -> Seen {
        let [cut_fused, cut_nested] = cut;
        let sides = [(&mut self.fused, cut_fused), (&mut self.nested, cut_nested)];
        let [fused, nested] = sides.map(|(live, cut)| {
            let poll = AssertUnwindSafe(|| live.poll(cut));
            catch_unwind(poll).unwrap_or(Seen::Unwound)
        });
        assert_eq!(fused, nested);
        self.is_ended_by_layer |= matches!(
            fused,
            Seen::Head(_, Some(_)) | Seen::Error | Seen::Trailers(_)
        );
        fused
    }

    fn is_over(&self) -> bool {
        matches!(self.nested, Live::Over)
    }

    fn is_reading(&self) -> bool {
        matches!(self.nested, Live::Reading(_))
    }

    fn drop_both(&mut self) {
        (self.fused, self.nested) = (Live::Over, Live::Over);
    }
}

/// Checks that both witnesses recorded the same calls in the same order.
///
/// A step of the clock ends several requests at the same time: those are compared one by one.
fn compare(fused: &Witness, nested: &Witness, live: &BTreeMap<u32, Pair>, is_step: bool) {
    let [fused, nested] = [fused, nested].map(|witness| {
        let mut events = witness.take();
        for (id, event) in &mut events {
            let ended = live.get(id).is_some_and(|pair| pair.is_ended_by_layer);
            if let (true, Event::Released(completion)) = (ended, event) {
                *completion = Completion::Complete;
            }
        }
        if is_step {
            events.sort_by_key(|(id, _)| *id);
        }
        events
    });
    assert_eq!(fused, nested);
}

async fn play(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let sheds = Arc::new(AtomicBool::new(false));
    let parts = [Parts::new(&sheds), Parts::new(&sheds)];
    let (mut to_fused, mut to_nested) = (fused(&parts[0]), nested(&parts[1]));
    let mut live = BTreeMap::<u32, Pair>::new();
    let (mut over, mut cut) = (Vec::new(), [0; 2]);
    for step in 0..STEPS_PER_SEED {
        let any = random.choice(live.keys()).copied();
        let action = random.u8(..24);
        match (action, any) {
            (0..7, _) if live.len() < MAX_LIVE => {
                let id = u32::try_from(step).unwrap();
                let request = request(&mut random, id);
                let pair = live.entry(id).or_insert(Pair {
                    fused: Live::Over,
                    nested: Live::Over,
                    is_grpc: request().version() == http::Version::HTTP_2,
                    is_ended_by_layer: false,
                });
                pair.fused = Live::Calling(to_fused(request()));
                pair.nested = Live::Calling(to_nested(request()));
                // One gate settles a rejected request when it is called; nested layers settle it
                // when it is polled.
                if parts[0].before.has_settled(id) || random.u8(..8) > 0 {
                    pair.poll(&mut cut);
                }
            }
            (7..9, Some(any)) => {
                live.get_mut(&any).unwrap().drop_both();
            }
            (9, _) => {
                // One gate settles a gRPC response when its body is ended from outside; nested
                // layers settle it when it is polled. There is at most one such response, and it is
                // polled first.
                let streams = live
                    .values_mut()
                    .filter(|pair| pair.is_grpc && pair.is_reading());
                streams.skip(1).for_each(Pair::drop_both);
                compare(&parts[0].before, &parts[1].before, &live, false);
                let time = random.u64(1..1000);
                advance(Duration::from_millis(time)).await;
                // The task that ends bodies runs now.
                yield_now().await;
                let (reading, calling) = live
                    .values_mut()
                    .partition::<Vec<_>, _>(|pair| pair.is_reading());
                let (grpc, http) = reading
                    .into_iter()
                    .partition::<Vec<_>, _>(|pair| pair.is_grpc);
                for pair in grpc.into_iter().chain(http).chain(calling) {
                    pair.poll(&mut cut);
                }
            }
            (10, _) => sheds.store(random.u8(..8) == 0, Relaxed),
            (11, _) => {
                let limit = random.usize(1..4);
                let time = Duration::from_millis(random.u64(1..900));
                let breaker = random.u8(..24);
                for parts in &parts {
                    parts.limit.set_limit(limit).unwrap();
                    parts.timeout.set_duration(time).unwrap();
                    match breaker {
                        0 => parts.breaker.trip(),
                        1 => parts.breaker.force_closed(),
                        2 => parts.breaker.reset(),
                        _ => {}
                    }
                }
            }
            (_, Some(any)) => {
                live.get_mut(&any).unwrap().poll(&mut cut);
            }
            (_, None) => {}
        }
        compare(&parts[0].before, &parts[1].before, &live, action == 9);
        compare(&parts[0].after, &parts[1].after, &live, action == 9);
        let [fused, nested] = [0, 1].map(|n| parts[n].state(cut[n]));
        assert_eq!(fused, nested, "at step {step}");
        over.extend(
            live.iter()
                .filter(|(_, pair)| pair.is_over())
                .map(|(id, _)| *id),
        );
        for id in over.drain(..) {
            live.remove(&id);
        }
    }
}

async fn play_seeds(seeds: impl Iterator<Item = u64>) {
    seawall::pool_timers_when_paused();
    for seed in seeds {
        let play = AssertUnwindSafe(play(seed));
        if let Err(payload) = futures_util::FutureExt::catch_unwind(play).await {
            println!("seed {seed}");
            std::panic::resume_unwind(payload);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_gate_does_what_nested_layers_do() {
    play_seeds((0..steps() / STEPS_PER_SEED).step_by(2)).await;
}

/// The other half of the steps, for the other core.
#[tokio::test(start_paused = true)]
async fn one_gate_does_what_nested_layers_do_again() {
    play_seeds((1..steps() / STEPS_PER_SEED).step_by(2)).await;
}
