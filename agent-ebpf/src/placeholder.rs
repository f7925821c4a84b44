//! What stands in an instruction until user space writes the value there, before loading.
//!
//! The verifier then sees constants, drops what is switched off, and nothing need be read at run time: in a
//! process that does other work each further cache line costs a hook more than its arithmetic.

use crate::{FIELDS, Settings};

/// Placeholders of loads (the instruction's 16-bit offset) are this plus the field's index. No structure or
/// map value here is that large.
pub const LOAD: i16 = 0x7f00;

/// Placeholders of constants (a move's 32-bit immediate) are this plus an index: of the field whose offset it
/// is, or, behind those, of the setting. "WS" and a number.
pub const CONSTANT: i32 = 0x5753_0000;

const WIDTH: usize = size_of::<u32>();
const _: () = assert!(FIELDS.len() + size_of::<Settings>() / WIDTH <= 0x100);

/// Of a load at the field that is `member` bytes into [`crate::KernelFields`].
#[must_use]
pub const fn load(member: usize) -> i16 {
    LOAD + index(member) as i16
}

/// Of the offset of that field.
#[must_use]
pub const fn offset(member: usize) -> i32 {
    CONSTANT + index(member) as i32
}

/// Of the setting that is `member` bytes into [`Settings`].
#[must_use]
pub const fn setting(member: usize) -> i32 {
    CONSTANT + index(FIELDS.len() * WIDTH + member) as i32
}

#[expect(clippy::cast_possible_truncation, reason = "at most 0x100, asserted above")]
const fn index(bytes: usize) -> u8 {
    (bytes / WIDTH) as u8
}
