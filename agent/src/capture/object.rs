//! The kernel programs' object, embedded by the build script, and the constants that it lacks.
//!
//! What CO-RE relocations and read-only globals do for C: see `wirespan_ebpf::placeholder`.

use std::ops::Range;

use object::{Object as _, ObjectSection as _, SectionFlags, elf};
use wirespan_ebpf::{FIELDS, KernelFields, placeholder};

/// The object; empty in a build without the BPF toolchain.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/wirespan.o"));

/// The object can't be given its constants.
#[derive(Debug, thiserror::Error)]
pub enum RelocateError {
    /// It isn't an object file.
    #[error("the embedded programs can't be read: {0}")]
    Object(#[from] object::Error),
    /// An instruction asks for a constant that the agent doesn't know: the two don't belong together.
    #[error("the embedded programs ask for an unknown constant, {0}")]
    Unknown(usize),
    /// A field lies further into its structure than a load reaches.
    #[error("{structure}.{path} lies {offset} bytes into its structure, too far for a load")]
    TooFar {
        /// The structure.
        structure: &'static str,
        /// The member.
        path: &'static str,
        /// Where it is.
        offset: u32,
    },
}

/// An instruction's size; one that loads 64 bits takes two.
const INSTRUCTION: usize = 8;

/// Opcodes (`include/uapi/linux/bpf.h`): the class and mode of a load from memory, whatever its size, a
/// load of 64 bits, a move of 32.
const CLASS_AND_MODE: u8 = 0xe7;
const LOAD: u8 = 0x61;
const LOAD_64_BITS: u8 = 0x18;
const MOVE: u8 = 0xb7;

/// The object with each placeholder replaced: `constants` are the offsets of [`FIELDS`], then the settings.
pub(super) fn relocate(object: &[u8], constants: &[u32]) -> Result<Vec<u8>, RelocateError> {
    let mut relocated = object.to_vec();
    for code in code(object)? {
        let mut rest = relocated.get_mut(code).unwrap_or_default();
        while let Some((instruction, behind)) = rest.split_first_chunk_mut::<INSTRUCTION>() {
            let [opcode, ..] = *instruction;
            write(instruction, constants)?;
            let skip = if opcode == LOAD_64_BITS { INSTRUCTION } else { 0 };
            rest = behind.get_mut(skip..).unwrap_or_default();
        }
    }
    Ok(relocated)
}

/// Where in the object its instructions lie.
fn code(object: &[u8]) -> Result<Vec<Range<usize>>, object::Error> {
    let file = object::File::parse(object)?;
    let executable = |flags| matches!(flags, SectionFlags::Elf { sh_flags } if sh_flags & u64::from(elf::SHF_EXECINSTR) != 0);
    let ranges = file.sections().filter(|section| executable(section.flags()));
    let ranges = ranges.filter_map(|section| section.file_range());
    let place = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    Ok(ranges.map(|(offset, size)| place(offset)..place(offset.saturating_add(size))).collect())
}

/// Gives one instruction its constant, if it has a placeholder.
fn write(instruction: &mut [u8; INSTRUCTION], constants: &[u32]) -> Result<(), RelocateError> {
    let [opcode, _, offset_low, offset_high, immediate @ ..] = *instruction;
    let offset = i16::from_le_bytes([offset_low, offset_high]);
    let immediate = i32::from_le_bytes(immediate);
    if opcode & CLASS_AND_MODE == LOAD && offset >= placeholder::LOAD {
        let index = usize::from(offset.abs_diff(placeholder::LOAD));
        // Where a field is absent the verifier finds that the load is never reached.
        let found = match *constants.get(index).ok_or(RelocateError::Unknown(index))? {
            KernelFields::ABSENT => 0,
            found => found,
        };
        let reachable = i16::try_from(found).ok().filter(|found| *found < placeholder::LOAD);
        let Some(reachable) = reachable else {
            let field = FIELDS.get(index).ok_or(RelocateError::Unknown(index))?;
            let (structure, path) = (field.structure, field.path);
            return Err(RelocateError::TooFar { structure, path, offset: found });
        };
        instruction[2..4].copy_from_slice(&reachable.to_le_bytes());
    } else if opcode == MOVE && immediate & !0xffff == placeholder::CONSTANT {
        let index = (immediate & 0xffff) as usize;
        let found = constants.get(index).ok_or(RelocateError::Unknown(index))?;
        instruction[4..].copy_from_slice(&found.to_le_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(opcode: u8, offset: i16, immediate: i32) -> [u8; INSTRUCTION] {
        let [low, high] = offset.to_le_bytes();
        let [a, b, c, d] = immediate.to_le_bytes();
        [opcode, 0x12, low, high, a, b, c, d]
    }

    #[test]
    fn loads_and_moves_get_their_fields_offsets() {
        for opcode in [0x61, 0x69, 0x71, 0x79] {
            let mut load = instruction(opcode, placeholder::LOAD + 1, 0);
            write(&mut load, &[7, 1234]).unwrap();
            assert_eq!(load, instruction(opcode, 1234, 0));
        }
        let mut constant = instruction(MOVE, 0, placeholder::CONSTANT);
        write(&mut constant, &[7, 1234]).unwrap();
        assert_eq!(constant, instruction(MOVE, 0, 7));
    }

    #[test]
    fn what_is_no_placeholder_stays() {
        let ordinary = [
            instruction(0x79, 0x4068, 0),
            instruction(0x7b, placeholder::LOAD, 0), // a store
            instruction(0xdb, placeholder::LOAD, 0), // an atomic operation
            instruction(MOVE, 0, placeholder::CONSTANT - 1),
            instruction(0xb4, placeholder::LOAD, 5),
        ];
        for mut each in ordinary {
            let before = each;
            write(&mut each, &[7, 1234]).unwrap();
            assert_eq!(each, before);
        }
    }

    #[test]
    fn an_absent_field_is_a_constant_of_ones_and_a_load_that_is_never_reached() {
        let mut constant = instruction(MOVE, 0, placeholder::CONSTANT);
        write(&mut constant, &[KernelFields::ABSENT]).unwrap();
        assert_eq!(constant, instruction(MOVE, 0, -1));
        let mut load = instruction(0x79, placeholder::LOAD, 0);
        write(&mut load, &[KernelFields::ABSENT]).unwrap();
        assert_eq!(load, instruction(0x79, 0, 0));
    }

    #[test]
    fn what_can_not_be_written_is_an_error() {
        let mut load = instruction(0x79, placeholder::LOAD, 0);
        assert!(matches!(
            write(&mut load, &[0x7f00]),
            Err(RelocateError::TooFar { offset: 0x7f00, .. })
        ));
        assert!(matches!(write(&mut load, &[]), Err(RelocateError::Unknown(0))));
    }

    #[test]
    fn no_placeholder_is_left_in_the_object() {
        if OBJECT.is_empty() {
            return; // a build without the kernel programs: the end-to-end tests need them, this can't run
        }
        let relocated = relocate(OBJECT, &[40; 0x100]).unwrap();
        assert_ne!(relocated, OBJECT);
        assert_eq!(relocate(&relocated, &[]).unwrap(), relocated);
    }
}
