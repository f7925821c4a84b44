//! `wirespan record`: an agent that writes down what it is told.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::run::{self, Recording};
use crate::cli::{RecordArgs, RunArgs, complain};
use crate::recording::Options;
use crate::recording::frame::End;

pub(super) fn record(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    if args.with_payload {
        complain(
            "wirespan: payload is kept: what users send and databases answer will be in the file. \
             Overwritten are credentials that are known as such; there may be others.",
        );
    }
    let traced = RunArgs {
        config: args.config.clone(),
        all: false,
        allow: args.allow.clone(),
        export: args.export.clone(),
        traceparent: false,
        no_node_assist: args.no_node_assist,
        routes: None,
        query_parameters: false,
        silent_pool_pings: false,
        message_keys: false,
        payload_budget: None,
        ring_bytes: None,
        kernel_log: false,
        measure_hooks: false,
        control_socket: args.control_socket.clone(),
    };
    let recording = Recording {
        path: &args.output,
        pids: &args.pid,
        duration: args.duration.map(|time| time.0),
        options: Options {
            with_payload: args.with_payload,
            max_bytes: u64::from(args.max_size.0),
            seed: rand::random(),
        },
    };
    run::trace(&traced, Some(&recording))
}

/// Says what is in a file.
pub(super) fn recorded(path: &Path, counts: &End) {
    let End { operations, payload_bytes, left_out_bytes, losses, full } = counts;
    let ended = if *full { "; it ended because the file was full" } else { "" };
    complain(&format!(
        "wirespan: recorded {operations} operations with {payload_bytes} bytes of payload, {left_out_bytes} left \
         out, to {}{ended}",
        path.display()
    ));
    if *losses > 0 {
        complain("wirespan: records were lost meanwhile: a replay lacks them as the agent did");
    }
}
