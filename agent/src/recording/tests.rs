//! A recording is what was written, up to where it is whole; and no recording harms who replays it.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use proptest::prelude::*;

use super::frame::{ChangeKind, Doubt, DoubtKind, Gone, Job, Operation, Process, Socket};
use super::*;
use crate::capture::Slot;
use crate::export::Exporters;
use crate::pipeline::Replay;
use crate::process::Allowed;
use crate::process::testing::node;
use crate::settings::{Globs, Settings, Source};
use crate::span::{Attribute, Resource, Value};

fn traced() -> Traced {
    let process = node(&["node", "app.js"], &[80, 443]);
    Traced {
        id: ProcessId(1),
        slot: Slot(7),
        origin: Arc::new(process.clone()),
        process,
        resource: Arc::new(Resource {
            attributes: vec![
                Attribute::new("service.name", "front"),
                Attribute::new("process.command_args", vec!["node".to_owned()]),
                Attribute::new("process.pid", 7),
            ],
        }),
        by: Allowed::All,
        settings: Arc::new(Settings {
            routes: vec!["/users/{id}".to_owned()],
            attribute_count: 40,
            ignored_routes: Globs::new(vec!["/health*".to_owned()]).unwrap(),
            attributes: vec![("a".to_owned(), Source::Fixed(Value::from("secret")))],
            ..Settings::default()
        }),
        program: Arc::default(),
        known_from_ns: 0,
        gone_ns: None,
    }
}

fn operation(sent: bool, at_ns: u64, offset: u64, payload: &[u8]) -> Operation {
    Operation {
        cookie: 9,
        slot: 7,
        tid: 70,
        sent,
        at_ns,
        offset,
        length: payload.len() as u32,
        payload: payload.to_vec(),
        queue_ns: Some(5),
        ..Operation::default()
    }
}

/// A request and its answer, told as an agent tells it.
fn frames() -> Vec<Frame> {
    let header = Header { version: VERSION, seed: 3, ..Header::default() };
    let json = serde_json::to_vec(&Facts::of(&traced())).unwrap();
    let kind = ChangeKind::Traced.into();
    let socket = Socket {
        cookie: 9,
        slot: 7,
        at_ns: 1_000,
        local: "127.0.0.1:80".to_owned(),
        remote: "127.0.0.1:5000".to_owned(),
        passive: true,
        ..Socket::default()
    };
    let round = |now_ns| Kind::Round(Round { now_ns, wall_ns: 1 << 60 });
    let end = RoundEnd { drained: true, ..RoundEnd::default() };
    [
        Kind::Header(header),
        Kind::Process(Process { json }),
        Kind::Change(Change { kind, process: 1, ..Change::default() }),
        Kind::Listed(Listed { at_ns: 900 }),
        round(5_000),
        Kind::Socket(socket),
        Kind::Operation(operation(false, 2_000, 50, b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n")),
        Kind::Operation(operation(
            true,
            3_000,
            70,
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        )),
        Kind::Job(Job { slot: 7, at_ns: 3_500, context: 4, id: "a-task".to_owned() }),
        Kind::Doubt(Doubt {
            kind: DoubtKind::Messages.into(),
            process: 1,
            cookie: 9,
            at_ns: 3_600,
        }),
        Kind::Gone(Gone { cookie: 9, slot: 7, at_ns: 4_000, error: 0 }),
        Kind::Housekeeping(Housekeeping { now_ns: 5_000, lost: vec![1], forgotten: Vec::new() }),
        Kind::RoundEnd(end.clone()),
        round(10_000_000_000),
        Kind::RoundEnd(end),
        Kind::Change(Change { kind: ChangeKind::Gone.into(), process: 1, ..Change::default() }),
        Kind::End(End { operations: 2, ..End::default() }),
    ]
    .map(Frame::from)
    .to_vec()
}

fn written(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes).unwrap();
    frames.iter().for_each(|frame| writer.write(frame).unwrap());
    bytes
}

/// Spans, and frames that made no sense; `None`: it can't be begun.
fn replayed(bytes: &[u8]) -> Option<(u64, u64, bool)> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let exporters = Exporters::start(Vec::new(), runtime.handle(), Default::default()).unwrap();
    let mut reader = Reader::new(bytes).ok()?;
    let (mut replay, _) = Replay::new(reader.frame().ok()??, exporters.handle()).ok()?;
    while let Ok(Some(frame)) = reader.frame() {
        replay.follow(frame);
    }
    let books = replay.finish();
    Some((books.spans, books.malformed, reader.is_cut()))
}

#[test]
fn every_kind_of_frame_is_read_as_it_was_written() {
    let frames = frames();
    let bytes = written(&frames);
    let mut reader = Reader::new(bytes.as_slice()).unwrap();
    let read: Vec<Frame> = std::iter::from_fn(|| reader.frame().unwrap()).collect();
    assert_eq!(read, frames);
    assert!(!reader.is_cut());
    for frame in &frames {
        match frame.kind.as_ref().unwrap() {
            Kind::Operation(told) => {
                let record = told.record().unwrap();
                let (payload, tail) = (record.payload.to_vec(), record.tail.to_vec());
                assert_eq!(Operation::of(&record, payload, tail), *told);
            }
            Kind::Socket(told) => assert_eq!(Socket::from(&told.record()), *told),
            Kind::Gone(told) => assert_eq!(Gone::from(&told.record()), *told),
            _ => {}
        }
    }
}

#[test]
fn what_is_known_of_a_process_is_what_its_spans_need_and_no_secret() {
    let traced = traced();
    let json = serde_json::to_vec(&Facts::of(&traced)).unwrap();
    let text = String::from_utf8(json.clone()).unwrap();
    assert!(!text.contains("secret"), "{text}");
    let read = Facts::read(&json).unwrap();
    assert_eq!((read.id, read.slot), (traced.id, traced.slot));
    assert_eq!(read.resource, traced.resource);
    assert_eq!(read.process.listening, traced.process.listening);
    assert_eq!(read.process.runtime, traced.process.runtime);
    let expected = Settings { attributes: Vec::new(), ..Settings::clone(&traced.settings) };
    assert_eq!(*read.settings, expected);
}

#[test]
fn a_replay_makes_the_spans() {
    assert_eq!(replayed(&written(&frames())), Some((1, 0, false)));
}

#[test]
fn every_prefix_ends_early() {
    let bytes = written(&frames());
    let whole = replayed(&bytes).unwrap();
    for length in 0..bytes.len() {
        let Some((spans, malformed, _)) = replayed(&bytes[..length]) else {
            assert!(length < 80, "a prefix of {length} bytes can't be begun");
            continue;
        };
        assert!(spans <= whole.0 && malformed == 0, "{length}: {spans} spans, {malformed}");
    }
}

#[test]
fn another_version_is_refused() {
    let mut frames = frames();
    let header = Header { version: VERSION + 1, ..Header::default() };
    frames[0] = Kind::Header(header).into();
    assert_eq!(replayed(&written(&frames)), None);
    assert_eq!(replayed(&written(&frames[1..])), None);
}

#[test]
fn a_length_that_no_frame_has_is_an_error() {
    for length in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff, 0xff, 0x7f]] {
        let bytes = [&MAGIC[..], length].concat();
        let mut reader = Reader::new(bytes.as_slice()).unwrap();
        assert!(matches!(reader.frame(), Err(ReadError::Length { number: 0 })));
    }
}

fn recorder(path: &Path, max_bytes: u64) -> io::Result<Recorder> {
    Recorder::create(path, &Options { with_payload: false, max_bytes, seed: 1 })
}

#[test]
fn a_file_is_its_owners_and_new() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.rec");
    recorder(&path, 1 << 20).unwrap().finish().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(recorder(&path, 1 << 20).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(directory.path().join("elsewhere"), &link).unwrap();
    assert_eq!(recorder(&link, 1 << 20).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
    assert!(!directory.path().join("elsewhere").exists());
}

#[test]
fn of_a_job_only_the_id_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.rec");
    let mut recorder = recorder(&path, 1 << 20).unwrap();
    let pickled = b"\x80\x05secret\x8c\x10celery.app.trace\x94\x8c\x0etrace_task_ret\x94\x93\x94(\x8c\x03job\x94\
        \x8c\x06a-task\x94}\x94\x8c\x06secret\x94";
    let begun = |content| JobBegun { slot: Slot(7), at_ns: 3_500, context: 4, content };
    recorder.job(&begun(pickled));
    recorder.job(&begun(b"secret, and no task"));
    recorder.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(6).any(|it| it == b"secret"));
    let mut reader = Reader::new(bytes.as_slice()).unwrap();
    let frames = std::iter::from_fn(|| reader.frame().unwrap());
    let jobs: Vec<Job> = frames
        .filter_map(|frame| match frame.kind {
            Some(Kind::Job(job)) => Some(job),
            _ => None,
        })
        .collect();
    assert_eq!(jobs, [Job { slot: 7, at_ns: 3_500, context: 4, id: "a-task".to_owned() }]);
}

#[test]
fn a_replay_knows_whose_child_a_process_is_while_that_runs() {
    let mut selection = crate::selection::Selection::told();
    let mut parent = traced();
    (parent.process.pid, parent.process.ppid) = (10, 1);
    let mut child = traced();
    (child.id, child.slot) = (ProcessId(2), Slot(8));
    (child.process.pid, child.process.ppid) = (11, 10);
    let ids = [parent.id, child.id];
    for traced in [parent, child] {
        let id = traced.id;
        assert!(selection.tell(traced));
        selection.told_traced(id, false);
    }
    assert_eq!(ids.map(|id| selection.parent_of(id)), [None, Some(ids[0])]);
    selection.told_gone(ids[0], 5);
    assert_eq!(selection.parent_of(ids[1]), None);
}

#[test]
fn a_file_grows_no_larger_than_it_may_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.rec");
    let mut recorder = recorder(&path, 4_096).unwrap();
    for now_ns in 0..10_000 {
        recorder.round(clock::unix_ns() + now_ns, WallClock::at_distance(1));
    }
    assert!(recorder.is_over());
    assert!(recorder.finish().unwrap().full);
    let bytes = std::fs::read(&path).unwrap();
    assert!((2_000..=4_096).contains(&bytes.len()), "{}", bytes.len());
    let mut reader = Reader::new(bytes.as_slice()).unwrap();
    let last = std::iter::from_fn(|| reader.frame().unwrap()).last().unwrap();
    assert!(matches!(last.kind, Some(Kind::End(End { full: true, .. }))));
}

proptest! {
    #[test]
    fn flipped_bytes_are_survived(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = written(&frames());
        for (at, to) in flips {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        replayed(&bytes);
    }

    #[test]
    fn any_fields_are_survived(numbers in proptest::collection::vec(any::<u64>(), 12), order in any::<u64>()) {
        let [cookie, at, offset, now, wall, id, slot, length, ..] = numbers[..] else { unreachable!() };
        let mut frames = frames();
        frames.insert(6, Kind::Operation(Operation {
            cookie: cookie % 12, slot: slot as u32 % 9, at_ns: at >> (order % 9), offset, length: length as u32,
            error: 0, queue_ns: Some(numbers[8]), run_delay_ns: numbers[9], exec_ns: numbers[10],
            ..operation(order % 2 == 0, 0, 0, b"GET /a HTTP/1.1\r\n\r\n")
        }).into());
        frames.insert(9, Kind::Round(Round { now_ns: now >> (order % 5), wall_ns: wall }).into());
        frames.insert(9, Kind::Housekeeping(Housekeeping { now_ns: numbers[11] >> 2, lost: vec![id % 3], forgotten: vec![id % 2] }).into());
        frames.insert(10, Kind::RoundEnd(RoundEnd { drained: true, ..RoundEnd::default() }).into());
        replayed(&written(&frames));
    }
}
