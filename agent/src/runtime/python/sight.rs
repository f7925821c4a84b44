//! Where a function's result can be seen before it returns, at instructions that cost one trap.
//!
//! A return probe is two traps: one where the function begins, one where it returns. A probe at an instruction
//! in its middle is one, if the kernel emulates the instruction (jumps, calls, `nop`: `branch_setup_xol_ops` in
//! arch/x86/kernel/uprobes.c; any other is executed out of line under a single step, which takes longer than
//! both). So the function's ways are followed, each register by what it holds, for a set of such instructions
//! with a register each: on every way that returns something other than 0 there is one, and on every way on
//! which one lies its register holds what is returned. Memory is not followed, and a function with loops is
//! not either. Where nothing is certain there is no such set, and a return probe does it.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    Code, ConditionCode, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory,
    Mnemonic, OpAccess, OpKind, Register,
};

/// An instruction before which a register holds what the function will return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sight {
    pub(super) address: u64,
    /// Its number in instructions: RAX 0, RCX 1, RDX 2, RBX 3, ... R15 15.
    pub(super) register: u8,
}

/// Ways through the function, and instructions on one, that are followed.
const MAX_WAYS: usize = 128;
const MAX_LENGTH: usize = 512;

/// The longest instruction.
const INSTRUCTION_BYTES: usize = 15;

const REGISTERS: usize = 16;
const RAX: usize = 0;

/// Registers that a called function keeps (System V ABI): RBX, RSP, RBP, R12 to R15.
const KEPT: [usize; 7] = [3, 4, 5, 12, 13, 14, 15];

/// What a register holds: the same number, the same value. 0: zero.
type Value = u32;

/// One way, up to where it is followed.
#[derive(Clone)]
struct Way {
    at: u64,
    registers: [Value; REGISTERS],
    /// Values that branches have shown to be 0.
    zero: BTreeSet<Value>,
    /// The value that the flags are of, where an instruction has compared it with 0.
    compared: Option<Value>,
    next: Value,
    seen: BTreeSet<u64>,
    /// Instructions that may carry a probe, with what the registers held before them.
    probeable: Vec<(u64, [Value; REGISTERS])>,
}

/// What a way returns, and what was on it.
struct Returned {
    value: Value,
    probeable: Vec<(u64, [Value; REGISTERS])>,
}

/// The sights of the function at `entry`, whose code `read` gives: up to so many bytes from an address on.
/// `None`: nothing is certain.
pub(super) fn of(entry: u64, read: impl Fn(u64, usize) -> Option<Vec<u8>>) -> Option<Vec<Sight>> {
    let ways = follow(entry, &read)?;
    // By instruction and register: the ways on which it tells what is returned.
    let mut telling: BTreeMap<Sight, BTreeSet<usize>> = BTreeMap::new();
    let mut wrong: BTreeSet<Sight> = BTreeSet::new();
    for (index, way) in ways.iter().enumerate() {
        for (address, registers) in &way.probeable {
            for (register, value) in (0..).zip(registers) {
                let sight = Sight { address: *address, register };
                if *value == way.value {
                    telling.entry(sight).or_default().insert(index);
                } else {
                    wrong.insert(sight);
                }
            }
        }
    }
    telling.retain(|sight, _| !wrong.contains(sight));
    let mut missing: BTreeSet<usize> =
        (0..).zip(&ways).filter(|(_, way)| way.value != 0).map(|(index, _)| index).collect();
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        let gained = |ways: &BTreeSet<usize>| ways.intersection(&missing).count();
        // Of several the first: `max_by_key` gives the last.
        let (best, ways) = telling.iter().rev().max_by_key(|(_, ways)| gained(ways))?;
        if gained(ways) == 0 {
            return None;
        }
        chosen.push(*best);
        missing.retain(|index| !ways.contains(index));
    }
    chosen.sort_unstable();
    (!chosen.is_empty()).then_some(chosen)
}

fn follow(entry: u64, read: &impl Fn(u64, usize) -> Option<Vec<u8>>) -> Option<Vec<Returned>> {
    let mut registers = [0; REGISTERS];
    for (value, register) in (1..).zip(&mut registers) {
        *register = value;
    }
    let next = Value::try_from(REGISTERS).ok()? + 1;
    let mut open = vec![Way {
        at: entry,
        registers,
        zero: BTreeSet::new(),
        compared: None,
        next,
        seen: BTreeSet::new(),
        probeable: Vec::new(),
    }];
    let mut ended = Vec::new();
    let mut factory = InstructionInfoFactory::new();
    while let Some(mut way) = open.pop() {
        if !way.seen.insert(way.at) || way.seen.len() > MAX_LENGTH {
            return None;
        }
        let code = read(way.at, INSTRUCTION_BYTES)?;
        let instruction = Decoder::with_ip(64, &code, way.at, DecoderOptions::NONE).decode();
        if is_emulated(&instruction, &code) {
            way.probeable.push((way.at, way.registers));
        }
        way.at = instruction.next_ip();
        match instruction.flow_control() {
            FlowControl::Return => {
                ended.push(way.returned()?);
                if ended.len() > MAX_WAYS {
                    return None;
                }
                continue;
            }
            FlowControl::UnconditionalBranch => way.at = instruction.near_branch_target(),
            FlowControl::ConditionalBranch => {
                let mut other = way.clone();
                other.at = instruction.near_branch_target();
                match (instruction.condition_code(), way.compared) {
                    (ConditionCode::e, Some(value)) => _ = other.zero.insert(value),
                    (ConditionCode::ne, Some(value)) => _ = way.zero.insert(value),
                    _ => {}
                }
                open.push(other);
            }
            FlowControl::Call | FlowControl::IndirectCall => way.call(),
            FlowControl::Next => way.execute(&instruction, &mut factory)?,
            _ => return None,
        }
        open.push(way);
    }
    Some(ended)
}

/// Whether the kernel emulates it: told by its first bytes, since one with a prefix is not.
fn is_emulated(instruction: &Instruction, code: &[u8]) -> bool {
    let plain =
        matches!(code, [0xe8 | 0xe9 | 0xeb | 0x90 | 0x70..=0x7f, ..] | [0x0f, 0x80..=0x8f, ..]);
    plain && !instruction.is_invalid()
}

impl Way {
    fn fresh(&mut self) -> Value {
        self.next += 1;
        self.next
    }

    fn call(&mut self) {
        self.compared = None;
        for register in 0..REGISTERS {
            if !KEPT.contains(&register) {
                let value = self.fresh();
                self.set(register, value);
            }
        }
    }

    fn set(&mut self, register: usize, value: Value) {
        if let Some(place) = self.registers.get_mut(register) {
            *place = value;
        }
    }

    fn get(&self, register: usize) -> Value {
        self.registers.get(register).copied().unwrap_or(Value::MAX)
    }

    /// What can't be told of an instruction is that its registers hold something else after it.
    fn execute(
        &mut self,
        instruction: &Instruction,
        factory: &mut InstructionInfoFactory,
    ) -> Option<()> {
        let both = (instruction.op_count() == 2
            && instruction.op0_kind() == OpKind::Register
            && instruction.op1_kind() == OpKind::Register)
            .then(|| (instruction.op0_register(), instruction.op1_register()));
        match (instruction.code(), both) {
            (Code::Mov_rm64_r64 | Code::Mov_r64_rm64, Some((to, from))) => {
                let value = self.get(from.number());
                self.set(to.number(), value);
                return Some(());
            }
            (_, Some((to, from))) if instruction.mnemonic() == Mnemonic::Xor && to == from => {
                self.compared = None;
                // Of 32 bits the upper half is cleared with them; of fewer it stays.
                let value = if to.size() >= 4 { 0 } else { self.fresh() };
                self.set_if_general(to, value);
                return Some(());
            }
            (Code::Test_rm64_r64, Some((one, other))) if one == other => {
                self.compared = Some(self.get(one.number()));
                return Some(());
            }
            _ => {}
        }
        if instruction.rflags_modified() != 0 {
            self.compared = None;
        }
        for used in factory.info(instruction).used_registers() {
            let written = matches!(
                used.access(),
                OpAccess::Write
                    | OpAccess::CondWrite
                    | OpAccess::ReadWrite
                    | OpAccess::ReadCondWrite
            );
            if written {
                let value = self.fresh();
                self.set_if_general(used.register(), value);
            }
        }
        Some(())
    }

    fn set_if_general(&mut self, register: Register, value: Value) {
        if register.is_gpr() {
            self.set(register.full_register().number(), value);
        }
    }

    fn returned(self) -> Option<Returned> {
        let known = |value: Value| if self.zero.contains(&value) { 0 } else { value };
        let value = known(self.get(RAX));
        let probeable = self.probeable.iter().map(|(at, held)| (*at, held.map(known))).collect();
        Some(Returned { value, probeable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code at addresses.
    type Code = &'static [(u64, &'static [&'static str])];

    // PyContext_CopyCurrent of builds in use, at their addresses.
    const CPYTHON_3_8: Code = &[(
        0x189810,
        &[
            "415455488b2d5e14190053488b9d58050000488b83f00000004885c00f84de0000004c8b60188b0594901e0085c00f84",
            "9c000000488b1d8d901e0083e80189057c901e00488b432048c743200000000048890571901e00488b05120f19008b40",
            "0485c00f858700000048c70301000000488b95b8010000488b43f8488d4bf048c7431000000000c7432800000000488b",
            "720883e00366480f6ec248c743200000000049830424014809f04c89631866480f6ec848890e660f6cc10f1143f04889",
            "4a084889d85b5d415cc3660f1f440000488b3dc9101900e884d5edff4889c34885c0758c31dbebda0f1f840000000000",
            "4889dfe828ededffe96cffffff0f1f00e85beeffff4885c074da488983f0000000e90cffffff",
        ],
    )];
    const CPYTHON_3_11: Code = &[(
        0x26adf0,
        &[
            "415455488b2d368f1d0053488b9d40020000488b83e00000004885c00f84ce0000004c8b6018488b8540020000488b40",
            "108b90d01b000085d20f8581000000488b3dc28c1d00e8c5c8e8ff4889c34885c00f84b900000048c743100000000048",
            "8d4bf0c743280000000048c743200000000049830424014c896318488b8540020000488b4010488b90e8020000488b43",
            "f8488b720883e00366480f6ec24809f048890e66480f6ec8660f6cc10f1143f048894a084889d85b5d415cc30f1f4000",
            "488b98c81b000083ea018990d01b0000488b53204889df488990c81b000048c7432000000000e8c5e7e8ffe967ffffff",
            "e8fbf8ffff4885c07416488983e0000000e91cffffff662e0f1f84000000000031dbeba0",
        ],
    )];
    const CPYTHON_3_12: Code = &[(
        0x29d620,
        &[
            "4154555366488d3dc4682a00666648e8acafe6ff4c8b204889c3498b8424d00000004885c00f84e5000000488b681849",
            "8b4424108b90f02b040085d20f8596000000488b3d6f642a00e8e2b1e6ff4889c34885c00f84d60000008b450048c743",
            "1000000000c743280000000048c743200000000083c001740389450048896b1866488d3d48682a00666648e830afe6ff",
            "488d4bf0488b00488b4010488b90d0000000488b43f8488b720883e00366480f6ec24809f048890e66480f6ec8660f6c",
            "c10f1143f048894a084889d85b5d415cc30f1f8000000000488b98e82b040083ea018990f02b0400488b53204889df48",
            "8990e82b040048c7432000000000e87dd1e6ffe952ffffff0f1f840000000000e84bedffff4885c0741649898424d000",
            "00004c8b23e901ffffff660f1f44000031dbeb95",
        ],
    )];
    const CPYTHON_3_13: Code = &[(
        0x24dfe0,
        &[
            "4154555366488d3dd4ce2900666648e83ca3e3ff4c8b204889c3498b8424d00000004885c00f84dd000000488b681849",
            "8b4424108b907033000085d20f8ea6000000488b986833000083ea01899070330000488b53204889df48899068330000",
            "48c7432000000000e8a3c3e3ff8b450048c7431000000000c743280000000048c743200000000083c001740389450048",
            "896b1866488d3d45ce2900666648e8ada2e3ff488d4bf0488b00488b4010488b90481d0000488b43f8488b720883e003",
            "66480f6ec24809f048890e66480f6ec8660f6cc10f1143f048894a084889d85b5d415cc30f1f4000488b3df9c92900e8",
            "dca4e3ff4889c34885c00f856dffffff31dbebd80f1f4000e863edffff4885c074ee49898424d00000004c8b23e909ff",
            "ffff",
        ],
    )];
    /// Debian's 3.11: one function that ends by jumping into another.
    const DEBIAN_3_11: Code = &[
        (0x6936f0, &["56e81a0000004885c00f84296ce0ff488b781859e937020000"]),
        (0x49a328, &["31c05ac3"]),
        (
            0x693940,
            &[
                "554889fd5351e855feffff4889c34885c0741148834500014889c748896818e87c7fe6ff4889d85a5b5dc3",
            ],
        ),
    ];

    fn sights(code: Code) -> Option<Vec<Sight>> {
        let entry = code.first().map(|(address, _)| *address)?;
        of(entry, |address, limit| {
            code.iter().find_map(|(at, text)| {
                let text = text.concat();
                let from = usize::try_from(address.checked_sub(*at)?).ok()?;
                let bytes: Option<Vec<u8>> = (from..text.len() / 2)
                    .take(limit)
                    .map(|index| u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok())
                    .collect();
                bytes.filter(|bytes| !bytes.is_empty())
            })
        })
    }

    fn at(address: u64, register: u8) -> Sight {
        Sight { address, register }
    }

    #[test]
    fn the_result_is_seen_in_builds_in_use() {
        const RAX: u8 = 0;
        const RBX: u8 = 3;
        // Where the free list's context and a new one meet is no jump: one sight for each.
        assert_eq!(sights(CPYTHON_3_8), Some(vec![at(0x189873, RBX), at(0x1898f2, RAX)]));
        assert_eq!(sights(CPYTHON_3_11), Some(vec![at(0x26ae41, RAX), at(0x26aed6, RBX)]));
        assert_eq!(sights(CPYTHON_3_12), Some(vec![at(0x29d697, RBX)]));
        assert_eq!(sights(CPYTHON_3_13), Some(vec![at(0x24e06a, RBX)]));
        assert_eq!(sights(DEBIAN_3_11), Some(vec![at(0x693951, RAX)]));
    }

    #[test]
    fn what_is_not_certain_has_no_sights() {
        // xor eax, eax; ret: nothing is returned.
        assert_eq!(sights(&[(0, &["31c0", "c3"])]), None);
        // call; ret: what is returned is in no register before an instruction that could be probed.
        assert_eq!(sights(&[(0, &["e800000000", "c3"])]), None);
        // call; nop; ret: now it is.
        assert_eq!(sights(&[(0, &["e800000000", "90", "c3"])]), Some(vec![at(5, 0)]));
        // call; nop; mov rax, [rsp]; ret: what comes out of memory is not followed.
        assert_eq!(sights(&[(0, &["e800000000", "90", "488b0424", "c3"])]), None);
        // call; nop; mov eax, eax; ret: half of it.
        assert_eq!(sights(&[(0, &["e800000000", "90", "89c0", "c3"])]), None);
        // call; nop; test eax, eax; je +1; ret; ret: 0 in its lower half is not 0.
        assert_eq!(
            sights(&[(0, &["e800000000", "90", "85c0", "7401", "c3", "c3"])]),
            Some(vec![at(5, 0)])
        );
        // call; a call with a prefix, which the kernel does not emulate; ret.
        assert_eq!(sights(&[(0, &["e800000000", "66e800000000", "c3"])]), None);
        // call; mov rbx, rax; call; mov rax, rbx; ret: a register that calls keep.
        assert_eq!(
            sights(&[(0, &["e800000000", "4889c3", "e800000000", "4889d8", "c3"])]),
            Some(vec![at(8, 0)])
        );
        // call; mov rcx, rax; call; mov rax, rcx; ret: one that they don't.
        assert_eq!(sights(&[(0, &["e800000000", "4889c1", "e800000000", "4889c8", "c3"])]), None);
        // call; dec eax; jne back; ret: a loop.
        assert_eq!(sights(&[(0, &["e800000000", "ffc8", "75fc", "c3"])]), None);
        // call; je +1; nop; ret: only on one of the ways.
        assert_eq!(sights(&[(0, &["e800000000", "7401", "90", "c3"])]), Some(vec![at(5, 0)]));
        // jmp rax; ud2; code that ends.
        assert_eq!(sights(&[(0, &["ffe0"])]), None);
        assert_eq!(sights(&[(0, &["0f0b"])]), None);
        assert_eq!(sights(&[(0, &["90"])]), None);
    }
}
