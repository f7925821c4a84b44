//! The capture stage alone: every operation of traced scripts with the payload that was copied, which the
//! agent itself never lets out.

use std::ops::ControlFlow;

use wirespan::capture::{Capture, CaptureSettings, Operation, Record, Slot};
use wirespan_ebpf::ProcessSlot;
use wirespan_tests::script::Script;
use wirespan_tests::wait;

use super::capture::LIMIT;

/// One operation.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) slot: Slot,
    pub(crate) tid: u32,
    pub(crate) sent: bool,
    pub(crate) length: u32,
    pub(crate) payload: Vec<u8>,
    pub(crate) tail: Vec<u8>,
}

impl Seen {
    fn of(operation: &Operation<'_>) -> Self {
        Self {
            slot: operation.slot,
            tid: operation.tid,
            sent: operation.sent,
            length: operation.length,
            payload: operation.payload.to_vec(),
            tail: operation.tail.to_vec(),
        }
    }
}

/// Loaded programs, and what they have told so far.
pub(crate) struct Recorder {
    capture: Capture,
    pub(crate) seen: Vec<Seen>,
}

impl Recorder {
    pub(crate) fn load(burst_budget: u32) -> Self {
        let settings = CaptureSettings {
            burst_budget,
            ring_bytes: 16 << 20,
            rings: 1,
            measure: false,
            log: false,
        };
        Self { capture: Capture::load(&settings).unwrap(), seen: Vec::new() }
    }

    /// Starts a script and traces it.
    pub(crate) fn script(&mut self, name: &str) -> (Script, Slot) {
        let script = Script::start(name).unwrap();
        let slot = self.capture.trace(i32::try_from(script.pid()).unwrap()).unwrap();
        (script, slot)
    }

    /// Reads what there is until the script's own counts are reached; then the books are exactly those.
    pub(crate) fn read(&mut self, script: &mut Script, slot: Slot) -> ProcessSlot {
        let counts = script.run("COUNTS").unwrap();
        let number = |way: &str, what: &str| counts[way][what].as_u64().unwrap();
        let operations = [number("receive", "operations"), number("send", "operations")];
        let total: u64 = operations.iter().sum();
        wait::until("every operation's record is read", LIMIT, || {
            self.drain();
            let read = self.of(slot).filter(|seen| seen.length > 0).count();
            Ok((read as u64 >= total).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}: {counts} {:?}", self.capture.books(slot)));
        let books = self.capture.books(slot);
        let bytes = [number("receive", "bytes"), number("send", "bytes")];
        assert_eq!(books.seen_operations, operations, "{counts} {books:?}");
        assert_eq!(books.seen_bytes, bytes, "{counts} {books:?}");
        let copied: u64 = self.of(slot).map(|seen| seen.payload.len() as u64).sum();
        assert_eq!(books.captured_bytes.iter().sum::<u64>(), copied, "{books:?}");
        let left: u64 = books.uncaptured_bytes.iter().sum();
        assert_eq!(copied + left, bytes.iter().sum::<u64>(), "{books:?}");
        books
    }

    /// The operations of a process.
    pub(crate) fn of(&self, slot: Slot) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(move |seen| seen.slot == slot)
    }

    fn drain(&mut self) {
        let seen = &mut self.seen;
        self.capture.drain(usize::MAX, u64::MAX, |record| {
            if let Record::Operation(operation) = record {
                seen.push(Seen::of(&operation));
            }
            ControlFlow::<()>::Continue(())
        });
    }
}
