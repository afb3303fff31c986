//! The limits of a request, which may change while the service runs.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::pace::Pace;
use super::settings::{MinBodyRate, RequestLimitSettings};
use crate::clock::nanos;
use crate::config::Current;
use crate::control::published::Published;
use crate::http::head::RequestHead;
use crate::observe::{Reporter, table};
use crate::raise;
use crate::reason::Reason;

/// The state that the clones of a [`RequestLimit`](crate::RequestLimit) share.
pub(crate) struct Bounds {
    settings: Current<RequestLimitSettings>,
    /// The words of [`Limits`].
    limits: Published<WORDS>,
    reporter: Reporter,
}

/// The settings, as requests read them. A size without a limit is `u64::MAX`; a time or rate
/// without a limit is 0.
#[derive(Clone, Copy)]
pub(super) struct Limits([u64; WORDS]);

const MAX_BODY: usize = 0;
const MOST_BODY: usize = 1;
/// Not 0 if there is any limit other than that of the body's size.
const HAS_MORE: usize = 2;
const MAX_HEADER_BYTES: usize = 3;
const MAX_HEADERS: usize = 4;
const MAX_URI: usize = 5;
const IDLE: usize = 6;
const TIMEOUT: usize = 7;
const RATE: usize = 8;
const GRACE: usize = 9;
const WORDS: usize = 10;

// === impl Bounds ===

impl Bounds {
    /// The bounds, after the settings are checked.
    pub(super) fn new(settings: RequestLimitSettings) -> Self {
        let this = Self {
            limits: Published::new(Limits::new(&settings).0),
            settings: Current::new(settings.clone()),
            reporter: Reporter::new("request_limit"),
        };
        this.publish(&settings);
        this.show();
        this
    }

    pub(super) fn current(&self) -> &Current<RequestLimitSettings> {
        &self.settings
    }

    /// Changes what requests read.
    pub(super) fn publish(&self, settings: &RequestLimitSettings) {
        self.limits.set(Limits::new(settings).0);
        if settings.raisable_to.is_some() {
            raise::use_it();
        }
    }

    /// Shows the settings as gauges.
    pub(super) fn show(&self) {
        let settings = self.settings.get();
        self.reporter
            .show_setting(table::BODY_LIMIT, settings.max_body as f64);
    }

    pub(crate) fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// Returns whether the gate needs no other property of a request whose body has this exact
    /// length and may have at most `max` bytes.
    #[inline(always)]
    pub(crate) fn fits(&self, length: u64, max: u64) -> bool {
        length <= max && length != u64::MAX && self.limits.word(HAS_MORE) == 0 && !raise::is_used()
    }

    #[inline(always)]
    pub(super) fn max_body(&self) -> u64 {
        self.limits.word(MAX_BODY)
    }

    pub(super) fn limits(&self) -> Limits {
        Limits(self.limits.get())
    }
}

// === impl Limits ===

impl Limits {
    fn new(settings: &RequestLimitSettings) -> Self {
        let size = |most: Option<u64>| most.unwrap_or(u64::MAX);
        let time = |time: Option<Duration>| time.map_or(0, nanos);
        let rate = settings.min_body_rate;
        let mut words = [0; WORDS];
        words[MAX_BODY] = settings.max_body;
        words[MOST_BODY] = settings.raisable_to.unwrap_or(0);
        words[HAS_MORE] = (!settings.is_only_size()).into();
        words[MAX_HEADER_BYTES] = size(settings.max_header_bytes);
        words[MAX_HEADERS] = size(settings.max_headers);
        words[MAX_URI] = size(settings.max_uri);
        words[IDLE] = time(settings.body_idle_timeout);
        words[TIMEOUT] = time(settings.body_timeout);
        words[RATE] = rate.map_or(0, |rate| rate.bytes_per_second);
        words[GRACE] = rate.map_or(0, |rate| nanos(rate.grace));
        Self(words)
    }

    /// The size of the body up to which inner gates may raise the limit; 0 if they may not.
    pub(super) fn most_body(&self) -> u64 {
        self.0[MOST_BODY]
    }

    pub(super) fn pace(&self) -> Pace {
        let time = |index: usize| Some(self.0[index]).filter(|nanos| *nanos > 0);
        Pace {
            idle: time(IDLE).map(Duration::from_nanos),
            timeout: time(TIMEOUT).map(Duration::from_nanos),
            rate: time(RATE).map(|bytes_per_second| MinBodyRate {
                bytes_per_second,
                grace: Duration::from_nanos(self.0[GRACE]),
            }),
        }
    }

    /// The reason to reject the head, if there is one.
    pub(super) fn rejects(&self, head: &RequestHead<'_>) -> Option<Reason> {
        let max_uri = self.0[MAX_URI];
        if max_uri != u64::MAX {
            let target = head.uri.path_and_query();
            if target.map_or(0, |target| target.as_str().len()) as u64 > max_uri {
                return Some(Reason::UriTooLong);
            }
        }
        if head.headers.len() as u64 > self.0[MAX_HEADERS] {
            return Some(Reason::HeadersTooLarge);
        }
        let max_bytes = self.0[MAX_HEADER_BYTES];
        if max_bytes == u64::MAX {
            return None;
        }
        let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        let bytes: usize = head.headers.iter().map(size).sum();
        (bytes as u64 > max_bytes).then_some(Reason::HeadersTooLarge)
    }
}
