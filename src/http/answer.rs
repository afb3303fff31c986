//! The table of all answers, over HTTP and gRPC.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};

use super::grpc::{self, code};
use crate::reason::{CustomReason, Reason};
use crate::rejection::Rejection;

/// The protocol of the client, which decides how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct WireProtocol {
    /// The HTTP version of the request.
    pub version: Version,
    /// The request is a gRPC call. It is answered with a trailers-only response.
    pub is_grpc: bool,
}

/// Makes the answers: the default ones, or those of a closure.
#[derive(Clone, Default)]
pub struct Responder(Option<Arc<Respond>>);

type Respond = dyn Fn(&Rejection, WireProtocol) -> Response<Bytes> + Send + Sync;

/// One row of the table.
struct Answer {
    status: StatusCode,
    /// The whole body, RFC 9457.
    problem: Cow<'static, str>,
    grpc_status: u8,
    /// ASCII without `%`: it needs no percent-encoding.
    grpc_message: &'static str,
}

macro_rules! answer {
    ($status:ident $code:literal $title:literal, $grpc:ident, $reason:literal, $detail:literal) => {
        Answer {
            status: StatusCode::$status,
            problem: Cow::Borrowed(concat!(
                r#"{"type":"about:blank","title":""#,
                $title,
                r#"","status":"#,
                $code,
                r#","detail":""#,
                $detail,
                r#"","reason":""#,
                $reason,
                r#""}"#
            )),
            grpc_status: code::$grpc,
            grpc_message: $detail,
        }
    };
}

fn answer(rejection: &Rejection) -> Answer {
    match rejection.reason() {
        Reason::Overloaded => answer!(
            SERVICE_UNAVAILABLE 503 "Service Unavailable", UNAVAILABLE,
            "overloaded", "Server is busy, come back later!"
        ),
        Reason::ConcurrencyLimit => answer!(
            SERVICE_UNAVAILABLE 503 "Service Unavailable", RESOURCE_EXHAUSTED,
            "concurrency_limit", "Too many requests are in flight. Retry later."
        ),
        Reason::QueueTimeout => answer!(
            SERVICE_UNAVAILABLE 503 "Service Unavailable", RESOURCE_EXHAUSTED,
            "queue_timeout", "The request was queued for too long. Retry later."
        ),
        Reason::RateLimited => answer!(
            TOO_MANY_REQUESTS 429 "Too Many Requests", RESOURCE_EXHAUSTED,
            "rate_limited", "Too many requests were sent. Retry later."
        ),
        Reason::CircuitOpen => answer!(
            SERVICE_UNAVAILABLE 503 "Service Unavailable", UNAVAILABLE,
            "circuit_open", "A dependency is failing. Retry later."
        ),
        Reason::Draining => answer!(
            SERVICE_UNAVAILABLE 503 "Service Unavailable", UNAVAILABLE,
            "draining", "The server is shutting down."
        ),
        Reason::Timeout if rejection.is_callers_body() => answer!(
            REQUEST_TIMEOUT 408 "Request Timeout", DEADLINE_EXCEEDED,
            "timeout", "The request body did not come in time."
        ),
        Reason::Timeout => answer!(
            GATEWAY_TIMEOUT 504 "Gateway Timeout", DEADLINE_EXCEEDED,
            "timeout", "The request took too long."
        ),
        Reason::BodyTooSlow => answer!(
            REQUEST_TIMEOUT 408 "Request Timeout", DEADLINE_EXCEEDED,
            "body_too_slow", "The request body came too slowly."
        ),
        Reason::BodyTooLarge => answer!(
            PAYLOAD_TOO_LARGE 413 "Content Too Large", RESOURCE_EXHAUSTED,
            "body_too_large", "The request body is too large."
        ),
        Reason::HeadersTooLarge => answer!(
            REQUEST_HEADER_FIELDS_TOO_LARGE 431 "Request Header Fields Too Large", RESOURCE_EXHAUSTED,
            "headers_too_large", "The request headers are too large."
        ),
        Reason::UriTooLong => answer!(
            URI_TOO_LONG 414 "URI Too Long", RESOURCE_EXHAUSTED,
            "uri_too_long", "The request URI is too long."
        ),
        Reason::Panicked => answer!(
            INTERNAL_SERVER_ERROR 500 "Internal Server Error", INTERNAL,
            "panicked", "Internal error."
        ),
        Reason::Custom(custom) => custom_answer(custom),
    }
}

#[cold]
fn custom_answer(custom: &CustomReason) -> Answer {
    let (status, grpc_status, message) = custom.answer();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let title = status.canonical_reason().unwrap_or("Rejected");
    Answer {
        status,
        problem: Cow::Owned(format!(
            r#"{{"type":"about:blank","title":"{title}","status":{},"detail":"{message}","reason":"{}"}}"#,
            status.as_u16(),
            custom.label(),
        )),
        grpc_status,
        grpc_message: message,
    }
}

// === impl WireProtocol ===

impl WireProtocol {
    /// The protocol of a request of this version, which is a gRPC call or not.
    pub const fn new(version: Version, is_grpc: bool) -> Self {
        Self { version, is_grpc }
    }
}

// === impl Responder ===

impl Responder {
    pub(crate) fn new(
        respond: impl Fn(&Rejection, WireProtocol) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(respond)))
    }

    /// The answer, before the rejection is put into its extensions.
    pub(crate) fn respond(&self, rejection: &Rejection, protocol: WireProtocol) -> Response<Bytes> {
        match &self.0 {
            Some(respond) => respond(rejection, protocol),
            None => rejection.to_response(protocol),
        }
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Responder(..)"
        } else {
            "Responder"
        })
    }
}

// === impl Rejection ===

impl Rejection {
    /// The default answer. Your own responder can start from it:
    ///
    /// ```
    /// use seawall::{ConcurrencyLimitLayer, Rejection, WireProtocol};
    ///
    /// let layer = ConcurrencyLimitLayer::new(512).respond_with(
    ///     |rejection: &Rejection, protocol: WireProtocol| {
    ///         let mut response = rejection.to_response(protocol);
    ///         let layer = rejection.layer().parse().unwrap();
    ///         response.headers_mut().insert("x-rejected-by", layer);
    ///         response
    ///     },
    /// );
    /// ```
    pub fn to_response(&self, protocol: WireProtocol) -> Response<Bytes> {
        let answer = answer(self);
        // One allocation for the map: up to three headers and what the server adds.
        let mut headers = HeaderMap::with_capacity(6);
        let mut response = if protocol.is_grpc {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static(grpc::CONTENT_TYPE),
            );
            insert_status(&mut headers, &answer);
            if let Some(after) = self.retry_after() {
                headers.insert(
                    HeaderName::from_static(grpc::RETRY_PUSHBACK),
                    pushback(after),
                );
            }
            Response::new(Bytes::new())
        } else {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/problem+json"),
            );
            if let Some(after) = self.retry_after() {
                headers.insert(header::RETRY_AFTER, retry_after(after));
            }
            if self.closes() && protocol.version <= Version::HTTP_11 {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            let mut response = Response::new(match answer.problem {
                Cow::Borrowed(problem) => Bytes::from_static(problem.as_bytes()),
                Cow::Owned(problem) => Bytes::from(problem),
            });
            *response.status_mut() = answer.status;
            response
        };
        *response.headers_mut() = headers;
        response
    }

    /// The trailers that end a gRPC response whose head is already sent.
    pub(crate) fn to_trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(2);
        insert_status(&mut trailers, &answer(self));
        trailers
    }
}

fn insert_status(headers: &mut HeaderMap, answer: &Answer) {
    headers.insert(
        HeaderName::from_static(grpc::STATUS),
        numbers::value(answer.grpc_status.into()),
    );
    headers.insert(
        HeaderName::from_static(grpc::MESSAGE),
        HeaderValue::from_static(answer.grpc_message),
    );
}

// === when to retry ===

/// Whole seconds, rounded up, at least 1, plus a random time of up to a quarter (at least one
/// second). It is never earlier than the policy asks.
fn retry_after(after: Duration) -> HeaderValue {
    let seconds = after
        .as_secs()
        .saturating_add(u64::from(after.subsec_nanos() > 0))
        .max(1);
    let seconds = seconds.saturating_add(fastrand::u64(0..=(seconds / 4).max(1)));
    numbers::value(seconds)
}

/// Milliseconds in steps of 100, rounded up, which are in the same table.
fn pushback(after: Duration) -> HeaderValue {
    let tenths = u64::try_from(after.as_nanos().div_ceil(100_000_000))
        .unwrap_or(u64::MAX / 1000)
        .max(1);
    let tenths = tenths.saturating_add(fastrand::u64(0..=(tenths / 4).max(1)));
    numbers::hundreds(tenths)
}

/// Header values without an allocation, from a table of numbers.
pub(super) mod numbers {
    use super::HeaderValue;

    /// The table covers a Retry-After of up to five minutes, and a pushback of up to 30 s. A larger
    /// number costs one allocation.
    const LEN: usize = 301;

    /// `"000"` … `"30000"`: each number with two zeros behind it, right-aligned, and the position
    /// of its first digit.
    static TABLE: [([u8; 5], usize); LEN] = table();

    const fn table() -> [([u8; 5], usize); LEN] {
        let mut table = [([b'0'; 5], 2); LEN];
        let mut number = 0;
        while number < LEN {
            let (digits, start) = &mut table[number];
            let mut rest = number;
            let mut at = 3;
            while rest > 0 {
                at -= 1;
                digits[at] = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            if number > 0 {
                *start = at;
            }
            number += 1;
        }
        table
    }

    fn find(number: u64, end: usize) -> Option<&'static str> {
        let (digits, start) = TABLE.get(usize::try_from(number).ok()?)?;
        std::str::from_utf8(&digits[*start..end]).ok()
    }

    pub(in crate::http) fn value(number: u64) -> HeaderValue {
        find(number, 3).map_or_else(|| HeaderValue::from(number), HeaderValue::from_static)
    }

    pub(super) fn hundreds(number: u64) -> HeaderValue {
        find(number, 5).map_or_else(
            || HeaderValue::from(number.saturating_mul(100)),
            HeaderValue::from_static,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_whole_and_its_message_needs_no_encoding() {
        for reason in Reason::ALL {
            let row = answer(&Rejection::new(reason));
            assert!(
                row.problem
                    .contains(&format!(r#""status":{}"#, row.status.as_u16())),
                "{reason:?}"
            );
            let named = format!(r#""reason":"{}""#, reason.as_str());
            assert!(row.problem.contains(&named), "{reason:?}");
            let plain = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b'%';
            assert!(row.grpc_message.bytes().all(plain), "{reason:?}");
        }
    }

    #[test]
    fn a_retry_is_never_asked_for_earlier_than_given() {
        let seconds = |after| -> u64 { retry_after(after).to_str().unwrap().parse().unwrap() };
        let millis = |after| -> u64 { pushback(after).to_str().unwrap().parse().unwrap() };
        for _ in 0..200 {
            assert!((1..=2).contains(&seconds(Duration::ZERO)));
            assert!((2..=3).contains(&seconds(Duration::from_millis(1001))));
            assert!((60..=75).contains(&seconds(Duration::from_secs(60))));
            assert!((3600..=4500).contains(&seconds(Duration::from_secs(3600))));
            assert!((100..=200).contains(&millis(Duration::ZERO)));
            assert!((1100..=1300).contains(&millis(Duration::from_millis(1001))));
            assert!((1100..=1300).contains(&millis(Duration::from_micros(1_000_001))));
            assert!((60_000..=75_000).contains(&millis(Duration::from_secs(60))));
        }
        assert_eq!(seconds(Duration::MAX), u64::MAX);
        assert!(millis(Duration::MAX) > 1 << 60);
    }

    #[test]
    fn the_table_is_what_the_numbers_print() {
        for number in 0..400 {
            assert_eq!(numbers::value(number), number.to_string());
        }
        for number in 1..400 {
            assert_eq!(numbers::hundreds(number), (number * 100).to_string());
        }
    }

    #[test]
    fn the_jitter_spreads() {
        let seen: std::collections::HashSet<_> = (0..200)
            .map(|_| retry_after(Duration::from_secs(1)))
            .collect();
        assert_eq!(seen.len(), 2);
    }
}
