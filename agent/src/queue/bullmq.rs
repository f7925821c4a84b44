//! BullMQ: scripts with arguments as MessagePack, and `BZPOPMIN` of a marker while nothing is to be done.
//!
//! <https://github.com/taskforcesh/bullmq/tree/master/src/commands>

use super::script::{self, Script};
use super::{Asks, Memory, Part, System};

/// Keys that BullMQ's scripts are given and Bull's aren't.
const OWN: [&str; 5] = ["meta", "marker", "events", "prioritized", "pc"];

pub(super) fn asks(call: &Asks<'_>, memory: &mut Memory) -> Option<Part> {
    if let Some(script) = Script::of(call) {
        let known = script::known(memory, script.base) == Some(System::BullMq);
        if !known && !OWN.iter().any(|key| script.has(key)) {
            return None;
        }
        let packed = script.arguments.first().and_then(super::bytes);
        let name = packed.and_then(|packed| third(packed.kept));
        return Some(script::part(System::BullMq, &script, name, memory));
    }
    let key = call.text(0)?;
    let own = match call.name {
        "BZPOPMIN" => key.ends_with(":marker"),
        "HSET" => key.ends_with(":meta") && call.text(1)?.starts_with("opts."),
        _ => false,
    };
    own.then(Part::internal)
}

/// The third of a packed array's elements, the job's name, behind where the keys begin and the id: texts all of them.
/// <https://github.com/msgpack/msgpack/blob/master/spec.md>
fn third(packed: &[u8]) -> Option<&str> {
    let rest = match packed.split_first()? {
        (0x93..=0x9f, rest) => rest,
        (0xdc, rest) => rest.get(2..)?,
        _ => return None,
    };
    let (_, rest) = string(rest)?;
    let (_, rest) = string(rest)?;
    string(rest).map(|(name, _)| name)
}

/// A packed text, and what follows it.
fn string(packed: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = match packed.split_first()? {
        (first @ 0xa0..=0xbf, rest) => (usize::from(first & 0x1f), rest),
        (0xd9, rest) => (usize::from(*rest.first()?), rest.get(1..)?),
        (0xda, rest) => {
            let length = rest.first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest.get(2..)?)
        }
        _ => return None,
    };
    let (text, rest) = rest.split_at_checked(length)?;
    Some((str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_third_of_what_is_packed() {
        let packed = b"\x9a\xaabull:mail:\xa5own-7\xa5later\xcbBz \t\x0eV\xc0\x00\xc0\xc0";
        assert_eq!(third(packed), Some("later"));
        for len in 0..packed.len() {
            assert!(third(&packed[..len]).is_none_or(|name| name == "later"), "{len}");
        }
        let long = [b"\xdc\x00\x0a\xa1x\xa0\xd9\x28".as_slice(), &[b'n'; 40]].concat();
        assert_eq!(third(&long), Some("n".repeat(40).as_str()));
        assert_eq!(third(b"bull:mail:"), None);
    }
}
