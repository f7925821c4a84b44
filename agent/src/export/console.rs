//! The console exporter: one tree for each trace, for a person at a terminal.
//!
//! Part of the export stage. Spans are held until their trace looks whole ([`hold`]), put into a tree
//! ([`tree`]), laid out in columns ([`layout`]) and written to standard output. Not a format for
//! programs: that is the file exporter's.

pub(super) mod hold;
pub(super) mod layout;
pub(super) mod tree;

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use self::hold::{HeldTrace, Hold};
use self::layout::Look;
use super::Limits;
use super::books::Refusal;
use super::queue::{Claim, Queue};
use super::target::{Color, ConsoleOptions};
use super::writer::{Sink, Writer};

/// How often held traces are looked at.
const TICK: Duration = Duration::from_millis(50);

/// Columns where there is no terminal to ask.
const DEFAULT_COLUMNS: usize = 80;

/// The exporter's task.
pub(super) struct Console {
    writer: Writer,
    look: Look,
    limits: Limits,
}

impl Console {
    /// A console on this process's standard output.
    pub(super) fn to_stdout(options: &ConsoleOptions, limits: Limits) -> anyhow::Result<Self> {
        Self::new(Stdout, look(options), limits)
    }

    fn new(sink: impl Sink, look: Look, limits: Limits) -> anyhow::Result<Self> {
        let writer =
            Writer::start("wirespan-console", sink).context("cannot start the writing thread")?;
        Ok(Self { writer, look, limits })
    }

    /// Shows what `queue` gives until it is closed and empty, or nobody reads any more.
    pub(super) async fn run(self, queue: Arc<Queue>) {
        // Half of what the queue may hold: held spans count as queued, and others must have room.
        let mut hold = Hold::new(self.limits.held_traces, self.limits.queue_spans / 2);
        let mut claim = queue.empty_claim();
        let began = Instant::now();
        loop {
            let taken = tokio::select! {
                taken = queue.take(self.limits.batch_spans, Duration::ZERO) => Some(taken),
                () = tokio::time::sleep(TICK), if !hold.is_empty() => None,
            };
            let now_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let ready = match taken {
                Some(Some(taken)) => {
                    claim.absorb(taken.claim);
                    taken.slices.iter().for_each(|slice| hold.insert(slice, now_ns));
                    hold.tick(now_ns)
                }
                Some(None) => {
                    let all = hold.drain();
                    self.show(&queue, &mut claim, &all).await;
                    return;
                }
                None => hold.tick(now_ns),
            };
            if !self.show(&queue, &mut claim, &ready).await {
                return;
            }
        }
    }

    /// Writes traces; `false` if nobody reads any more.
    async fn show(&self, queue: &Queue, claim: &mut Claim, traces: &[HeldTrace]) -> bool {
        if traces.is_empty() {
            return true;
        }
        let mut text = String::new();
        for trace in traces {
            layout::trace(
                &mut text,
                &tree::rows(&trace.spans(), self.look.depth_limit()),
                &self.look,
            );
        }
        let spans = traces.iter().map(HeldTrace::len).sum();
        match self.writer.put(text.into_bytes()).await {
            Ok(()) => {
                claim.exported(spans);
                queue.works();
                true
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                queue.failed("nobody reads standard output any more: the console ends".to_owned());
                claim.refuse_all(Refusal::Io);
                queue.refuse_waiting(Refusal::Io);
                false
            }
            Err(error) => {
                queue.failed(format!("cannot write to standard output: {error}"));
                claim.refused(spans, Refusal::Io);
                true
            }
        }
    }
}

/// Options and surroundings decide together.
fn look(options: &ConsoleOptions) -> Look {
    let stdout = io::stdout();
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let color = match options.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => stdout.is_terminal() && !set("NO_COLOR") && !dumb,
    };
    let terminal_columns = || {
        let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
        (size.ws_col > 0).then_some(usize::from(size.ws_col))
    };
    let columns = options.width.or_else(terminal_columns).unwrap_or(DEFAULT_COLUMNS);
    Look::new(columns, color, options.traceparent)
}

/// Standard output, whole traces at a time.
struct Stdout;

impl Sink for Stdout {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }
}

#[cfg(test)]
mod tests;
