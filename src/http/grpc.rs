//! Recognition and parsing of gRPC, according to the gRPC HTTP/2 protocol description.
//!
//! A POST with the content type of gRPC is a gRPC request, in any HTTP version: a call behind
//! `tonic-web` over HTTP/1.1 is one.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};

use crate::deadline::Deadline;
use crate::outcome::Outcome;
use crate::request::CallersTime;

/// The status codes that answers and outcomes use (`google.rpc.Code`).
pub(super) mod code {
    pub(in crate::http) const OK: u8 = 0;
    pub(in crate::http) const UNKNOWN: u8 = 2;
    pub(in crate::http) const DEADLINE_EXCEEDED: u8 = 4;
    pub(in crate::http) const RESOURCE_EXHAUSTED: u8 = 8;
    pub(in crate::http) const INTERNAL: u8 = 13;
    pub(in crate::http) const UNAVAILABLE: u8 = 14;
    pub(in crate::http) const DATA_LOSS: u8 = 15;
    pub(in crate::http) const UNAUTHENTICATED: u8 = 16;
}

pub(super) const CONTENT_TYPE: &str = "application/grpc";
pub(super) const STATUS: &str = "grpc-status";
pub(super) const MESSAGE: &str = "grpc-message";
pub(super) const TIMEOUT: &str = "grpc-timeout";
pub(super) const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Exactly `application/grpc`, or followed by a message format or a parameter.
/// `application/grpc-web` is HTTP. The case does not matter (RFC 9110, section 8.3.1).
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(content_type) = content_type(headers) else {
        return false;
    };
    let content_type = content_type.as_bytes();
    let Some((kind, rest)) = content_type.split_at_checked(CONTENT_TYPE.len()) else {
        return false;
    };
    kind.eq_ignore_ascii_case(CONTENT_TYPE.as_bytes())
        && matches!(rest.trim_ascii_start().first(), None | Some(b'+' | b';'))
}

/// A comparison with each of a few names costs less than the hash of one.
fn content_type(headers: &HeaderMap) -> Option<&HeaderValue> {
    const FEW: usize = 8;
    if headers.len() > FEW {
        return headers.get(header::CONTENT_TYPE);
    }
    let mut headers = headers.iter();
    let (_, value) = headers.find(|(name, _)| *name == header::CONTENT_TYPE)?;
    Some(value)
}

/// The outcome by the status in trailers, or in the head of a trailers-only response; `None`
/// without a status.
pub(crate) fn outcome(headers: &HeaderMap) -> Option<Outcome> {
    let status = headers.get(STATUS)?;
    if status == "13" && is_undecodable(headers) {
        return Some(Outcome::Ignored);
    }
    Some(
        match status.to_str().ok().and_then(|code| code.parse().ok()) {
            Some(
                code::UNKNOWN
                | code::DEADLINE_EXCEEDED
                | code::INTERNAL
                | code::UNAVAILABLE
                | code::DATA_LOSS,
            ) => Outcome::Failure,
            Some(code::RESOURCE_EXHAUSTED) => Outcome::Ignored,
            // Statuses for mistakes of the caller are not failures of the service.
            Some(code::OK..=code::UNAUTHENTICATED) => Outcome::Success,
            // A client reads any other text as `UNKNOWN`.
            _ => Outcome::Failure,
        },
    )
}

/// Returns whether the service answers `INTERNAL` because it could not decode the request.
///
/// The gRPC specification has no code for this. Tonic 0.14 answers in the same way as for a handler
/// that returns `Status::internal`; only the message differs. Each row has the beginning and the
/// end of a message.
#[cold]
fn is_undecodable(headers: &HeaderMap) -> bool {
    const MESSAGES: [(&str, Option<&str>); 7] = [
        ("Missing request message.", Some("")),
        ("Unexpected EOF decoding stream.", Some("")),
        (
            "protocol error: received message with compressed-flag but no grpc-encoding was specified",
            Some(""),
        ),
        (
            "protocol error: received message with invalid compression flag: ",
            Some(", while sending request"),
        ),
        ("Error decompressing: ", Some(", while sending request")),
        ("failed to decode Protobuf message: ", None),
        ("tonic-web: ", None),
    ];
    let Some(message) = headers.get(MESSAGE) else {
        return false;
    };
    let message = percent_decoded(message.as_bytes());
    MESSAGES.iter().any(|(begin, end)| {
        let rest = message.strip_prefix(begin.as_bytes());
        rest.is_some_and(|rest| match end {
            None => true,
            Some("") => rest.is_empty(),
            Some(end) => rest.ends_with(end.as_bytes()),
        })
    })
}

/// The bytes of a percent-encoded message. Text that is not an encoding stays as it is.
fn percent_decoded(message: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(message.len());
    let mut rest = message;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let (byte, after) = match byte {
            Some(byte) if *first == b'%' => (byte, &tail[2..]),
            _ => (*first, tail),
        };
        decoded.push(byte);
        rest = after;
    }
    decoded
}

/// Returns whether the status is that of a deadline that passed.
pub(crate) fn is_late(headers: &HeaderMap) -> bool {
    headers.get(STATUS).is_some_and(|status| status == "4")
}

/// The units of `grpc-timeout`, the finest first, in nanoseconds.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60 * 1_000_000_000),
    (b'H', 3600 * 1_000_000_000),
];

/// The largest number of eight digits.
const MOST: u128 = 99_999_999;

/// The timeout that the caller of a gRPC request asks for.
#[inline(never)]
pub(super) fn callers_time(headers: &HeaderMap) -> CallersTime {
    match headers.get(TIMEOUT) {
        None => CallersTime::None,
        Some(value) => parse(value.as_bytes()).map_or(CallersTime::Malformed, CallersTime::For),
    }
}

/// One to eight digits and a unit.
fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (_, nanos) = UNITS.iter().find(|(each, _)| each == unit)?;
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let nanos = u128::from(number) * nanos;
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

// === impl Deadline ===

impl Deadline {
    /// The time that is left as the value of a `grpc-timeout` header: at most eight digits and a
    /// unit, rounded down, so that the callee stops no later than the caller. `1n` after the
    /// deadline.
    pub fn to_grpc_timeout(&self) -> HeaderValue {
        to_grpc_timeout(self.remaining())
    }
}

/// Uses the finest unit that needs no more than eight digits. Rounds down, but not to zero.
fn to_grpc_timeout(duration: Duration) -> HeaderValue {
    let nanos = duration.as_nanos().max(1);
    let fits = UNITS.iter().find(|(_, unit)| nanos / unit <= MOST);
    let (unit, number) = match fits {
        Some((unit, nanos_each)) => (*unit, nanos / nanos_each),
        None => (b'H', MOST),
    };
    let text = format!("{number}{}", char::from(unit));
    HeaderValue::from_str(&text).expect("digits and a letter")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_content_type_decides_what_is_grpc() {
        let is = |value: &'static str| {
            is_grpc(&HeaderMap::from_iter([(
                header::CONTENT_TYPE,
                HeaderValue::from_static(value),
            )]))
        };
        assert!(is("application/grpc"));
        assert!(is("application/grpc+proto"));
        assert!(is("application/grpc;charset=utf-8"));
        assert!(!is("application/grpc-web"));
        assert!(!is("application/grpc-web+proto"));
        assert!(!is("application/json"));
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_status_that_cannot_be_read_is_a_failure() {
        let of = |value: &'static str| {
            outcome(&HeaderMap::from_iter([(
                http::HeaderName::from_static(STATUS),
                HeaderValue::from_static(value),
            )]))
        };
        assert_eq!(of("0"), Some(Outcome::Success));
        assert_eq!(of("5"), Some(Outcome::Success));
        assert_eq!(of("8"), Some(Outcome::Ignored));
        assert_eq!(of("14"), Some(Outcome::Failure));
        assert_eq!(of("-1"), Some(Outcome::Failure));
        assert_eq!(of("16"), Some(Outcome::Success));
        assert_eq!(of("17"), Some(Outcome::Failure));
        assert_eq!(of("300"), Some(Outcome::Failure));
        assert_eq!(outcome(&HeaderMap::new()), None);
    }

    #[test]
    fn a3_a_request_that_cannot_be_decoded_is_told_from_a_handlers_internal() {
        let of = |code: &'static str, message: &'static str| {
            outcome(&HeaderMap::from_iter([
                (
                    http::HeaderName::from_static(STATUS),
                    HeaderValue::from_static(code),
                ),
                (
                    http::HeaderName::from_static(MESSAGE),
                    HeaderValue::from_static(message),
                ),
            ]))
        };
        for message in [
            "Missing%20request%20message.",
            "Missing request message.",
            "Unexpected%20EOF%20decoding%20stream.",
            "protocol error: received message with compressed-flag but no grpc-encoding was specified",
            "protocol error: received message with invalid compression flag: 7 (valid flags are 0 and 1), while sending request",
            "Error%20decompressing: corrupt deflate stream, while sending request",
            "failed to decode Protobuf message: invalid wire type",
            "tonic-web: malformed base64 request",
        ] {
            assert_eq!(of("13", message), Some(Outcome::Ignored), "{message}");
            assert_eq!(of("14", message), Some(Outcome::Failure), "{message}");
        }
        for message in [
            "",
            "db failed",
            "Missing request message. Really",
            "Error decompressing: corrupt, while receiving response with status: 200 OK",
            "%",
            "%4",
            "%zz",
        ] {
            assert_eq!(of("13", message), Some(Outcome::Failure), "{message}");
        }
    }

    #[test]
    fn timeouts_as_the_specification_has_them() {
        let read = |value: &str| parse(value.as_bytes());
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(read("2M"), Some(Duration::from_secs(120)));
        assert_eq!(read("3S"), Some(Duration::from_secs(3)));
        assert_eq!(read("4m"), Some(Duration::from_millis(4)));
        assert_eq!(read("5u"), Some(Duration::from_micros(5)));
        assert_eq!(read("6n"), Some(Duration::from_nanos(6)));
        assert_eq!(
            read("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        for malformed in [
            "",
            "S",
            "1",
            "1s",
            "1h",
            "+1S",
            "-1S",
            " 1S",
            "1 S",
            "1.5S",
            "100000000n",
            "1S ",
            "\u{664}S",
        ] {
            assert_eq!(read(malformed), None, "{malformed:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_read_is_written(number in 0..=99_999_999_u32, unit in 0..6_usize) {
            let text = format!("{number}{}", char::from(UNITS[unit].0));
            let read = parse(text.as_bytes()).unwrap();
            let again = parse(to_grpc_timeout(read).as_bytes()).unwrap();
            prop_assert_eq!(again, read.max(Duration::from_nanos(1)));
        }

        /// Rounding down loses less than one unit.
        #[test]
        fn what_is_written_is_less_by_under_one_unit(nanos in 1..u64::MAX) {
            let written = to_grpc_timeout(Duration::from_nanos(nanos));
            let (unit, digits) = written.as_bytes().split_last().unwrap();
            let (_, unit_nanos) = UNITS.iter().find(|(each, _)| each == unit).unwrap();
            let number: u128 = std::str::from_utf8(digits).unwrap().parse().unwrap();
            let read = number * unit_nanos;
            prop_assert!(read <= u128::from(nanos) && u128::from(nanos) < read + unit_nanos);
            prop_assert!(number <= MOST);
        }
    }
}
