//! Waiting for a condition with a deadline: the only way in which the tests and the demo wait.

use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::sys;

/// Between two looks: short beside anything waited for, long beside the cost of looking.
const INTERVAL: Duration = Duration::from_millis(15);

/// Calls `look` until it returns something.
///
/// # Errors
/// The first error of `look`, at once; or that `what` did not come true within `limit`.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = sys::monotonic() + limit;
    loop {
        // The clock is read first, so that there is one look after the deadline however long one takes.
        let late = sys::monotonic() >= deadline;
        if let Some(value) = look()? {
            return Ok(value);
        }
        if late {
            bail!("not within {} s: {what}", limit.as_secs());
        }
        thread::sleep(INTERVAL);
    }
}
