//! What a service manager is told (sd_notify(3)): that the agent is ready, still works, and stops. Without one
//! nothing is done.
//!
//! The watchdog is answered in the pipeline's name: it is asked each time, and what hangs does not answer.

use std::sync::mpsc::Sender;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::oneshot;

use crate::pipeline::Request;

/// Everything that runs already is traced.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It was told to end.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Answers the service manager's watchdog for as long as the pipeline works.
pub(super) async fn watch(pipeline: Sender<Request>) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    // As sd_watchdog_enabled(3) recommends. Not more often than is of use.
    let mut looks = tokio::time::interval((patience / 2).max(Duration::from_millis(10)));
    loop {
        looks.tick().await;
        let (asker, answer) = oneshot::channel();
        if pipeline.send(Request::Alive(asker)).is_err() || answer.await.is_err() {
            return;
        }
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "can't tell the service manager");
    }
}
