//! Calls that are futures.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;

use super::CircuitBreaker;
#[cfg(doc)]
use super::CircuitBreakerSettings;
use crate::outcome::Outcome;
use crate::plain;
use crate::policy::Permit;
use crate::protocol::Rejections;
use crate::rejection::Rejection;
use crate::upload::{self, Listening, Report};

impl CircuitBreaker {
    /// Runs a future if the breaker admits it, and records its result as [`Plain`](crate::Plain)
    /// does: `Ok` is a success, `Err` is a failure. The outcome of a [`Rejection`], or of a boxed
    /// error around one, depends on its reason. An `Err` is ignored if the request body of the
    /// caller has failed; see [what the caller caused](super#what-the-caller-caused). To classify
    /// results yourself, use [`run_with`](Self::run_with).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use seawall::CircuitBreaker;
    /// # use tower::BoxError;
    /// # async fn query() -> Result<u32, BoxError> { Ok(7) }
    /// # async fn f(breaker: CircuitBreaker) -> Result<u32, BoxError> {
    /// // The timeout is inside, so that it counts as a failure.
    /// breaker.run(async { tokio::time::timeout(Duration::from_secs(1), query()).await? }).await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the error of the future, or a [`Rejection`] while the breaker is open. The breaker
    /// then drops the future without a poll.
    ///
    /// # Cancellation
    ///
    /// If the returned future is dropped, for example by a timeout around it, `future` is dropped.
    /// The call is ignored, unless it took longer than
    /// [`slow_call`](CircuitBreakerSettings::slow_call()).
    ///
    /// # Panics
    ///
    /// Panics if the future panics. The panic counts as a failure.
    pub async fn run<F, T, E>(&self, future: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: From<Rejection> + 'static,
    {
        self.run_with(future, |_| None).await
    }

    /// Runs a future as [`run`](Self::run) does. The closure classifies its result: an [`Outcome`],
    /// or `None` for the default.
    ///
    /// ```
    /// # use seawall::{CircuitBreaker, Outcome};
    /// # use tower::BoxError;
    /// # use std::io::{Error, ErrorKind};
    /// # async fn find() -> Result<u32, BoxError> { Ok(7) }
    /// # async fn f(breaker: CircuitBreaker) -> Result<u32, BoxError> {
    /// let not_there = |error: &BoxError| {
    ///     let error = error.downcast_ref::<Error>();
    ///     error.is_some_and(|error| error.kind() == ErrorKind::NotFound)
    /// };
    /// let found = breaker.run_with(find(), |result| match result {
    ///     Err(error) if not_there(error) => Some(Outcome::Success),
    ///     _ => None,
    /// });
    /// found.await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`run`](Self::run).
    pub async fn run_with<F, T, E, C, O>(&self, future: F, classify: C) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: From<Rejection> + 'static,
        C: FnOnce(&Result<T, E>) -> O,
        O: Into<Option<Outcome>>,
    {
        // The token is not marked as held: this listens to the gates inside it, as a gate does.
        let token = self.acquire(0)?;
        let permit: Permit<&Self> = Permit::new(self, token);
        let mut permit = Some(permit.cancelled_if_dropped());
        let mut panicked = |payload: Box<dyn Any + Send>| -> ! {
            if let Some(permit) = permit.take() {
                permit.settle(Outcome::Panicked);
            }
            panic::resume_unwind(payload)
        };
        let mut future = pin!(future);
        let mut report = Report::NOTHING;
        let result = poll_fn(|cx| {
            let _listening = Listening::new(report);
            let poll = AssertUnwindSafe(|| future.as_mut().poll(cx));
            let polled = panic::catch_unwind(poll).unwrap_or_else(|payload| panicked(payload));
            report = upload::reported();
            if polled.is_pending() {
                report = report.kept();
            }
            polled
        })
        .await;
        let _listening = Listening::new(report);
        let classify = AssertUnwindSafe(|| classify(&result).into());
        let classified = panic::catch_unwind(classify).unwrap_or_else(|payload| panicked(payload));
        let outcome = classified.unwrap_or_else(|| plain::outcome(&Rejections, &result));
        if let Some(permit) = permit {
            permit.settle(upload::judged(outcome, false));
        }
        result
    }
}
