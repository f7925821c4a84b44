//! What is done with the disk queue, and what follows if that fails.
//!
//! Part of the export stage. When it is done is `spool`'s.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::time::Instant;

use super::{Load, Parcel, Running};
use crate::export::books::Refusal;
use crate::export::disk::{AppendError, Frame, Levels};
use crate::export::otlp;
use crate::export::queue::{self, Taken};

/// How long a disk is left alone that could not be used.
const DISK_PAUSE: Duration = Duration::from_secs(1);

impl Running {
    /// Puts a batch behind all else on disk; false: there is no room for it now.
    pub(super) async fn append(&mut self, taken: &mut Taken) -> bool {
        let Some(disk) = &self.disk else {
            self.writes_from = Some(Instant::now() + DISK_PAUSE);
            return false;
        };
        let (slices, spans) = (taken.slices.clone(), taken.claim.spans());
        let appended = disk.run(move |log| {
            let request = otlp::request(queue::spans(&slices)).encode_to_vec();
            (log.append(spans, &request), log.levels())
        });
        let Some((result, levels)) = appended.await else {
            self.disk_is_gone();
            return false;
        };
        self.unread_spans = levels.unread_spans;
        match result {
            Ok(()) => {
                taken.claim.spilled(&levels);
                if !self.is_at_bound(&levels) {
                    self.queue.disk_works();
                }
                true
            }
            Err(error @ AppendError::TooLarge) => {
                // It will never fit, and must not keep from the disk what does.
                self.queue.disk_failed(error.to_string());
                taken.claim.refuse_all(Refusal::Io);
                true
            }
            Err(error) => {
                self.at_bound |= matches!(error, AppendError::Bound);
                self.writes_from = Some(Instant::now() + DISK_PAUSE);
                self.queue.disk_failed(error.to_string());
                self.queue.disk(&levels);
                false
            }
        }
    }

    /// Until half of it is free again, a bound that was reached is not said to be gone: else it would be with each
    /// request that leaves.
    fn is_at_bound(&mut self, levels: &Levels) -> bool {
        self.at_bound &= levels.bytes > self.spool.disk.max_bytes / 2;
        self.at_bound
    }

    fn disk_is_gone(&mut self) {
        self.disk = None;
        self.unread_spans = 0;
        // Whoever opens the directory next sends them.
        self.held.clear();
        self.queue.disk_failed("its thread has ended".to_owned());
    }

    /// The oldest on disk that is not in hand.
    pub(super) async fn next_frame(&mut self) -> Option<Parcel> {
        if self.unread_spans == 0 || self.reads_from.is_some() {
            return None;
        }
        let Some((frame, levels)) = self.disk.as_ref()?.run(|log| (log.next(), log.levels())).await
        else {
            self.disk_is_gone();
            return None;
        };
        self.unread_spans = levels.unread_spans;
        self.queue.disk(&levels);
        match frame {
            Ok(frame) => {
                let frame = frame?;
                let number = frame.first_span;
                Some(Parcel::new(Load::Frame(Arc::new(frame)), number))
            }
            Err(error) => {
                self.reads_from = Some(Instant::now() + DISK_PAUSE);
                self.queue.disk_failed(format!("cannot read: {error}"));
                None
            }
        }
    }

    /// A frame is dealt with; what was not exported of it is refused.
    pub(super) async fn done(&mut self, frame: Arc<Frame>, exported: usize, reason: Refusal) {
        let refused = frame.spans - exported;
        let Some(disk) = &self.disk else { return };
        let done = disk.run(move |log| (log.done(&frame), log.levels()));
        let Some((result, levels)) = done.await else { return self.disk_is_gone() };
        self.queue.settled_on_disk(exported, refused, reason, &levels);
        self.unread_spans = levels.unread_spans;
        // There may be room again.
        self.writes_from = None;
        match result {
            // What is still in memory because the disk fails says by itself whether that is over.
            Ok(()) if !self.is_at_bound(&levels) && self.stalled.is_empty() => {
                self.queue.disk_works();
            }
            Ok(()) => {}
            Err(error) => {
                self.queue.disk_failed(format!("what was sent may be sent again: {error}"));
            }
        }
    }

    /// The agent ends: all that is in memory goes to disk. What is under way may be sent twice.
    pub(super) async fn put_away(&mut self) {
        // What was answered is not to be sent again.
        while let Some(Ok((id, answer))) = self.answers.try_join_next_with_id() {
            self.settle(id, answer).await;
        }
        self.answers.shutdown().await;
        let mut rest: Vec<Parcel> = mem::take(&mut self.under_way).into_values().collect();
        rest.retain(Parcel::is_fresh);
        rest.extend(mem::take(&mut self.stalled));
        rest.sort_by_key(|parcel| parcel.number);
        let (batch_spans, linger) = (self.spool.limits.batch_spans, Duration::ZERO);
        for mut parcel in rest {
            if let Load::Fresh(taken) = &mut parcel.load {
                self.append(taken).await;
            }
        }
        while let Some(mut taken) = self.queue.take(batch_spans, linger).await {
            self.append(&mut taken).await;
        }
    }
}
