//! The queue on disk by itself: what is put in comes out, whatever lies there instead of what was written.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use proptest::prelude::*;
use rstest::rstest;
use tempfile::TempDir;

use super::directory::{Directory, DirectoryError};
use super::frame::{DONE, HEADER_BYTES, Header};
use super::*;
use crate::export::testing::Mounted;

const MIB: u64 = 1 << 20;

/// A directory that is not there yet, in one that goes with it.
fn place() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("queue");
    (parent, path)
}

fn open(path: &Path, max_bytes: u64) -> Log {
    Log::open(path, max_bytes).unwrap()
}

/// Request `number`, of a length of its own, and its number of spans.
fn request(number: usize) -> (usize, Vec<u8>) {
    (1 + number % 5, vec![number as u8; 20 + 7 * number])
}

fn put(log: &mut Log, numbers: std::ops::Range<usize>) -> u64 {
    let mut total = 0;
    for number in numbers {
        let (spans, request) = request(number);
        log.append(spans, &request).unwrap();
        total += spans as u64;
    }
    total
}

/// The numbers of all requests that are left, none of which is another than it was.
fn drain(log: &mut Log) -> Vec<usize> {
    let mut numbers = Vec::new();
    while let Some(frame) = log.next().unwrap() {
        let number = usize::from(frame.request[0]);
        assert_eq!((frame.spans, frame.request.clone()), request(number));
        log.done(&frame).unwrap();
        numbers.push(number);
    }
    numbers
}

fn segments(path: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| log::is_segment(path.file_name().unwrap()));
    paths.sort();
    paths
}

fn bytes(path: &Path) -> u64 {
    segments(path).iter().map(|segment| segment.metadata().unwrap().len()).sum()
}

#[test]
fn requests_come_out_in_order_and_leave_nothing_behind() {
    let (_parent, path) = place();
    let mut log = open(&path, MIB);
    let spans = put(&mut log, 0..20);
    let levels = log.levels();
    assert_eq!((levels.spans, levels.unread_spans, levels.bytes), (spans, spans, bytes(&path)));
    assert_eq!(drain(&mut log), Vec::from_iter(0..20));
    assert_eq!(log.levels(), Levels::default());
    assert_eq!(segments(&path), Vec::<PathBuf>::new());
    put(&mut log, 3..5);
    assert_eq!(drain(&mut log), [3, 4]);
}

#[test]
fn who_opens_it_again_finds_what_was_not_done() {
    let (_parent, path) = place();
    let mut log = open(&path, MIB);
    put(&mut log, 0..10);
    let frames: Vec<Frame> = std::iter::from_fn(|| log.next().unwrap()).collect();
    // Not in the order in which they were handed out.
    for number in [7, 0, 3] {
        log.done(&frames[number]).unwrap();
    }
    drop(log);
    let mut log = open(&path, MIB);
    assert_eq!(log.levels().damaged_bytes + log.levels().damaged_spans, 0);
    put(&mut log, 10..12);
    assert_eq!(drain(&mut log), [1, 2, 4, 5, 6, 8, 9, 10, 11]);
    assert_eq!(segments(&path), Vec::<PathBuf>::new());
}

#[test]
fn a_segment_goes_when_it_and_all_before_it_are_done() {
    let (_parent, path) = place();
    let mut log = open(&path, MIB);
    // Each a segment's size and a little more.
    for number in 0..4 {
        log.append(1, &vec![number; 70_000]).unwrap();
    }
    assert_eq!(segments(&path).len(), 4);
    let frames: Vec<Frame> = std::iter::from_fn(|| log.next().unwrap()).collect();
    log.done(&frames[1]).unwrap();
    log.done(&frames[2]).unwrap();
    assert_eq!(segments(&path).len(), 4);
    log.done(&frames[0]).unwrap();
    assert_eq!(segments(&path).len(), 1);
    drop(log);
    let levels = open(&path, MIB).levels();
    assert_eq!((levels.spans, levels.damaged_spans), (1, 0));
}

#[test]
fn the_bound_holds_and_gives_way_when_a_segment_is_done() {
    let (_parent, path) = place();
    let mut log = open(&path, MIB);
    let mut accepted = 0;
    while let Ok(()) = log.append(1, &[accepted; 10_000]) {
        accepted += 1;
        assert!(bytes(&path) <= MIB);
    }
    assert!(matches!(log.append(1, &[0; 10_000]), Err(AppendError::Bound)));
    assert!(u64::from(accepted) * 10_036 > MIB - 10_036, "{accepted}");
    assert_eq!(log.levels().spans, u64::from(accepted));
    for _ in 0..7 {
        let frame = log.next().unwrap().unwrap();
        log.done(&frame).unwrap();
    }
    log.append(1, &[0; 10_000]).unwrap();
    assert!(bytes(&path) <= MIB);
    // One that was written under a larger bound is read under a smaller, and takes no more.
    drop(log);
    let mut log = open(&path, MIB / 2);
    assert!(matches!(log.append(1, &[0; 10]), Err(AppendError::Bound)));
    while let Some(frame) = log.next().unwrap() {
        log.done(&frame).unwrap();
    }
    log.append(1, &[0; 10]).unwrap();
}

#[test]
fn a_request_larger_than_any_receiver_takes_is_refused() {
    let (_parent, path) = place();
    let mut log = open(&path, 64 * MIB);
    let request = vec![0; frame::REQUEST_LIMIT_BYTES + 1];
    assert!(matches!(log.append(1, &request), Err(AppendError::TooLarge)));
    log.append(1, &request[1..]).unwrap();
    drop(log);
    let frame = open(&path, 64 * MIB).next().unwrap().unwrap();
    assert_eq!(frame.request.len(), frame::REQUEST_LIMIT_BYTES);
}

/// A queue of three requests in one file, and where each frame of it ends.
fn three() -> (TempDir, PathBuf, Vec<u8>, [usize; 3]) {
    let (parent, path) = place();
    let mut log = open(&path, MIB);
    put(&mut log, 0..3);
    let mut end = 0;
    let ends = [0, 1, 2].map(|number| {
        end += HEADER_BYTES + request(number).1.len();
        end
    });
    let [segment] = &segments(&path)[..] else { panic!("one segment") };
    let content = fs::read(segment).unwrap();
    assert_eq!(content.len(), end);
    drop(log);
    (parent, path, content, ends)
}

/// Puts this in the place of the only segment.
fn replace(path: &Path, content: &[u8]) {
    let [segment] = &segments(path)[..] else { panic!("one segment") };
    fs::write(segment, content).unwrap();
}

#[test]
fn a_file_that_is_cut_anywhere_loses_only_what_is_cut_off() {
    for cut in 0..three().2.len() {
        let (_parent, path, content, ends) = three();
        replace(&path, &content[..cut]);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let start = if whole == 0 { 0 } else { ends[whole - 1] };
        let mut log = open(&path, MIB);
        let found = log.levels();
        assert_eq!(found.damaged_bytes, (cut - start) as u64, "cut at {cut}");
        // Its header says how many spans the request had; without it nobody knows.
        let has_header = cut - start >= HEADER_BYTES;
        let damaged = if has_header { request(whole).0 as u64 } else { 0 };
        assert_eq!(found.damaged_spans, damaged, "cut at {cut}");
        put(&mut log, 7..8);
        let expected: Vec<usize> = (0..whole).chain([7]).collect();
        assert_eq!(drain(&mut log), expected, "cut at {cut}");
        assert_eq!(segments(&path), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_byte_that_is_flipped_anywhere_loses_its_request_only_and_is_counted() {
    let (_parent, _path, content, ends) = three();
    for at in 0..content.len() {
        for flip in [0x01, 0x80, 0xff] {
            let (_parent, path, mut content, _) = three();
            content[at] ^= flip;
            replace(&path, &content);
            let hit = ends.iter().position(|end| at < *end).unwrap();
            let start = if hit == 0 { 0 } else { ends[hit - 1] };
            // Any mark but one means that it waits.
            let is_mark = (32..36).contains(&(at - start));
            let mut log = open(&path, MIB);
            let found = log.levels();
            let left: Vec<usize> = (0..3).filter(|number| is_mark || *number != hit).collect();
            assert_eq!(drain(&mut log), left, "byte {at}");
            let spans = |numbers: &[usize]| -> u64 {
                numbers.iter().map(|number| request(*number).0 as u64).sum()
            };
            // Of the last one's header nothing behind it tells.
            let unknown = hit == 2 && at - start < 32;
            let damaged = log.levels().damaged_spans;
            let expected = if is_mark || unknown { 0 } else { spans(&[hit]) };
            assert_eq!(damaged, expected, "byte {at}");
            assert_eq!(found.spans + found.damaged_spans, spans(&left) + damaged, "byte {at}");
            assert!(!unknown || found.damaged_bytes > 0, "byte {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to the files: no panic, nothing that was not written, and all spans found are accounted for.
    #[test]
    fn damage_of_any_kind_is_survived(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 1_usize..60), 1..8),
        kind in 0..4,
    ) {
        let (_parent, path, mut content, _) = three();
        for (at, byte, length) in edits {
            let at = at.index(content.len());
            let end = (at + length).min(content.len());
            match kind {
                0 => content[at] = byte,
                1 => content[at..end].fill(byte),
                2 => drop(content.drain(at..end)),
                _ => content.insert(at, byte),
            }
            if content.is_empty() {
                content.push(byte);
            }
        }
        replace(&path, &content);
        let mut log = open(&path, MIB);
        let found = log.levels();
        put(&mut log, 7..8);
        let mut delivered = 0;
        let mut numbers = Vec::new();
        while let Some(frame) = log.next().unwrap() {
            let number = usize::from(frame.request[0]);
            prop_assert_eq!((frame.spans, frame.request.clone()), request(number));
            delivered += frame.spans as u64;
            numbers.push(number);
            log.done(&frame).unwrap();
        }
        prop_assert!(numbers.is_sorted() && numbers.ends_with(&[7]), "{numbers:?}");
        let left = log.levels();
        let written = request(7).0 as u64;
        prop_assert_eq!(found.spans + found.damaged_spans + written, delivered + left.damaged_spans);
        prop_assert_eq!((left.spans, left.bytes), (0, 0));
    }
}

#[test]
fn a_lost_file_and_one_that_fails_while_it_is_read_are_counted() {
    let (_parent, path) = place();
    let mut log = open(&path, MIB);
    for number in 0..4 {
        log.append(10, &vec![number; 70_000]).unwrap();
    }
    drop(log);
    fs::remove_file(&segments(&path)[1]).unwrap();
    let mut log = open(&path, MIB);
    assert_eq!((log.levels().spans, log.levels().damaged_spans), (30, 10));
    // These two happen behind its back.
    let [_, third, fourth] = &segments(&path)[..] else { panic!("three segments") };
    OpenOptions::new().write(true).open(third).unwrap().write_all_at(b"x", 50_000).unwrap();
    fs::remove_file(fourth).unwrap();
    let frame = log.next().unwrap().unwrap();
    assert_eq!(frame.request[0], 0);
    log.done(&frame).unwrap();
    assert_eq!(log.next().unwrap(), None);
    assert_eq!((log.levels().spans, log.levels().damaged_spans), (0, 30));
}

#[test]
fn what_looks_like_a_frame_in_a_request_is_none() {
    let (_parent, path) = place();
    let mut log = open(&path, MIB);
    // A frame with another nonce, as an attribute may hold it.
    let forged = [Header::new(1, 1, b"forged").unwrap().bytes(*b"whatever"), b"forged".to_vec()];
    log.append(1, &forged.concat()).unwrap();
    log.append(2, &[9; 100]).unwrap();
    drop(log);
    let [segment] = &segments(&path)[..] else { panic!("one segment") };
    let file = OpenOptions::new().write(true).open(segment).unwrap();
    file.write_all_at(b"x", 20).unwrap();
    let mut log = open(&path, MIB);
    assert_eq!((log.levels().spans, log.levels().damaged_spans), (2, 1));
    assert_eq!(log.next().unwrap().unwrap().request, [9; 100]);
    assert_eq!(log.next().unwrap(), None);
}

#[test]
fn what_others_put_there_is_left_alone() {
    let (_parent, path) = place();
    let mut log = open(&path, MIB);
    put(&mut log, 0..2);
    drop(log);
    let name = segments(&path)[0].file_name().unwrap().to_owned();
    let strangers = ["notes.txt", "0-0.spans1", "ffffffffffffffff-0000000000000000.spans1"];
    for stranger in strangers {
        fs::write(path.join(stranger), "x").unwrap();
    }
    let target = path.join("target");
    fs::write(&target, "kept").unwrap();
    symlink(&target, path.join("0000000000000000-0000000000000001.spans1")).unwrap();
    fs::create_dir(path.join("0000000000000000-0000000000000002.spans1")).unwrap();
    let mut log = open(&path, MIB);
    assert_eq!(log.levels().damaged_spans, 0);
    assert_eq!(drain(&mut log), [0, 1]);
    assert!(!path.join(name).exists());
    assert_eq!(fs::read(target).unwrap(), b"kept");
    assert!(strangers.iter().all(|stranger| path.join(stranger).exists()));
}

#[test]
fn nobody_else_may_read_it() {
    let (parent, path) = place();
    let deep = path.join("deep");
    let mut log = open(&deep, MIB);
    put(&mut log, 0..1);
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode(&path), mode(&deep)), (0o700, 0o700));
    for entry in fs::read_dir(&deep).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    drop(log);

    fs::set_permissions(&deep, fs::Permissions::from_mode(0o750)).unwrap();
    let error = Log::open(&deep, MIB).unwrap_err().to_string();
    assert!(error.contains("mode 0750") && error.contains("mode 0700"), "{error}");
    assert_eq!(mode(&deep), 0o750);

    fs::set_permissions(&deep, fs::Permissions::from_mode(0o700)).unwrap();
    let link = parent.path().join("link");
    symlink(&deep, &link).unwrap();
    assert!(matches!(Log::open(&link, MIB), Err(DirectoryError::NoDirectory(_))));
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(Log::open(&file, MIB), Err(DirectoryError::NoDirectory(_))));
    // A link in the place of the lock.
    fs::remove_file(deep.join("lock")).unwrap();
    symlink(&file, deep.join("lock")).unwrap();
    assert!(matches!(Log::open(&deep, MIB), Err(DirectoryError::Io { .. })));
}

#[test]
fn one_agent_at_a_time() {
    let (_parent, path) = place();
    let log = open(&path, MIB);
    assert!(matches!(Log::open(&path, MIB), Err(DirectoryError::Taken(_))));
    drop(log);
    open(&path, MIB);
}

#[test]
fn a_mark_is_where_the_header_says() {
    let (_parent, path, content, ends) = three();
    let mut log = open(&path, MIB);
    let frame = log.next().unwrap().unwrap();
    log.done(&frame).unwrap();
    let marked = fs::read(&segments(&path)[0]).unwrap();
    assert_eq!(marked[32..36], DONE);
    assert_eq!((&marked[..32], &marked[36..]), (&content[..32], &content[36..]));
    assert!(ends[0] > 36);
}

#[rstest]
#[case::leaving_room(true)]
#[case::to_the_last_byte(false)]
fn a_full_disk_is_an_error_and_leaves_what_was_there(#[case] leaves_room: bool) {
    let Some(mounted) = Mounted::new("1m") else { return };
    let path = mounted.path().join("queue");
    let mut log = open(&path, 64 * MIB);
    if !leaves_room {
        log.leave_no_room();
    }
    let mut accepted = 0;
    let error = loop {
        match log.append(1, &vec![accepted; 30_000]) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    let full = match &error {
        AppendError::NoSpace => leaves_room,
        AppendError::Io(error) => !leaves_room && error.kind() == ErrorKind::StorageFull,
        _ => false,
    };
    assert!(full, "{error:?}");
    let left = rustix::fs::statvfs(mounted.path()).unwrap();
    assert_eq!(left.f_bavail * left.f_frsize >= MIB / 20, leaves_room);
    assert!(accepted > 20 && log.levels().bytes == bytes(&path), "{accepted}");
    for number in 0..5 {
        let frame = log.next().unwrap().unwrap();
        assert_eq!(frame.request[0], number);
        log.done(&frame).unwrap();
    }
    drop(log);
    let mut log = open(&path, 64 * MIB);
    assert_eq!(log.levels().damaged_bytes + log.levels().damaged_spans, 0);
    let numbers: Vec<u8> = std::iter::from_fn(|| {
        let frame = log.next().unwrap()?;
        log.done(&frame).unwrap();
        Some(frame.request[0])
    })
    .collect();
    assert_eq!(numbers, Vec::from_iter(5..accepted));
    log.append(1, b"again").unwrap();
}

#[test]
fn a_probe_says_what_is_wrong_and_changes_nothing() {
    let (parent, path) = place();
    let options =
        |directory: &Path| DiskOptions { directory: directory.to_owned(), max_bytes: MIB };
    let room = probe_disk(&options(&path.join("deep"))).unwrap();
    assert!(!path.exists() && room.wanted_bytes == MIB && room.room_bytes > 0);
    let mut log = open(&path, MIB);
    put(&mut log, 0..3);
    // Also while an agent uses it.
    assert_eq!(probe_disk(&options(&path)).unwrap().wanted_bytes, MIB - bytes(&path));
    let problem = probe_disk(&options(&segments(&path)[0])).unwrap_err();
    assert!(problem.contains("no directory"), "{problem}");
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let problem = probe_disk(&options(parent.path())).unwrap_err();
    assert!(problem.contains("mode 0755"), "{problem}");
    let Some(mounted) = Mounted::new("1m") else { return };
    mounted.remount("ro");
    let problem = probe_disk(&options(&mounted.path().join("queue"))).unwrap_err();
    assert!(problem.contains("Read-only"), "{problem}");
    assert!(Directory::open(&mounted.path().join("queue")).is_err());
}
