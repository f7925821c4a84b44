//! Whether a failed OTLP export may be tried again, and after how long.
//!
//! Part of the export stage. The rules are <https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-response>,
//! `#otlpgrpc-throttling`, `#otlphttp-response` and `#otlphttp-throttling`. Pure: no clock and no sleep, time and
//! chance are parameters.

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use rand::Rng;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::options::RetryPolicy;

/// What a failure means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The receiver will not take it, however often it is sent.
    Rejected,
    /// It may be sent again, no sooner than after this pause if the receiver named one.
    Retry(Option<Duration>),
}

/// A gRPC status.
pub(super) fn of_status(status: &Status) -> Verdict {
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

/// An HTTP status that is no success; `wish` is what `Retry-After` says.
pub(super) fn of_http(status: u16, wish: Option<Duration>) -> Verdict {
    match status {
        429 | 502 | 503 | 504 => Verdict::Retry(wish),
        _ => Verdict::Rejected,
    }
}

/// A `Retry-After` header's value (RFC 9110, section 10.2.3): seconds, or a date. `None`: neither.
pub(super) fn after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than fits is more than anybody waits.
        return Some(value.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
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
            assert_eq!(of_status(&Status::new(code, "")), expected, "{code:?}");
        }
    }

    #[test]
    fn retry_info_is_read() {
        let with = |code, delay| {
            let details = ErrorDetails::with_retry_info(delay);
            of_status(&Status::with_error_details(code, "", details))
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
        assert_eq!(of_status(&status), Verdict::Rejected);
    }

    fn bytes(bytes: &'static [u8]) -> tonic::codegen::Bytes {
        tonic::codegen::Bytes::from_static(bytes)
    }

    #[test]
    fn only_the_http_statuses_that_the_specification_lists_are_retried() {
        let wish = Some(Duration::from_secs(3));
        for status in 300..600 {
            let retried = matches!(status, 429 | 502 | 503 | 504);
            let expected = if retried { Verdict::Retry(wish) } else { Verdict::Rejected };
            assert_eq!(of_http(status, wish), expected, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, expected) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:40:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(after(value, now), expected.map(Duration::from_secs), "{value}");
        }
        assert_eq!(after("99999999999999999999999", now), Some(Duration::MAX));
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
