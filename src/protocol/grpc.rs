//! What gRPC over HTTP/2 looks like from outside, after the gRPC HTTP/2 protocol description.

use http::{HeaderMap, header};

use crate::policy::Outcome;

/// The status codes that an answer or a verdict needs (`google.rpc.Code`).
pub(super) mod code {
    pub(in crate::protocol) const OK: u8 = 0;
    pub(in crate::protocol) const UNKNOWN: u8 = 2;
    pub(in crate::protocol) const DEADLINE_EXCEEDED: u8 = 4;
    pub(in crate::protocol) const RESOURCE_EXHAUSTED: u8 = 8;
    pub(in crate::protocol) const INTERNAL: u8 = 13;
    pub(in crate::protocol) const UNAVAILABLE: u8 = 14;
    pub(in crate::protocol) const DATA_LOSS: u8 = 15;
}

pub(super) const CONTENT_TYPE: &str = "application/grpc";
pub(super) const STATUS: &str = "grpc-status";
pub(super) const MESSAGE: &str = "grpc-message";
pub(super) const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Exactly `application/grpc`, or with a message format or a parameter behind it; `application/grpc-web` is HTTP.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(CONTENT_TYPE.as_bytes()));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The verdict in trailers, or in the head of a trailers-only response; `None` if there is no status.
pub(super) fn verdict(headers: &HeaderMap) -> Option<Outcome> {
    let status = headers.get(STATUS)?;
    Some(
        match status.to_str().ok().and_then(|code| code.parse().ok()) {
            Some(
                code::UNKNOWN
                | code::DEADLINE_EXCEEDED
                | code::INTERNAL
                | code::UNAVAILABLE
                | code::DATA_LOSS,
            )
            | None => Outcome::Failure,
            Some(code::RESOURCE_EXHAUSTED) => Outcome::Ignored,
            // The caller's mistakes are no failure of the service.
            Some(code::OK..) => Outcome::Success,
        },
    )
}

#[cfg(test)]
mod tests {
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
            verdict(&HeaderMap::from_iter([(
                http::HeaderName::from_static(STATUS),
                HeaderValue::from_static(value),
            )]))
        };
        assert_eq!(of("0"), Some(Outcome::Success));
        assert_eq!(of("5"), Some(Outcome::Success));
        assert_eq!(of("8"), Some(Outcome::Ignored));
        assert_eq!(of("14"), Some(Outcome::Failure));
        assert_eq!(of("-1"), Some(Outcome::Failure));
        assert_eq!(of("300"), Some(Outcome::Failure));
        assert_eq!(verdict(&HeaderMap::new()), None);
    }
}
