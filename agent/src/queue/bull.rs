//! Bull: scripts with plain arguments, and `BRPOPLPUSH` from the list of waiting jobs.
//!
//! <https://github.com/OptimalBits/bull/tree/develop/lib>

use super::script::{self, Script};
use super::{Asks, Memory, Part, System};

/// Keys that Bull's scripts are given and BullMQ's aren't.
const OWN: [&str; 2] = ["priority", "meta-paused"];

pub(super) fn asks(call: &Asks<'_>, memory: &mut Memory) -> Option<Part> {
    if let Some(script) = Script::of(call) {
        let known = script::known(memory, script.base) == Some(System::Bull);
        if !known && !OWN.iter().any(|key| script.has(key)) {
            return None;
        }
        // Where the keys begin, the id or nothing, the name.
        let name = script.argument(2);
        return Some(script::part(System::Bull, &script, name, memory));
    }
    if call.name == "SUBSCRIBE" {
        return call.text(0)?.ends_with(":delayed").then(Part::internal);
    }
    let from_to = (call.text(0)?.strip_suffix(":wait"), call.text(1)?.strip_suffix(":active"));
    match (call.name, from_to) {
        // What is taken so is given to a script before it is worked on.
        ("BRPOPLPUSH", (Some(from), Some(to))) if from == to && from.contains(':') => {
            Some(Part::internal())
        }
        _ => None,
    }
}
