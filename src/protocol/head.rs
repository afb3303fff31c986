//! What closures and policies see of an HTTP exchange: everything but the body, so that one closure fits every body type.

use std::mem;

use http::response::Parts;
use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
};

use super::View;
use crate::deadline::Deadline;

/// What a policy sees of an HTTP request: [`RequestHead`]s.
#[derive(Clone, Copy, Debug)]
pub enum HttpView {}

/// An HTTP request without its body.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RequestHead<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's URI.
    pub uri: &'a Uri,
    /// The HTTP version it came in.
    pub version: Version,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The request's extensions.
    pub extensions: &'a Extensions,
}

/// An HTTP response without its body.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ResponseHead<'a> {
    /// The response's status.
    pub status: StatusCode,
    /// The response's headers.
    pub headers: &'a HeaderMap,
    /// The response's extensions.
    pub extensions: &'a Extensions,
}

/// An HTTP response without its body, to be changed.
#[derive(Debug)]
#[non_exhaustive]
pub struct ResponseHeadMut<'a> {
    /// The response's status.
    pub status: &'a mut StatusCode,
    /// The response's headers.
    pub headers: &'a mut HeaderMap,
    /// The response's extensions.
    pub extensions: &'a mut Extensions,
}

/// What is kept of a request for a hook that runs when the request itself is gone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestSummary {
    /// The request's method.
    pub method: Method,
    /// The request's URI.
    pub uri: Uri,
    /// The request's `x-request-id`, if it had one.
    pub request_id: Option<HeaderValue>,
}

// === impl views ===

impl View for HttpView {
    type Head<'a> = RequestHead<'a>;

    fn deadline(head: &RequestHead<'_>) -> Option<Deadline> {
        head.extensions.get().copied()
    }
}

// === impl heads ===

impl<'a, B> From<&'a Request<B>> for RequestHead<'a> {
    #[inline]
    fn from(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }
}

impl<'a> From<&'a Parts> for ResponseHead<'a> {
    fn from(parts: &'a Parts) -> Self {
        Self {
            status: parts.status,
            headers: &parts.headers,
            extensions: &parts.extensions,
        }
    }
}

impl<'a> From<&'a mut Parts> for ResponseHeadMut<'a> {
    fn from(parts: &'a mut Parts) -> Self {
        Self {
            status: &mut parts.status,
            headers: &mut parts.headers,
            extensions: &mut parts.extensions,
        }
    }
}

impl<'a, B> From<&'a Response<B>> for ResponseHead<'a> {
    #[inline]
    fn from(response: &'a Response<B>) -> Self {
        Self {
            status: response.status(),
            headers: response.headers(),
            extensions: response.extensions(),
        }
    }
}

impl ResponseHeadMut<'_> {
    /// Shows the parts of a response's head. A `Response` does not lend several of them at a time: they are taken out and put back.
    pub(crate) fn lend<B>(response: &mut Response<B>, show: impl FnOnce(&mut ResponseHeadMut<'_>)) {
        let mut status = response.status();
        let mut headers = mem::take(response.headers_mut());
        let mut extensions = mem::take(response.extensions_mut());
        show(&mut ResponseHeadMut {
            status: &mut status,
            headers: &mut headers,
            extensions: &mut extensions,
        });
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        *response.extensions_mut() = extensions;
    }
}

impl RequestSummary {
    pub(crate) fn of(head: &RequestHead<'_>) -> Self {
        Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            request_id: head.headers.get("x-request-id").cloned(),
        }
    }
}
