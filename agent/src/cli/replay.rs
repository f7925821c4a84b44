//! `wirespan replay`.

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use crate::cli::{ReplayArgs, complain};
use crate::config::Config;
use crate::config::plan::{Flags, Plan};
use crate::export::{ExportHandle, Exporters};
use crate::pipeline::{Replay, ReplayBooks};
use crate::recording::frame::Kind;
use crate::recording::{ReadError, Reader};

/// How long exporters may take to send what is left.
const FLUSH: Duration = Duration::from_secs(30);

/// How long they are left to themselves when they have too much.
const PAUSE: Duration = Duration::from_millis(1);

pub(super) fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let name = || format!("{}", args.file.display());
    let file = File::open(&args.file).with_context(name)?;
    let mut reader = Reader::new(BufReader::new(file)).with_context(name)?;
    let first =
        reader.frame().with_context(name)?.with_context(|| format!("{} is empty", name()))?;
    let flags =
        Flags { export: args.export.clone(), traceparent: args.traceparent, ..Flags::default() };
    let plan = Plan::new(&Config::default(), &flags, super::variable)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("wirespan-io")
        .enable_all()
        .build()
        .context("can't start the exporters' thread")?;
    let exporters = Exporters::start(plan.targets.clone(), runtime.handle(), plan.limits)?;
    let (mut replay, header) = Replay::new(first, exporters.handle()).with_context(name)?;
    complain(&format!(
        "wirespan: recorded by wirespan {} on {} {}, {}",
        header.agent.escape_debug(),
        header.kernel.escape_debug(),
        header.machine.escape_debug(),
        if header.with_payload { "with payload" } else { "payload overwritten or left out" },
    ));
    let ended: Result<(), ReadError> = loop {
        match reader.frame() {
            Ok(Some(frame)) => {
                let hands_over = matches!(frame.kind, Some(Kind::RoundEnd(_)));
                replay.follow(frame);
                if hands_over {
                    wait_for_room(&exporters.handle(), plan.limits.queue_spans);
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let books = replay.finish();
    let mut lost = 0;
    for books in runtime.block_on(exporters.shutdown(FLUSH)) {
        lost += books.refused.total();
        if books.refused.total() > 0 {
            complain(&format!(
                "wirespan: {}: {} spans were lost",
                books.name,
                books.refused.total()
            ));
        }
    }
    tell(&books, reader.frames(), reader.is_cut());
    ended.with_context(|| format!("{} ends early", name()))?;
    Ok(if lost > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A recording is read faster than spans leave.
fn wait_for_room(exporters: &ExportHandle, room: usize) {
    let is_full = || exporters.books().iter().any(|books| books.queued > room as u64 / 2);
    while is_full() {
        std::thread::sleep(PAUSE);
    }
}

fn tell(books: &ReplayBooks, frames: u64, cut: bool) {
    let agent = &books.agent;
    complain(&format!(
        "wirespan: {frames} frames, {} operations, {} bytes of which {} were recorded",
        agent.operations, agent.bytes, agent.bytes_captured
    ));
    complain(&format!(
        "wirespan: {} calls: {} spans, parents certain {}, none {}, withheld {}; silent {}, abandoned {}, open {}",
        agent.calls,
        books.spans,
        agent.parents_certain,
        agent.parents_none,
        agent.parents_withheld,
        agent.calls_silent,
        agent.calls_abandoned,
        agent.calls_open
    ));
    if let Some(end) = books.end.filter(|end| end.left_out_bytes > 0) {
        complain(&format!(
            "wirespan: {} bytes of payload were left out of the recording: of what they carried there are no spans",
            end.left_out_bytes
        ));
    }
    if books.malformed > 0 {
        complain(&format!("wirespan: {} frames made no sense", books.malformed));
    }
    if cut || books.end.is_none() {
        complain("wirespan: the recording was cut off: what was under way then has no spans");
    }
}
