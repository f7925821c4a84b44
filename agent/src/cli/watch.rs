//! `wirespan tap` and `wirespan top`: the traces that a running agent makes, and what takes their time.

use std::io::{IsTerminal, Read, Stdout, Write as _};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use crate::cli::{NOT_RUNNING, TapArgs, TopArgs, complain};
use crate::control::{self, AskError};
use crate::export::{FRAME, TapRequest, TopRequest};

/// Columns where nothing tells them: of traces, and of a table, which a file has room for.
const COLUMNS: usize = 80;
const TABLE_COLUMNS: usize = 120;

/// Rows of a frame where nothing tells them.
const ROWS: usize = 40;

/// Lines of a frame that are no rows, and the one that the cursor is in.
const OTHER_LINES: usize = 3;

/// Clears a terminal, and goes to its beginning.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub(super) fn tap(args: &TapArgs) -> anyhow::Result<ExitCode> {
    let stdout = std::io::stdout();
    let (columns, _) = size(&stdout);
    let request = TapRequest {
        service: args.service.clone(),
        route: args.route.clone(),
        errors: args.errors,
        slower_than_ms: args.slower_than.map(|time| time.0.as_secs_f64() * 1e3),
        columns: columns.unwrap_or(COLUMNS),
        color: stdout.is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        traceparent: args.traceparent,
    };
    let shown = show(control::tap(&args.control_socket, &request), |text| text.to_owned())?;
    Ok(over(&shown, Asked::UntilItEnds))
}

pub(super) fn top(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let stdout = std::io::stdout();
    let (columns, lines) = size(&stdout);
    let rows = lines.map(|lines| lines.saturating_sub(OTHER_LINES));
    let request = TopRequest {
        service: args.service.clone(),
        interval_ms: u64::try_from(args.interval.0.as_millis()).unwrap_or(u64::MAX),
        rows: args.rows.or(rows).unwrap_or(ROWS),
        columns: columns.unwrap_or(TABLE_COLUMNS),
        sort: args.sort,
        once: args.once,
    };
    // Off a terminal an empty line is between two frames.
    let mut between = "";
    let mut frames = 0;
    let clears = stdout.is_terminal() && !args.once;
    let shown = show(control::top(&args.control_socket, &request), |text| {
        let mut parts = text.split(FRAME);
        let mut shown = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            frames += 1;
            shown.extend([if clears { CLEAR } else { between }, part]);
            between = "\n";
        }
        shown
    })?;
    let asked = match (args.once, frames) {
        (false, _) => Asked::UntilItEnds,
        (true, 0) => Asked::More,
        (true, _) => Asked::ThisMuch,
    };
    Ok(over(&shown, asked))
}

/// The terminal's columns and lines.
fn size(stdout: &Stdout) -> (Option<usize>, Option<usize>) {
    let Ok(size) = rustix::termios::tcgetwinsize(stdout) else { return (None, None) };
    let known = |count: u16| (count > 0).then_some(usize::from(count));
    (known(size.ws_col), known(size.ws_row))
}

/// Why nothing more is shown.
enum Shown {
    /// The agent said no more.
    All,
    /// The reader has left.
    Unread,
    /// No agent runs.
    Nothing(AskError),
}

/// Shows what the agent writes, as `shape` has it.
fn show(
    stream: Result<UnixStream, AskError>,
    mut shape: impl FnMut(&str) -> String,
) -> anyhow::Result<Shown> {
    let mut stream = match stream {
        Ok(stream) => stream,
        Err(error @ AskError::NotRunning(_)) => return Ok(Shown::Nothing(error)),
        Err(error) => return Err(error.into()),
    };
    let stdout = std::io::stdout();
    let mut bytes = [0; 16 << 10];
    // What a read ended in the midst of.
    let mut rest = Vec::new();
    loop {
        let read = match stream.read(&mut bytes) {
            Ok(0) => return Ok(Shown::All),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        rest.extend_from_slice(bytes.get(..read).unwrap_or_default());
        let whole = match std::str::from_utf8(&rest) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Ok(_) | Err(_) => rest.len(),
        };
        let text: Vec<u8> = rest.drain(..whole).collect();
        let text = shape(&String::from_utf8_lossy(&text));
        let mut stdout = stdout.lock();
        // A reader that has left is no reason to fail.
        if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
            return Ok(Shown::Unread);
        }
    }
}

/// What was asked for, as against what was shown.
enum Asked {
    UntilItEnds,
    ThisMuch,
    More,
}

/// Says why nothing more is shown.
fn over(shown: &Shown, asked: Asked) -> ExitCode {
    match (shown, asked) {
        (Shown::Nothing(error), _) => {
            complain(&format!("wirespan: {error}"));
            return ExitCode::from(NOT_RUNNING);
        }
        (Shown::All, Asked::More) => {
            complain("wirespan: the agent showed nothing");
            return ExitCode::FAILURE;
        }
        (Shown::All, Asked::UntilItEnds) => complain("wirespan: the agent ended"),
        (Shown::All, Asked::ThisMuch) | (Shown::Unread, _) => {}
    }
    ExitCode::SUCCESS
}
