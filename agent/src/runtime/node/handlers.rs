//! Which handler works on which delivery, from what Node's assist noted.
//!
//! Between capture and correlation. A delivery's name may be longer than a note: its pieces come right before the
//! note that says what it names. Sans-IO; every note is another process's word, and one that doesn't fit is dropped.

use rustc_hash::FxHashMap;

use super::area::{Delivered, Piece};
use crate::call::{ProcessId, SocketId};
use crate::runtime::{Delivery, Handling, Work};

/// A topic has 249 bytes at most; a queue's name and a job's id together are given this.
const MOST_BYTES: usize = 1024;

/// A name of which some pieces came.
#[derive(Debug, Default)]
struct Name {
    number: u64,
    bytes: Vec<u8>,
}

/// Of all processes.
#[derive(Debug, Default)]
pub(super) struct Handlers {
    names: FxHashMap<ProcessId, Name>,
    /// Handlers that began.
    pub(super) began: u64,
    /// Notes of deliveries that made no sense.
    pub(super) malformed: u64,
}

impl Handlers {
    /// A piece of what the delivery is called that the handler with this number works on.
    pub(super) fn piece(&mut self, process: ProcessId, number: u64, offset: usize, piece: &Piece) {
        let name = self.names.entry(process).or_default();
        if offset == 0 {
            name.number = number;
            name.bytes.clear();
        }
        let follows = name.number == number && name.bytes.len() == offset;
        if follows && offset + piece.bytes().len() <= MOST_BYTES {
            name.bytes.extend_from_slice(piece.bytes());
        } else {
            name.bytes.clear();
        }
    }

    /// A handler began. `connection`: that its delivery came on. `None` where it isn't said which delivery it is.
    pub(super) fn began(
        &mut self,
        process: ProcessId,
        context: u64,
        at_ns: u64,
        connection: Option<u64>,
        (delivered, name_bytes): (Delivered, usize),
    ) -> Option<Work> {
        let name = self.names.get_mut(&process).filter(|name| name.number == context);
        let name = name.map(|name| std::mem::take(&mut name.bytes)).unwrap_or_default();
        let name = String::from_utf8(name).ok().filter(|name| name.len() == name_bytes);
        let delivery = name.and_then(|name| match delivered {
            Delivered::Amqp { channel, tag } => Some(Delivery::Amqp { channel, tag }),
            Delivered::Kafka { partition, first, last } => {
                let named = !name.is_empty();
                named.then_some(Delivery::Kafka { topic: name, partition, first, last })
            }
            Delivered::Job => {
                let (queue, id) = name.split_once('\0')?;
                Some(Delivery::Job { queue: queue.to_owned(), id: id.to_owned() })
            }
        });
        let Some(delivery) = delivery else {
            self.malformed += 1;
            return None;
        };
        self.began += 1;
        let connection = connection.map(SocketId);
        Some(Work::Began(Handling { process, context, connection, delivery, at_ns }))
    }

    /// No more notes come of this process.
    pub(super) fn end(&mut self, process: ProcessId) {
        self.names.remove(&process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: ProcessId = ProcessId(7);

    fn named(handlers: &mut Handlers, number: u64, name: &[u8]) {
        for (index, piece) in name.chunks(40).enumerate() {
            handlers.piece(PROCESS, number, 40 * index, &Piece::new(piece));
        }
    }

    #[test]
    fn a_name_is_put_together_from_its_pieces() {
        let mut handlers = Handlers::default();
        let topic = "a-topic-with-a-name-that-is-longer-than-one-note-hölds.of-it".to_owned();
        named(&mut handlers, 5, topic.as_bytes());
        let delivered = Delivered::Kafka { partition: 3, first: 17, last: 19 };
        let began = handlers.began(PROCESS, 5, 100, Some(9), (delivered, topic.len()));
        let delivery = Delivery::Kafka { topic, partition: 3, first: 17, last: 19 };
        let connection = Some(SocketId(9));
        let handling = Handling { process: PROCESS, context: 5, connection, delivery, at_ns: 100 };
        assert_eq!(began, Some(Work::Began(handling)));
    }

    #[test]
    fn a_name_with_a_piece_missing_names_nothing() {
        let mut handlers = Handlers::default();
        let job = Delivered::Job;
        // The first piece was lost, another handler's name lies there, the end was lost.
        handlers.piece(PROCESS, 5, 40, &Piece::new(b"rest"));
        assert_eq!(handlers.began(PROCESS, 5, 1, None, (job, 44)), None);
        named(&mut handlers, 6, b"bull:mail\x001");
        assert_eq!(handlers.began(PROCESS, 7, 1, None, (job, 11)), None);
        named(&mut handlers, 8, b"bull:mail\x00");
        assert_eq!(handlers.began(PROCESS, 8, 1, None, (job, 14)), None);
        named(&mut handlers, 9, b"no separator");
        assert_eq!(handlers.began(PROCESS, 9, 1, None, (job, 12)), None);
        named(&mut handlers, 10, &[0xff; 3]);
        assert_eq!(handlers.began(PROCESS, 10, 1, None, (job, 3)), None);
        assert_eq!((handlers.began, handlers.malformed), (0, 5));
        named(&mut handlers, 11, b"bull:mail\x0042");
        let began = handlers.began(PROCESS, 11, 1, None, (job, 12));
        let delivery = Delivery::Job { queue: "bull:mail".to_owned(), id: "42".to_owned() };
        assert!(matches!(began, Some(Work::Began(handling)) if handling.delivery == delivery));
    }

    #[test]
    fn a_name_has_a_bound() {
        let mut handlers = Handlers::default();
        named(&mut handlers, 5, &[b'x'; 4000]);
        assert!(handlers.names[&PROCESS].bytes.len() <= MOST_BYTES);
    }
}
