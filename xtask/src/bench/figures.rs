//! Quantiles of what was measured.

/// A value at this part of all, between the two nearest by their distance; 0 of none.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a position between 0 and the length"
)]
pub(super) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let position = part * (sorted.len().saturating_sub(1)) as f64;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    let (low, high) = (at(position.floor() as usize), at(position.ceil() as usize));
    low + (high - low) * position.fract()
}

/// The value in the middle.
pub(super) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Nanoseconds as numbers.
#[expect(clippy::cast_precision_loss, reason = "durations below days")]
pub(super) fn numbers(ns: &[u64]) -> Vec<f64> {
    ns.iter().map(|&ns| ns as f64).collect()
}

/// Where the median of what these are a sample of lies with 95 % certainty: between two of them by their rank, which
/// supposes nothing of their distribution (the binomial one of how many lie below it, by its normal approximation).
#[expect(clippy::cast_precision_loss, reason = "a count")]
pub(super) fn interval(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let half = 0.98 / count.sqrt();
    (quantile(values, (0.5 - half).max(0.0)), quantile(values, (0.5 + half).min(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_values() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert!((median(&values) - 2.5).abs() < 1e-9);
        assert!((quantile(&values, 0.0) - 1.0).abs() < 1e-9);
        assert!((quantile(&values, 1.0) - 4.0).abs() < 1e-9);
        assert!(median(&[]).abs() < 1e-9);
    }

    /// Of a thousand samples whose median is known, about 950 intervals hold it.
    #[test]
    fn the_interval_holds_the_median_as_often_as_it_says() {
        let mut state = 88_172_645_463_325_252_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            f64::from(u32::try_from(state >> 32).unwrap()) / f64::from(u32::MAX)
        };
        let holds = (0..1_000).filter(|_| {
            let sample: Vec<f64> = (0..101).map(|_| random()).collect();
            let (low, high) = interval(&sample);
            low <= 0.5 && 0.5 <= high
        });
        let count = holds.count();
        assert!((920..=980).contains(&count), "{count}");
    }
}
