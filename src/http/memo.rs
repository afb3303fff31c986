//! The properties of a request that decide its answer.

use http::{Method, Request, Version};

use super::answer::WireProtocol;

/// The properties of a request that the gate keeps, in one word, which is moved as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Memo(u64);

// === impl Memo ===

impl Memo {
    const HTTP_10: u64 = 1;
    const HTTP_11: u64 = 2;
    const HTTP_2: u64 = 3;
    const HTTP_3: u64 = 4;
    const VERSION: u64 = 7;
    pub(super) const HEAD: u64 = 1 << 3;
    /// The method usually has a body, or the headers of a rejected request declare one.
    pub(super) const MAY_HAVE_BODY: u64 = 1 << 4;
    /// The answer over HTTP/1 is already one poll late.
    pub(super) const HAS_YIELDED: u64 = 1 << 5;
    /// The rest of the body is not read, so the answer closes the connection.
    pub(super) const CLOSES: u64 = 1 << 6;
    /// It is known whether the request is [gRPC](Self::GRPC).
    pub(super) const INSPECTED: u64 = 1 << 7;
    pub(super) const GRPC: u64 = 1 << 8;
    pub(super) const POST: u64 = 1 << 9;

    #[inline(always)]
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let version = match request.version() {
            Version::HTTP_2 => Self::HTTP_2,
            Version::HTTP_11 => Self::HTTP_11,
            Version::HTTP_10 => Self::HTTP_10,
            Version::HTTP_3 => Self::HTTP_3,
            _ => 0,
        };
        let method = match *request.method() {
            Method::GET => 0,
            Method::HEAD => Self::HEAD,
            Method::POST => Self::POST | Self::MAY_HAVE_BODY,
            _ => Self::MAY_HAVE_BODY,
        };
        Self(version | method)
    }

    #[inline(always)]
    pub(super) const fn with(self, flag: u64) -> Self {
        Self(self.0 | flag)
    }

    #[inline(always)]
    pub(super) const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    #[inline(always)]
    pub(super) const fn is_http2(self) -> bool {
        self.0 & Self::VERSION >= Self::HTTP_2
    }

    /// Only a POST, and the response to it, can be gRPC.
    #[inline(always)]
    pub(super) const fn may_be_grpc(self) -> bool {
        self.has(Self::POST)
    }

    /// Whether it is a gRPC request, if that is known.
    #[inline(always)]
    pub(super) fn is_grpc(self) -> Option<bool> {
        self.has(Self::INSPECTED).then_some(self.has(Self::GRPC))
    }

    pub(super) fn wire(self) -> WireProtocol {
        let version = match self.0 & Self::VERSION {
            Self::HTTP_2 => Version::HTTP_2,
            Self::HTTP_11 => Version::HTTP_11,
            Self::HTTP_10 => Version::HTTP_10,
            Self::HTTP_3 => Version::HTTP_3,
            _ => Version::HTTP_09,
        };
        WireProtocol {
            version,
            is_grpc: self.has(Self::GRPC),
        }
    }
}
