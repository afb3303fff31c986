//! A panic ends its own request and no other.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body_util::BodyExt;
use seawall::{
    BodyError, CatchPanic, CatchPanicLayer, PanicReport, Reason, Rejection, WireProtocol,
};
use tokio_test::task::spawn;
use tokio_test::{assert_ready_err, assert_ready_ok};
use tower::{BoxError, Layer, Service};

use crate::handler::service_fn;
use crate::support::*;

type Answer = Result<Response<Script>, Infallible>;

/// A service that panics at a given point.
#[derive(Clone)]
struct Panics {
    in_ready: bool,
    in_call: bool,
}

impl Service<Request<Script>> for Panics {
    type Response = Response<Script>;
    type Error = Infallible;
    type Future = std::future::Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        assert!(!std::mem::take(&mut self.in_ready), "in poll_ready");
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Script>) -> Self::Future {
        assert!(!self.in_call, "in call");
        std::future::ready(Ok(ok(Script::default())))
    }
}

/// The calls of a hook.
type Seen = Arc<Mutex<Vec<String>>>;

fn note(seen: &Seen) -> impl Fn(&PanicReport<'_>) + Clone + use<> {
    let seen = seen.clone();
    move |panic| {
        let request = panic.request().unwrap();
        seen.lock().unwrap().push(format!(
            "{} {} {:?} {}",
            request.method,
            request.uri,
            request.request_id,
            panic.message().unwrap()
        ));
    }
}

async fn body<B>(response: Response<B>) -> String
where
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_panic_in_call_or_the_future_is_a_500_without_payload() {
    let (handle, seen) = (CatchPanic::new().named("api"), Seen::default());
    let layer = CatchPanicLayer::from(handle.clone()).on_panic(note(&seen));
    let in_future =
        service_fn(async |_: Request<Script>| -> Answer { panic!("in the {}", "future") });
    let mut request = get();
    *request.uri_mut() = "/a?b".parse().unwrap();
    let id = "42".parse().unwrap();
    request.headers_mut().insert("x-request-id", id);
    let response = layer.layer(in_future).call(request).await.unwrap();
    assert_eq!(response.status(), 500);
    let rejection: &Rejection = response.extensions().get().unwrap();
    assert_eq!(
        (rejection.reason(), rejection.name()),
        (Reason::Panicked, "api")
    );
    assert!(!body(response).await.contains("future"));

    let in_call = Panics {
        in_ready: false,
        in_call: true,
    };
    let response = layer.layer(in_call).call(get()).await.unwrap();
    assert_eq!(response.status(), 500);

    assert_eq!(
        *seen.lock().unwrap(),
        [r#"GET /a?b Some("42") in the future"#, "GET / None in call"]
    );
    assert_eq!(handle.panics(), 2);
    assert_eq!(handle.snapshot().panics, 2);
}

#[tokio::test]
async fn grpc_reads_internal() {
    let mut service =
        CatchPanicLayer::new().layer(service_fn(async |_: Request<Script>| -> Answer {
            panic!("secret")
        }));
    let response = service.call(grpc()).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "13");
    assert!(!format!("{:?}", response.headers()).contains("secret"));
}

#[tokio::test]
async fn a_panic_in_poll_ready_is_answered_at_the_next_call_of_that_instance() {
    let seen = Seen::default();
    let mut service = CatchPanicLayer::new().on_panic(note(&seen)).layer(Panics {
        in_ready: true,
        in_call: false,
    });
    let ready = |service: &mut _| spawn_ready(service);
    ready(&mut service);
    let mut clone = service.clone();
    ready(&mut service); // it stays ready
    let response = service.call(get()).await.unwrap();
    assert_eq!(response.status(), 500);
    assert_eq!(*seen.lock().unwrap(), ["GET / None in poll_ready"]);
    ready(&mut service);
    assert_eq!(service.call(get()).await.unwrap().status(), 200, "once");
    ready(&mut clone);
    assert_eq!(clone.call(get()).await.unwrap().status(), 200, "not cloned");
}

fn spawn_ready<S: Service<Request<Script>, Error = Infallible>>(service: &mut S) {
    let ready = service.poll_ready(&mut Context::from_waker(std::task::Waker::noop()));
    assert_eq!(ready, Poll::Ready(Ok(())));
}

#[tokio::test]
async fn a_panic_in_the_body_is_its_end() {
    let (handle, seen) = (CatchPanic::new(), Seen::default());
    let token = Arc::new(());
    let held = token.clone();
    let mut service = CatchPanicLayer::from(handle.clone())
        .on_panic(note(&seen))
        .layer(answers(move || {
            ok(Script::new([Step::Data("a"), Step::Panic, Step::Data("b")]).holding(&held))
        }));
    let mut body = service.call(get()).await.unwrap().into_body();
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "a"
    );
    let error: BodyError = body.frame().await.unwrap().unwrap_err();
    assert_eq!(error.rejection().unwrap().reason(), Reason::Panicked);
    assert!(!format!("{error} {error:?}").contains("scripted"));
    assert!(body.frame().await.is_none());
    drop(service);
    assert_eq!(
        Arc::strong_count(&token),
        1,
        "the broken body is dropped at once"
    );
    assert_eq!(*seen.lock().unwrap(), ["GET / None scripted"]);
    assert_eq!(handle.panics(), 1);
}

#[tokio::test]
async fn a_panic_in_the_responder_gets_the_default_answer() {
    let handle = CatchPanic::new();
    let mut service = CatchPanicLayer::from(handle.clone())
        .respond_with(|_: &Rejection, _: WireProtocol| panic!("the responder too"))
        .layer(service_fn(async |_: Request<Script>| -> Answer {
            panic!("first")
        }));
    let response = service.call(get()).await.unwrap();
    assert_eq!(response.status(), 500);
    assert_eq!(reason(&response), Some(Reason::Panicked));
    assert_eq!(handle.panics(), 2);
}

#[tokio::test]
async fn a_panic_in_the_hook_is_swallowed_and_so_is_one_in_the_payload() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "in the payload's drop");
        }
    }
    let mut service = CatchPanicLayer::new()
        .on_panic(|_| panic!("in the hook"))
        .layer(service_fn(async |_: Request<Script>| -> Answer {
            std::panic::panic_any(Bomb)
        }));
    assert_eq!(service.call(get()).await.unwrap().status(), 500);
}

#[tokio::test]
async fn plain_services_get_an_error() {
    let seen = Arc::new(Mutex::new(None));
    let told = seen.clone();
    let mut service = CatchPanicLayer::new()
        .on_panic(move |panic| {
            assert!(panic.request().is_none());
            *told.lock().unwrap() = panic.message().map(str::to_owned);
        })
        .plain()
        .layer(service_fn(async |n: u32| -> Result<u32, BoxError> {
            assert_ne!(n, 7, "unlucky");
            Ok(n)
        }));
    assert_eq!(assert_ready_ok!(spawn(service.call(1)).poll()), 1);
    let error = assert_ready_err!(spawn(service.call(7)).poll());
    let rejection = error.downcast::<Rejection>().unwrap();
    assert_eq!(rejection.reason(), Reason::Panicked);
    assert!(seen.lock().unwrap().as_deref().unwrap().contains("unlucky"));
}

#[tokio::test]
async fn inner_layers_are_told_that_it_panicked() {
    let recorder = Recorder::new();
    let mut service = tower::ServiceBuilder::new()
        .layer(CatchPanicLayer::new())
        .layer(seawall::GateLayer::from_policy(recorder.clone()))
        .service(service_fn(async |_: Request<Script>| -> Answer {
            panic!("inside")
        }));
    assert_eq!(service.call(get()).await.unwrap().status(), 500);
    assert!(
        recorder
            .told()
            .contains(&Told::Settled(seawall::Outcome::Panicked))
    );
}

/// A body that has delivered its declared length has settled and released everything. A panic of it
/// is still isolated.
#[tokio::test]
async fn a_panic_after_the_promised_bytes_is_isolated() {
    let recorder = Recorder::new();
    let layer = seawall::GateLayer::from_policy((CatchPanic::new(), recorder.clone()));
    let body = || Script::new([Step::Data("abc"), Step::Panic]).exact(3);
    let response = layer.layer(answers(move || ok(body()))).call(get()).await;
    let mut body = std::pin::pin!(response.unwrap().into_body());
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "abc"
    );
    let ended = crate::gate::told(seawall::Outcome::Success, seawall::Completion::Complete);
    assert_eq!(recorder.told(), ended);
    let error: BodyError = body.frame().await.unwrap().unwrap_err();
    assert_eq!(
        error.rejection().map(Rejection::reason),
        Some(Reason::Panicked)
    );
    assert_eq!(recorder.told(), ended);
}

/// Too many panics begin the drain of the handle, once.
#[tokio::test(start_paused = true)]
async fn too_many_panics_within_a_window_drain() {
    use seawall::catch_panic::PanicEscalation;
    use seawall::{CatchPanic, Drain, DrainState};

    let second = std::time::Duration::from_secs(1);
    let drain = Drain::default();
    let escalation = PanicEscalation::new(3, 10 * second).drain(&drain);
    let panics = CatchPanic::new();
    panics.set_escalation(escalation).unwrap();
    let layer = CatchPanicLayer::from(panics.clone()).on_panic(|_| unwind());
    let mut service = layer.layer(service_fn(async |_: Request<Script>| {
        unwind();
        #[expect(unreachable_code, reason = "the type of the response")]
        Ok::<_, Infallible>(ok(Script::default()))
    }));
    let mut panic = async || assert_eq!(service.call(get()).await.unwrap().status(), 500);
    for _ in 0..3 {
        panic().await;
        tokio::time::advance(5 * second).await;
    }
    assert_eq!(
        drain.state(),
        DrainState::Serving,
        "two at most within ten seconds"
    );
    panic().await;
    assert_eq!(drain.state(), DrainState::Serving);
    panic().await;
    assert_eq!(drain.state(), DrainState::LameDuck);
    assert_eq!(panics.panics(), 5);
}

#[test]
fn an_escalation_is_checked_and_the_first_stays() {
    use seawall::catch_panic::PanicEscalation;
    use seawall::{CatchPanic, Drain};

    let second = std::time::Duration::from_secs(1);
    for (wrong, field) in [
        (PanicEscalation::new(0, second), "panics"),
        (PanicEscalation::new(1001, second), "panics"),
        (PanicEscalation::new(1, second / 1001), "window"),
        (
            PanicEscalation::new(1, second).abort_after(86_401 * second),
            "abort_after",
        ),
    ] {
        let error = CatchPanic::new().set_escalation(wrong).unwrap_err();
        assert_eq!(error.field(), field);
        if field == "abort_after" {
            let text = "`abort_after` must be within 0s..=86400s, not 86401s";
            assert_eq!(error.to_string(), text);
        }
    }
    let (first, second) = (Drain::default(), Drain::default());
    let of = |drain| PanicEscalation::new(1, std::time::Duration::from_secs(1)).drain(drain);
    let panics = CatchPanic::new();
    panics.set_escalation(of(&first)).unwrap();
    let error = panics.set_escalation(of(&second)).unwrap_err();
    assert_eq!(error.field(), "escalation");
    let layer = CatchPanicLayer::from(panics);
    let mut service = layer.layer(service_fn(|_: Request<Script>| {
        unwind();
        #[expect(unreachable_code, reason = "the type of the response")]
        std::future::ready(Ok::<_, Infallible>(ok(Script::default())))
    }));
    drop(tokio_test::task::spawn(service.call(get())).poll());
    assert!(first.is_draining());
    assert!(!second.is_draining());
}

/// The drain begins and the panic is answered, although a task that waits for the drain cannot be
/// woken.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_escalation_is_swallowed() {
    use seawall::catch_panic::PanicEscalation;
    use seawall::{CatchPanic, Drain};

    let drain = Drain::default();
    let escalation = PanicEscalation::new(1, std::time::Duration::from_secs(1)).drain(&drain);
    let panics = CatchPanic::new();
    panics.set_escalation(escalation).unwrap();
    let layer = CatchPanicLayer::from(panics);
    let mut service = layer.layer(answers(|| unwind()));
    let mut waits = Box::pin(drain.started());
    let waker = waker_that_panics();
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(waits.as_mut().poll(&mut cx).is_pending());
    assert_eq!(service.call(get()).await.unwrap().status(), 500);
    assert!(drain.is_draining());
}

/// The process of [`too_many_panics_abort_the_process`], whose runtime hangs.
#[tokio::test]
#[ignore = "it aborts its process"]
async fn aborts() {
    use seawall::{CatchPanic, catch_panic::PanicEscalation};

    let soon = std::time::Duration::from_millis(1);
    let escalation = PanicEscalation::new(1, soon).abort_after(soon);
    let panics = CatchPanic::new();
    panics.set_escalation(escalation).unwrap();
    let layer = CatchPanicLayer::from(panics);
    let mut service = layer.layer(service_fn(async |_: Request<Script>| {
        unwind();
        #[expect(unreachable_code, reason = "the type of the response")]
        Ok::<_, Infallible>(ok(Script::default()))
    }));
    drop(service.call(get()).await);
    loop {
        std::thread::park();
    }
}

#[cfg(unix)]
#[test]
fn too_many_panics_abort_the_process() {
    use std::os::unix::process::ExitStatusExt;

    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "catch_panic::aborts"]);
    let output = child.output().unwrap();
    assert_eq!(output.status.signal(), Some(6), "SIGABRT: {output:?}");
}

/// The order of the two setters does not matter.
#[tokio::test(start_paused = true)]
async fn a_stack_that_keeps_requests_keeps_its_hook() {
    for keeps_last in [false, true] {
        let seen = Seen::default();
        let builder = seawall::server();
        let stack = if keeps_last {
            builder.on_panic(note(&seen)).keep_requests().build()
        } else {
            builder.keep_requests().on_panic(note(&seen)).build()
        };
        let mut service = stack.unwrap().layer(service_fn(async |_: Request<_>| {
            unwind();
            #[expect(unreachable_code, reason = "the type of the response")]
            Ok::<_, Infallible>(ok(Script::default()))
        }));
        assert_eq!(service.call(get()).await.unwrap().status(), 500);
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
}
