//! One gate for all policies: the calls of tokens, and the answers.

use std::future::pending;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use seawall::{
    Completion, ConcurrencyLimit, ConcurrencyLimitLayer, ConcurrencyLimitSettings, GateLayer,
    Outcome, Reason, Rejection, RequestHead, ResponseHead,
};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready, assert_ready_ok};
use tower::{BoxError, Layer, Service, ServiceExt};

use crate::handler::service_fn;
use crate::support::*;

/// Calls a gate with a recording policy over a service that answers at once, and passes the
/// response to `then`.
fn recorded(
    request: http::Request<Script>,
    response: impl Fn() -> Response<Script> + Send + Sync + 'static,
    then: impl AsyncFnOnce(seawall::Body<Script, Recorder>),
) -> Vec<Told> {
    let recorder = Recorder::new();
    let mut gate = GateLayer::from_policy(recorder.clone()).layer(answers(response));
    tokio_test::block_on(async {
        let response = gate.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.headers()["x-recorded"], "yes");
        then(response.into_body()).await;
    });
    recorder.told()
}

async fn collect<B>(body: B)
where
    B: http_body::Body,
{
    let _ = body.collect().await;
}

pub(crate) fn told(outcome: Outcome, completion: Completion) -> Vec<Told> {
    vec![
        Told::Head,
        Told::Settled(outcome),
        Told::Released(completion),
    ]
}

#[test]
fn an_http_verdict_falls_at_the_head() {
    let of = |status: u16, rejection: Option<Reason>| {
        let response = move || {
            let mut response = ok(Script::data(&["a"]));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.extensions_mut().extend(
                rejection
                    .map(|reason| {
                        let mut extensions = http::Extensions::new();
                        extensions.insert(Rejection::new(reason));
                        extensions
                    })
                    .unwrap_or_default(),
            );
            response
        };
        recorded(get(), response, collect)
    };
    assert_eq!(of(200, None), told(Outcome::Success, Completion::Complete));
    assert_eq!(of(404, None), told(Outcome::Success, Completion::Complete));
    assert_eq!(of(429, None), told(Outcome::Ignored, Completion::Complete));
    assert_eq!(of(500, None), told(Outcome::Failure, Completion::Complete));
    // The outcome of an inner rejection depends on its reason, not on its status.
    let full = Some(Reason::ConcurrencyLimit);
    assert_eq!(of(503, full), told(Outcome::Ignored, Completion::Complete));
    let timeout = Some(Reason::Timeout);
    assert_eq!(
        of(504, timeout),
        told(Outcome::Failure, Completion::Complete)
    );
    let panicked = Some(Reason::Panicked);
    assert_eq!(
        of(500, panicked),
        told(Outcome::Panicked, Completion::Complete)
    );
}

#[test]
fn the_verdict_is_out_while_the_body_still_runs() {
    let recorder = Recorder::new();
    let mut gate = GateLayer::from_policy(recorder.clone()).layer(answers(|| {
        ok(Script::new([Step::Data("a"), Step::Pending]))
    }));
    let response = assert_ready_ok!(spawn(gate.call(get())).poll());
    assert_eq!(
        recorder.told(),
        [Told::Head, Told::Settled(Outcome::Success)]
    );
    drop(response);
    assert_eq!(
        recorder.told(),
        told(Outcome::Success, Completion::Cancelled)
    );
}

#[test]
fn a_body_may_end_in_five_ways() {
    let of = |steps: &[Step]| {
        let steps = steps.to_vec();
        recorded(get(), move || ok(Script::new(steps.clone())), collect)
    };
    let a = Step::Data("a");
    assert_eq!(
        of(std::slice::from_ref(&a)),
        told(Outcome::Success, Completion::Complete)
    );
    assert_eq!(
        of(&[a.clone(), Step::Trailers("x", "y")]),
        told(Outcome::Success, Completion::Complete)
    );
    assert_eq!(
        of(&[a.clone(), Step::Error]),
        told(Outcome::Success, Completion::Failed)
    );
    let dropped = recorded(
        get(),
        || ok(Script::data(&["a", "b"])),
        async |mut body| {
            body.frame().await;
        },
    );
    assert_eq!(dropped, told(Outcome::Success, Completion::Cancelled));
    let panicked = recorded(
        get(),
        || ok(Script::new([Step::Data("a"), Step::Panic])),
        async |body| {
            tokio::spawn(body.collect()).await.unwrap_err();
        },
    );
    assert_eq!(panicked, told(Outcome::Success, Completion::Panicked));
}

/// The body may still have trailers, or an error such as a wrong checksum. A caller that polls
/// again gets it.
#[test]
fn what_comes_after_the_promised_bytes_is_passed_on() {
    async fn two_frames<B: http_body::Body<Data = Bytes> + Unpin>(mut body: B) {
        assert!(
            body.frame()
                .await
                .unwrap()
                .is_ok_and(|frame| frame.is_data())
        );
        let frame = body.frame().await.unwrap();
        assert!(frame.is_ok_and(|frame| frame.is_trailers()));
    }
    let steps = || [Step::Data("abc"), Step::Trailers("x", "y")];
    let response = move || ok(Script::new(steps()).exact(3));
    let complete = told(Outcome::Success, Completion::Complete);
    assert_eq!(recorded(get(), response, two_frames), complete);
}

#[test]
fn what_has_delivered_all_it_promised_is_complete_though_nobody_asks_for_the_end() {
    async fn one_frame<B: http_body::Body + Unpin>(mut body: B) {
        assert!(body.frame().await.is_some());
    }
    let complete = told(Outcome::Success, Completion::Complete);
    let exact = || ok(Script::data(&["abc", "rest"]).exact(3));
    assert_eq!(recorded(get(), exact, one_frame), complete);
    let declared = || {
        let mut response = ok(Script::data(&["abc", "rest"]));
        response
            .headers_mut()
            .insert("content-length", "3".parse().unwrap());
        response
    };
    assert_eq!(recorded(get(), declared, one_frame), complete);
    let knows = || ok(Script::data(&["abc"]).knowing_its_end());
    assert_eq!(recorded(get(), knows, one_frame), complete);
    let trailers = || ok(Script::new([Step::Trailers("x", "y"), Step::Data("rest")]));
    assert_eq!(recorded(get(), trailers, one_frame), complete);
    let longer = || ok(Script::data(&["ab", "c"]).exact(3));
    assert_eq!(
        recorded(get(), longer, one_frame),
        told(Outcome::Success, Completion::Cancelled)
    );
}

#[test]
fn what_has_no_body_is_over_at_the_head() {
    let complete = told(Outcome::Success, Completion::Complete);
    let nothing = async |_| {};
    let data = || ok(Script::data(&["a"]));
    assert_eq!(recorded(head(), data, nothing), complete);
    // Over HTTP/2, hyper sends such a body too.
    let mut request = http2();
    *request.method_mut() = http::Method::HEAD;
    let cancelled = told(Outcome::Success, Completion::Cancelled);
    assert_eq!(recorded(request, data, nothing), cancelled);
    for status in [204_u16, 304] {
        let bare = move || {
            let mut response = ok(Script::data(&["a"]));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        };
        assert_eq!(recorded(get(), bare, nothing), complete, "{status}");
    }
    let empty = || ok(Script::default().knowing_its_end());
    assert_eq!(recorded(get(), empty, nothing), complete);
}

#[test]
fn a_grpc_verdict_falls_at_the_trailers() {
    let of = |steps: &[Step], read_all: bool| {
        let steps = steps.to_vec();
        let response = move || {
            let mut response = ok(Script::new(steps.clone()));
            let grpc = "application/grpc+proto".parse().unwrap();
            response.headers_mut().insert("content-type", grpc);
            response
        };
        recorded(grpc(), response, async |mut body| {
            body.frame().await;
            if read_all {
                collect(body).await;
            }
        })
    };
    let data = Step::Data("message");
    let status = |code| [Step::Data("message"), Step::Trailers("grpc-status", code)];
    assert_eq!(
        of(&status("0"), true),
        told(Outcome::Success, Completion::Complete)
    );
    assert_eq!(
        of(&status("5"), true),
        told(Outcome::Success, Completion::Complete)
    );
    assert_eq!(
        of(&status("8"), true),
        told(Outcome::Ignored, Completion::Complete)
    );
    for code in ["2", "4", "13", "14", "15"] {
        assert_eq!(
            of(&status(code), true),
            told(Outcome::Failure, Completion::Complete),
            "{code}"
        );
    }
    assert_eq!(
        of(&status("0"), false),
        told(Outcome::Cancelled, Completion::Cancelled)
    );
    let exact = recorded(
        grpc(),
        || {
            let trailers = Step::Trailers("grpc-status", "0");
            let mut response = ok(Script::new([Step::Data("message"), trailers]).exact(7));
            let grpc = "application/grpc".parse().unwrap();
            response.headers_mut().insert("content-type", grpc);
            response
        },
        collect,
    );
    assert_eq!(
        exact,
        told(Outcome::Success, Completion::Complete),
        "the trailers count"
    );
    let broken = [data.clone(), Step::Error];
    assert_eq!(
        of(&broken, true),
        told(Outcome::Failure, Completion::Failed)
    );
    assert_eq!(
        of(&[data], true),
        told(Outcome::Failure, Completion::Complete)
    );
}

#[test]
fn a_trailers_only_response_is_judged_by_its_status() {
    let of = |status: &'static str| {
        let response = move || {
            let mut response = ok(Script::default().knowing_its_end());
            let headers = response.headers_mut();
            headers.insert("content-type", "application/grpc".parse().unwrap());
            headers.insert("grpc-status", status.parse().unwrap());
            response
        };
        recorded(grpc(), response, collect)
    };
    assert_eq!(of("0"), told(Outcome::Success, Completion::Complete));
    assert_eq!(of("14"), told(Outcome::Failure, Completion::Complete));
}

#[test]
fn a_call_that_is_dropped_or_unwinds_is_told_once() {
    type Call = std::pin::Pin<Box<dyn Future<Output = Result<(), BoxError>>>>;

    fn gate<F, Fut>(call: F) -> (Recorder, impl FnMut() -> tokio_test::task::Spawn<Call>)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<Script>, BoxError>> + Send + 'static,
    {
        let recorder = Recorder::new();
        let call = service_fn(move |_| call());
        let mut gate = GateLayer::from_policy(recorder.clone()).layer(call);
        (recorder, move || {
            let call = gate.call(get());
            let call: Call = Box::pin(async move { call.await.map(drop) });
            spawn(call)
        })
    }

    let cancelled = [
        Told::Settled(Outcome::Cancelled),
        Told::Released(Completion::Cancelled),
    ];
    let panicked = [
        Told::Settled(Outcome::Panicked),
        Told::Released(Completion::Panicked),
    ];
    let (recorder, mut call) = gate(|| async { pending().await });
    drop(call());
    assert_eq!(recorder.told(), cancelled, "before the first poll");

    let (recorder, mut call) = gate(|| async { pending().await });
    let mut future = call();
    assert_pending!(future.poll());
    drop(future);
    assert_eq!(recorder.told(), cancelled, "after the first poll");

    let (recorder, mut call) = gate(|| async { panic!("in the future") });
    unwinds(|| {
        let _ = call().poll();
    });
    assert_eq!(recorder.told(), panicked, "in the future");

    let (recorder, mut call) = gate(|| -> std::future::Ready<_> { panic!("in the call") });
    unwinds(|| drop(call()));
    assert_eq!(recorder.told(), panicked, "in the call");

    // Dropped while an unrelated panic unwinds: it does not count.
    let (recorder, mut call) = gate(|| async { pending().await });
    unwinds(|| {
        let mut future = call();
        assert_pending!(future.poll());
        panic!("elsewhere");
    });
    assert_eq!(recorder.told(), cancelled, "elsewhere");

    let recorder = Recorder::new();
    let settings = ConcurrencyLimitSettings::fixed(1).queue(1, std::time::Duration::from_secs(1));
    let limit = ConcurrencyLimit::new(settings).unwrap();
    let _permit = limit.try_acquire_owned().unwrap();
    let queued = GateLayer::from_policy((recorder.clone(), limit));
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().start_paused(true).build();
    let _entered = runtime.as_ref().unwrap().enter();
    unwinds(|| {
        let mut future = spawn(queued.layer(answers(|| ok(Script::default()))).call(get()));
        assert_pending!(future.poll());
        panic!("elsewhere");
    });
    assert_eq!(recorder.told(), cancelled, "elsewhere, in the queue");

    let recorder = Recorder::new();
    let mut classified = GateLayer::from_policy(recorder.clone())
        .classify(|_| -> Outcome { panic!("in classify") })
        .layer(answers(|| ok(Script::default())));
    unwinds(|| {
        let _ = spawn(classified.call(get())).poll();
    });
    assert_eq!(recorder.told()[1..], panicked, "in classify");

    let (recorder, mut call) = gate(|| async { Err("no".into()) });
    assert!(assert_ready!(call().poll()).is_err());
    assert_eq!(
        recorder.told(),
        told(Outcome::Failure, Completion::Complete)[1..]
    );
}

fn unwinds(code: impl FnOnce()) {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(code)).unwrap_err();
}

#[test]
fn a_rejection_in_a_boxed_error_speaks_for_itself() {
    let of = |error: fn() -> BoxError| {
        let recorder = Recorder::new();
        let call = service_fn(move |_: u32| std::future::ready(Err::<(), _>(error())));
        let mut gate = GateLayer::from_policy(recorder.clone()).plain().layer(call);
        assert!(assert_ready!(spawn(gate.call(1)).poll()).is_err());
        recorder.told()[0]
    };
    assert_eq!(of(|| "no".into()), Told::Settled(Outcome::Failure));
    let full = || Rejection::new(Reason::ConcurrencyLimit).into();
    assert_eq!(of(full), Told::Settled(Outcome::Ignored));
    let timeout = || Rejection::new(Reason::Timeout).into();
    assert_eq!(of(timeout), Told::Settled(Outcome::Failure));
}

#[test]
fn classify_has_the_first_word_but_not_about_rejections() {
    let recorder = Recorder::new();
    let mut gate = GateLayer::from_policy(recorder.clone())
        .classify(|head: &ResponseHead<'_>| (head.status == 404).then_some(Outcome::Failure))
        .layer(answers(|| {
            let mut response = ok(Script::data(&[]));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }));
    let _ = spawn(gate.call(get())).poll();
    assert!(recorder.told().contains(&Told::Settled(Outcome::Failure)));

    let recorder = Recorder::new();
    let mut gate = GateLayer::from_policy(recorder.clone())
        .classify(|_| Outcome::Failure)
        .layer(
            GateLayer::from_policy(No::new(Reason::ConcurrencyLimit))
                .layer(answers(|| unreachable!())),
        );
    let _ = spawn(gate.call(get())).poll();
    assert!(recorder.told().contains(&Told::Settled(Outcome::Ignored)));

    let recorder = Recorder::new();
    let mut gate = GateLayer::from_policy(recorder.clone())
        .plain()
        .classify(|result: &Result<u32, BoxError>| match result {
            Ok(7) => Some(Outcome::Failure),
            _ => None,
        })
        .layer(service_fn(|n: u32| std::future::ready(Ok(n))));
    let _ = spawn(gate.call(7)).poll();
    let _ = spawn(gate.call(8)).poll();
    let told = recorder.told();
    assert_eq!(told[0], Told::Settled(Outcome::Failure));
    assert_eq!(told[2], Told::Settled(Outcome::Success));
}

#[tokio::test]
async fn exempt_requests_are_not_asked_about() {
    let no = No::new(Reason::ConcurrencyLimit);
    let mut gate = GateLayer::from_policy(no.clone())
        .exempt(|head: &RequestHead<'_>| head.uri.path() == "/health")
        .layer(answers(|| ok(Script::default())));
    let mut health = get();
    *health.uri_mut() = "/health".parse().unwrap();
    assert_eq!(gate.call(health).await.unwrap().status(), 200);
    assert_eq!(gate.call(get()).await.unwrap().status(), 503);
    assert_eq!(no.reporter.rejected(), 1);

    let mut plain = GateLayer::from_policy(no)
        .plain()
        .exempt(|n: &u32| *n == 1)
        .layer(service_fn(async |n: u32| Ok::<_, BoxError>(n)));
    assert_eq!(plain.call(1).await.unwrap(), 1);
    let error = plain.call(2).await.unwrap_err();
    let rejection = error.downcast::<Rejection>().unwrap();
    assert_eq!(rejection.reason(), Reason::ConcurrencyLimit);
}

#[tokio::test]
async fn exempt_goes_round_a_waiting_room_too() {
    let limit = ConcurrencyLimit::new(
        ConcurrencyLimitSettings::fixed(1).queue(1, std::time::Duration::from_secs(1)),
    )
    .unwrap();
    let mut gate = ConcurrencyLimitLayer::new(limit.clone())
        .exempt(|head: &RequestHead<'_>| head.uri.path() == "/health")
        .layer(answers(|| ok(Script::data(&["a"]))));
    let first = gate.call(get()).await.unwrap();
    let mut waiting = spawn(gate.call(get()));
    assert_pending!(waiting.poll());
    let mut health = get();
    *health.uri_mut() = "/health".parse().unwrap();
    let health = gate.call(health).await.unwrap();
    assert_eq!((limit.in_flight(), limit.queued()), (1, 1));
    drop(first);
    assert!(waiting.is_woken());
    assert_eq!(assert_ready_ok!(waiting.poll()).status(), 200);
    drop(health);
    assert_eq!((limit.in_flight(), limit.queued()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn after_waiting_grpc_is_still_grpc_and_a_panic_a_panic() {
    let second = std::time::Duration::from_secs(1);
    let limit = ConcurrencyLimit::new(ConcurrencyLimitSettings::fixed(1).queue(1, second)).unwrap();
    let recorder = Recorder::new();
    let layer = GateLayer::from_policy((recorder.clone(), limit.clone()));
    let mut gate = layer.layer(service_fn(
        |_| -> std::future::Ready<Result<Response<Script>, BoxError>> { panic!("in the call") },
    ));
    let permit = limit.try_acquire().unwrap();
    let late = gate.call(grpc()).await.unwrap();
    assert_eq!(
        (late.status().as_u16(), &late.headers()["grpc-status"]),
        (200, &"8".parse().unwrap())
    );

    let mut waiting = spawn(gate.call(get()));
    assert_pending!(waiting.poll());
    drop(permit);
    unwinds(|| {
        let _ = waiting.poll();
    });
    assert!(recorder.told().contains(&Told::Settled(Outcome::Panicked)));
    drop(waiting);
    assert_eq!(limit.in_flight(), 0);
}

#[test]
fn a_token_behind_exempt_is_settled_and_released() {
    let recorder = Recorder::new();
    let mut gate = GateLayer::from_policy(recorder.clone())
        .exempt(|_| false)
        .layer(answers(|| ok(Script::default().knowing_its_end())));
    let response = assert_ready_ok!(spawn(gate.call(get())).poll());
    assert_eq!(response.headers()["x-recorded"], "yes");
    assert_eq!(
        recorder.told(),
        told(Outcome::Success, Completion::Complete)
    );
}
