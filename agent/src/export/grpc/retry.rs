//! Whether a failed OTLP/gRPC export may be tried again, and after how long.
//!
//! Part of the export stage. The rules are
//! <https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-response> and `#otlpgrpc-throttling`. Pure: no
//! clock and no sleep, time and chance are parameters.

use std::error::Error as _;
use std::time::Duration;

use rand::Rng;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::export::options::RetryPolicy;

/// What a failure means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The receiver will not take it, however often it is sent.
    Rejected,
    /// It may be sent again, no sooner than after this pause if the receiver named one.
    Retry(Option<Duration>),
}

pub(super) fn verdict(status: &Status) -> Verdict {
    let retry_info = status.get_details_retry_info();
    let pause = retry_info.as_ref().and_then(|info| info.retry_delay);
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Verdict::Retry(pause),
        // Without RetryInfo it says that the request is too large or a quota is spent.
        Code::ResourceExhausted if retry_info.is_some() => Verdict::Retry(pause),
        // Not a receiver's answer but a connection that broke while it was awaited: gRPC calls that
        // UNAVAILABLE, the HTTP/2 library calls it UNKNOWN or INTERNAL.
        Code::Unknown | Code::Internal if status.source().is_some() => Verdict::Retry(None),
        _ => Verdict::Rejected,
    }
}

/// The pauses between one request's attempts.
#[derive(Debug)]
pub(super) struct Backoff {
    policy: RetryPolicy,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self { policy, next: policy.initial_backoff.min(policy.max_backoff) }
    }

    /// The pause before the next attempt, `elapsed` after the first began; `None` to give up, because
    /// the pause would end too late.
    pub(super) fn pause(
        &mut self,
        wish: Option<Duration>,
        elapsed: Duration,
        random: &mut impl Rng,
    ) -> Option<Duration> {
        // Jitter spreads out the agents of a cluster, which lost their receiver at the same moment.
        let own = self.next.mul_f64(random.random_range(0.75..=1.25));
        self.next = self.next.mul_f64(1.5).min(self.policy.max_backoff);
        let pause = own.max(wish.unwrap_or_default());
        let in_time = elapsed.checked_add(pause)? <= self.policy.give_up_after;
        in_time.then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn only_the_codes_that_the_specification_lists_are_retried() {
        for number in 0..=16 {
            let code = Code::from_i32(number);
            let retried = matches!(
                number,
                1 /* CANCELLED */ | 4 /* DEADLINE_EXCEEDED */ | 10 /* ABORTED */
                    | 11 /* OUT_OF_RANGE */ | 14 /* UNAVAILABLE */ | 15 /* DATA_LOSS */
            );
            let expected = if retried { Verdict::Retry(None) } else { Verdict::Rejected };
            assert_eq!(verdict(&Status::new(code, "")), expected, "{code:?}");
        }
    }

    #[test]
    fn retry_info_is_read() {
        let with = |code, delay| {
            let details = ErrorDetails::with_retry_info(delay);
            verdict(&Status::with_error_details(code, "", details))
        };
        let pause = Some(Duration::from_millis(1_500));
        assert_eq!(with(Code::ResourceExhausted, pause), Verdict::Retry(pause));
        assert_eq!(with(Code::ResourceExhausted, None), Verdict::Retry(None));
        assert_eq!(with(Code::Unavailable, pause), Verdict::Retry(pause));
        assert_eq!(with(Code::InvalidArgument, pause), Verdict::Rejected);
    }

    #[test]
    fn details_that_are_no_status_are_no_retry_info() {
        let garbage = bytes(b"\xff\xff\xff\xff\xff");
        let status = Status::with_details(Code::ResourceExhausted, "", garbage);
        assert_eq!(verdict(&status), Verdict::Rejected);
    }

    fn bytes(bytes: &'static [u8]) -> tonic::codegen::Bytes {
        tonic::codegen::Bytes::from_static(bytes)
    }

    #[test]
    fn pauses_grow_up_to_the_limit_and_end_with_it() {
        let policy = RetryPolicy {
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(5),
            give_up_after: Duration::from_secs(60),
        };
        let mut random = SmallRng::seed_from_u64(7);
        let mut backoff = Backoff::new(policy);
        let mut elapsed = Duration::ZERO;
        let mut expected = Duration::from_secs(1);
        let mut pauses = 0;
        while let Some(pause) = backoff.pause(None, elapsed, &mut random) {
            assert!(
                pause >= expected.mul_f64(0.74) && pause <= expected.mul_f64(1.26),
                "{pause:?}"
            );
            expected = expected.mul_f64(1.5).min(policy.max_backoff);
            elapsed += pause;
            pauses += 1;
        }
        assert!(elapsed <= policy.give_up_after);
        assert!((10..=18).contains(&pauses), "{pauses}");
    }

    #[test]
    fn a_receiver_s_wish_is_the_least_pause_and_one_too_long_gives_up() {
        let policy = RetryPolicy::default();
        let mut random = SmallRng::seed_from_u64(7);
        let wish = Some(Duration::from_secs(20));
        let mut pause = |wish, elapsed| Backoff::new(policy).pause(wish, elapsed, &mut random);
        assert_eq!(pause(wish, Duration::ZERO), wish);
        assert!(pause(Some(Duration::ZERO), Duration::ZERO).unwrap() > Duration::ZERO);
        assert_eq!(pause(wish, Duration::from_secs(41)), None);
        assert_eq!(pause(Some(Duration::MAX), Duration::from_secs(1)), None);
    }
}
