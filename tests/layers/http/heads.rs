//! The request head that a policy sees, and its changes of the response head.

use http::StatusCode;
use http_body_util::BodyExt;
use seawall::policy::{Admission, HttpRequest, NoWait, Policy, RequestKind};
use seawall::{
    CircuitBreaker, ConcurrencyLimit, GateLayer, Reason, Rejection, RequestHead, ResponseHeadMut,
};
use tower::{Layer, Service};

use crate::support::*;

/// Changes everything in a head.
#[derive(Clone)]
struct Changes;

/// The value that the policy puts into the extensions.
#[derive(Clone, Debug, PartialEq)]
struct Seen(StatusCode);

impl<R: RequestKind> Policy<R> for Changes {
    type Token = ();
    type Wait = NoWait;

    fn admit(&self, _: &R::Head<'_>) -> Admission<(), NoWait> {
        Admission::Admit(())
    }

    fn on_head(&self, (): &mut (), head: &mut ResponseHeadMut<'_>) {
        let seen = Seen(head.status());
        head.extensions_mut().insert(seen);
        *head.status_mut() = StatusCode::ACCEPTED;
        let was = head.headers_mut().remove("x-inner");
        head.headers_mut()
            .insert("x-outer", was.expect("it was there"));
    }
}

#[tokio::test]
async fn a_policy_changes_the_whole_head() {
    let policies = (
        CircuitBreaker::default(),
        Changes,
        ConcurrencyLimit::from(1),
    );
    let inner = answers(|| {
        let mut response = ok(Script::data(&["a"]));
        let headers = response.headers_mut();
        headers.insert("x-inner", "here".parse().unwrap());
        headers.insert("x-kept", "too".parse().unwrap());
        response
    });
    let mut gate = GateLayer::from_policy(policies).layer(inner);
    let (head, body) = gate.call(get()).await.unwrap().into_parts();
    assert_eq!(head.status, StatusCode::ACCEPTED);
    assert_eq!(head.headers["x-outer"], "here");
    assert_eq!(head.headers["x-kept"], "too");
    assert!(!head.headers.contains_key("x-inner"));
    assert_eq!(head.extensions.get(), Some(&Seen(StatusCode::OK)));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "a");
}

#[tokio::test]
async fn a_policy_may_read_the_request() {
    /// Admits callers that name themselves.
    #[derive(Clone)]
    struct Named;

    impl Policy<HttpRequest> for Named {
        type Token = ();
        type Wait = NoWait;

        fn admit(&self, head: &RequestHead<'_>) -> Admission<(), NoWait> {
            if head.headers.contains_key("x-name") {
                Admission::Admit(())
            } else {
                Admission::Reject(Rejection::new(Reason::Overloaded))
            }
        }
    }

    let mut gate = GateLayer::from_policy(Named).layer(answers(|| ok(Script::default())));
    assert_eq!(gate.call(get()).await.unwrap().status(), 503);
    let mut named = get();
    named.headers_mut().insert("x-name", "me".parse().unwrap());
    assert_eq!(gate.call(named).await.unwrap().status(), 200);
}
