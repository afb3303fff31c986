//! The heads of requests and responses, as closures and policies see them. They have no body, so
//! that one closure fits every body type.

use std::fmt;

use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode, Uri, Version};

use super::grpc;
use crate::deadline::Deadline;
use crate::panic_report::RequestSummary;
use crate::request::{CallersTime, RequestKind, Target, sealed};

/// The kind of an HTTP request: a policy reads [`RequestHead`]s.
#[derive(Clone, Copy, Debug)]
pub enum HttpRequest {}

/// An HTTP request without its body. Policies and the closures of layers get it, for example those
/// of [`exempt`](crate::GateLayer::exempt) and `per_request`. It borrows the request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequestHead<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's URI.
    pub uri: &'a Uri,
    /// The HTTP version of the request.
    pub version: Version,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The request's extensions.
    pub extensions: &'a Extensions,
    /// Whether it is a gRPC request, if the gate has found out.
    pub(super) is_grpc: Option<bool>,
}

/// An HTTP response without its body. The closure of
/// [`classify`](crate::GateLayer::classify) gets it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ResponseHead<'a> {
    /// The response's status.
    pub status: StatusCode,
    /// The HTTP version of the response: on a client, that of the connection. A proxy may return
    /// that of its upstream.
    pub version: Version,
    /// The response's headers.
    pub headers: &'a HeaderMap,
    /// The response's extensions.
    pub extensions: &'a Extensions,
}

/// An HTTP response without its body, which a policy may change in
/// [`on_head`](crate::policy::Policy::on_head).
pub struct ResponseHeadMut<'a> {
    response: &'a mut dyn Head,
}

/// A response of any body type.
trait Head {
    fn get(&self) -> ResponseHead<'_>;
    fn status_mut(&mut self) -> &mut StatusCode;
    fn headers_mut(&mut self) -> &mut HeaderMap;
    fn extensions_mut(&mut self) -> &mut Extensions;
}

// === impl HttpRequest ===

impl sealed::Sealed for HttpRequest {}

impl RequestKind for HttpRequest {
    type Head<'a> = RequestHead<'a>;

    fn summary(head: &RequestHead<'_>) -> Option<RequestSummary> {
        Some(RequestSummary {
            method: head.method.clone(),
            uri: head.uri.clone(),
            request_id: head.headers.get("x-request-id").cloned(),
        })
    }

    fn target<'a>(head: &'a RequestHead<'_>) -> Option<Target<'a>> {
        Some(Target {
            method: head.method.as_str(),
            path: head.uri.path(),
        })
    }

    fn deadline(head: &RequestHead<'_>) -> Option<Deadline> {
        head.extensions.get().copied()
    }

    #[inline]
    fn callers_time(head: &RequestHead<'_>) -> CallersTime {
        // A gate with a deadline has found out whether it is gRPC.
        match head.is_grpc {
            Some(true) => grpc::callers_time(head.headers),
            _ => CallersTime::None,
        }
    }
}

// === impl RequestHead ===

impl<'a> RequestHead<'a> {
    /// The path of the request's URI.
    pub fn path(&self) -> &'a str {
        self.uri.path()
    }
}

impl<'a, B> From<&'a Request<B>> for RequestHead<'a> {
    #[inline]
    fn from(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            extensions: request.extensions(),
            is_grpc: None,
        }
    }
}

// === impl ResponseHead ===

impl<'a, B> From<&'a Response<B>> for ResponseHead<'a> {
    #[inline]
    fn from(response: &'a Response<B>) -> Self {
        Self {
            status: response.status(),
            version: response.version(),
            headers: response.headers(),
            extensions: response.extensions(),
        }
    }
}

// === impl ResponseHeadMut ===

impl<'a> ResponseHeadMut<'a> {
    #[inline]
    pub(crate) fn new<B>(response: &'a mut Response<B>) -> Self {
        Self { response }
    }

    pub(crate) fn get(&self) -> ResponseHead<'_> {
        self.response.get()
    }

    /// Lends the head as a response without a body.
    #[cfg(any(feature = "tower-http-06", feature = "tower-http-07"))]
    pub(crate) fn with_response<T>(&mut self, look: impl FnOnce(&Response<()>) -> T) -> T {
        let mut response = Response::new(());
        *response.status_mut() = self.status();
        *response.version_mut() = self.version();
        std::mem::swap(response.headers_mut(), self.headers_mut());
        std::mem::swap(response.extensions_mut(), self.extensions_mut());
        let looked = look(&response);
        std::mem::swap(response.headers_mut(), self.headers_mut());
        std::mem::swap(response.extensions_mut(), self.extensions_mut());
        looked
    }

    /// The response's HTTP version.
    pub fn version(&self) -> Version {
        self.get().version
    }

    /// The response's status.
    pub fn status(&self) -> StatusCode {
        self.get().status
    }

    /// The response's status, to change it.
    pub fn status_mut(&mut self) -> &mut StatusCode {
        self.response.status_mut()
    }

    /// The response's headers.
    pub fn headers(&self) -> &HeaderMap {
        self.get().headers
    }

    /// The response's headers, to change them.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        self.response.headers_mut()
    }

    /// The response's extensions.
    pub fn extensions(&self) -> &Extensions {
        self.get().extensions
    }

    /// The response's extensions, to change them.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        self.response.extensions_mut()
    }
}

impl fmt::Debug for ResponseHeadMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseHeadMut")
            .field("status", &self.status())
            .field("headers", self.headers())
            .finish_non_exhaustive()
    }
}

impl<B> Head for Response<B> {
    fn get(&self) -> ResponseHead<'_> {
        self.into()
    }

    fn status_mut(&mut self) -> &mut StatusCode {
        self.status_mut()
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }

    fn extensions_mut(&mut self) -> &mut Extensions {
        self.extensions_mut()
    }
}
