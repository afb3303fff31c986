//! Calls that are futures.

use std::future::poll_fn;
use std::panic::{self, AssertUnwindSafe};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::CircuitBreaker;
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
    /// See [what such a call counts as](super#what-counts), and when it is ignored because of [the
    /// request body of the caller](super#what-the-caller-caused).
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
        let future = pin!(Some(future));
        // The token is not marked as held: this listens to the gates inside it, as a gate does.
        let permit = Permit::counted(self, self.shared.admit(0), &self.shared.reporter)?;
        let mut call = Call {
            future,
            permit: Some(permit.cancelled_if_dropped()),
            report: Report::NOTHING,
        };
        let result = poll_fn(|cx| call.poll(cx)).await;
        let _listening = Listening::new(call.report);
        let classified = call.isolated(|_| classify(&result).into());
        let outcome = classified.unwrap_or_else(|| plain::outcome(&Rejections, &result));
        call.settle(upload::judged(outcome, false));
        result
    }
}

/// A call that runs. If it is dropped, the gates inside it report before its permit is settled.
struct Call<'a, F> {
    future: Pin<&'a mut Option<F>>,
    permit: Option<Permit<&'a CircuitBreaker>>,
    /// The report of the gates inside it, in earlier polls.
    report: Report,
}

// === impl Call ===

impl<F> Call<'_, F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<F::Output>
    where
        F: Future,
    {
        let _listening = Listening::new(self.report);
        let polled = self.isolated(|call| {
            let future = call.future.as_mut().as_pin_mut();
            future.expect("it is not dropped").poll(cx)
        });
        self.report = upload::reported().kept_by_future();
        polled
    }

    /// Runs code of the user. A panic is the outcome of the call, and unwinds further.
    fn isolated<T>(&mut self, run: impl FnOnce(&mut Self) -> T) -> T {
        let ran = panic::catch_unwind(AssertUnwindSafe(|| run(self)));
        ran.unwrap_or_else(|payload| {
            self.settle(Outcome::Panicked);
            panic::resume_unwind(payload)
        })
    }

    fn settle(&mut self, outcome: Outcome) {
        if let Some(permit) = self.permit.take() {
            permit.settle(outcome);
        }
    }
}

impl<F> Drop for Call<'_, F> {
    fn drop(&mut self) {
        let _listening = Listening::new(self.report);
        self.future.set(None);
        drop(self.permit.take());
    }
}
