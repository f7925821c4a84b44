//! Where the bytes of an operation lie, and copying their beginning.
//!
//! The tracepoints tell how many bytes passed, not where they are: that is in the registers of the system
//! call. The registers can lie (an io_uring completion inside somebody's `write`, a kernel socket, a
//! 32-bit caller), so they are believed only for the calls in this file, made by a plain 64-bit task on a
//! socket of its own. All else is counted and never copied.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user, bpf_task_pt_regs};
use wirespan_ebpf::{Direction, KernelFields, MAX_PAYLOAD, TAIL, uncaptured};

use crate::kernel::{self, Object, field, offset, setting};
use crate::maps::{Gathering, MAX_VECTOR, Scratch};

/// System call numbers (`asm/unistd.h`).
#[cfg(bpf_target_arch = "x86_64")]
mod call {
    pub(super) const READ: u64 = 0;
    pub(super) const WRITE: u64 = 1;
    pub(super) const READV: u64 = 19;
    pub(super) const WRITEV: u64 = 20;
    pub(super) const SENDTO: u64 = 44;
    pub(super) const RECVFROM: u64 = 45;
    pub(super) const SENDMSG: u64 = 46;
    pub(super) const RECVMSG: u64 = 47;
    pub(super) const RECVMMSG: u64 = 299;
    pub(super) const SENDMMSG: u64 = 307;
}
#[cfg(bpf_target_arch = "aarch64")]
mod call {
    pub(super) const READ: u64 = 63;
    pub(super) const WRITE: u64 = 64;
    pub(super) const READV: u64 = 65;
    pub(super) const WRITEV: u64 = 66;
    pub(super) const SENDTO: u64 = 206;
    pub(super) const RECVFROM: u64 = 207;
    pub(super) const SENDMSG: u64 = 211;
    pub(super) const RECVMSG: u64 = 212;
    pub(super) const RECVMMSG: u64 = 243;
    pub(super) const SENDMMSG: u64 = 269;
}

/// `TS_COMPAT` (arch/x86/include/asm/thread_info.h): a 32-bit system call is running.
const TS_COMPAT: u32 = 0x2;

/// `PF_IO_WORKER` and `PF_KTHREAD` (include/linux/sched.h): a thread that makes no system calls. One that works
/// for an io_uring belongs to the process, has no ring of its own, and keeps the registers of the call in
/// which it was made.
const PF_KERNEL: u32 = 0x10 | 0x0020_0000;

/// Iovecs that are looked at, or parts of longer ones: as many as one call can have (`UIO_MAXIOV`). What lies
/// in further ones counts as not captured. node-redis has one or more for each command that waits.
const MAX_STEPS: u32 = 1024;

/// Iovecs that are looked at together, and what they may hold in all, where that goes straight into a ring.
const FEW_IOVECS: usize = 6;
pub(crate) const FEW_BYTES: usize = 1024;

/// Where the bytes lie: one buffer (`vectors` = 0, `address` and `length` of it), or an array of iovecs.
pub(crate) struct Source {
    address: u64,
    length: u64,
    vectors: u64,
}

impl Source {
    pub(crate) const NOTHING: Self = Self { address: 0, length: 0, vectors: 0 };

    #[inline(always)]
    pub(crate) fn is_vector(&self) -> bool {
        self.vectors != 0
    }

    /// The same, of which the verifier knows nothing: see [`kernel::forget`].
    #[inline(always)]
    pub(crate) fn forget(self, unknown: u64) -> Self {
        Self {
            address: kernel::forget(self.address, unknown),
            length: kernel::forget(self.length, unknown),
            vectors: kernel::forget(self.vectors, unknown),
        }
    }

    /// Whether [`copy_few`] can take it.
    #[inline(always)]
    pub(crate) fn is_few(&self) -> bool {
        self.vectors != 0 && self.vectors <= FEW_IOVECS as u64
    }

    /// Whether so many bytes can have passed through it: a buffer smaller than that is not the buffer.
    #[inline(always)]
    pub(crate) fn holds(&self, length: u64) -> bool {
        self.is_vector() || length <= self.length
    }

    /// How long the one buffer is; 0 where there are several, or none that is known.
    #[inline(always)]
    pub(crate) fn one_length(&self) -> u64 {
        if self.is_vector() { 0 } else { self.length }
    }

    /// How many buffers there are.
    #[inline(always)]
    pub(crate) fn buffers(&self) -> u64 {
        if self.is_vector() { self.vectors } else { 1 }
    }

    /// The address of one of them.
    #[inline(always)]
    pub(crate) fn buffer(&self, index: u64) -> Option<u64> {
        if self.is_vector() {
            if index >= self.vectors {
                return None;
            }
            return Some(probe_user::<Iovec>(self.address.wrapping_add(index * 16))?.base);
        }
        (index == 0 && self.address != 0).then_some(self.address)
    }
}

/// `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Iovec {
    base: u64,
    length: u64,
}

const IOVEC_BYTES: u64 = size_of::<Iovec>() as u64;

/// `struct user_msghdr`, as far as needed.
#[repr(C)]
#[derive(Clone, Copy)]
struct Message {
    name: u64,
    name_length: u32,
    padding: u32,
    vectors: u64,
    vector_count: u64,
}

/// What a system call's arguments are.
enum Shape {
    Buffer,
    Vectors,
    Message,
    Messages,
    Unknown,
}

#[inline(always)]
fn shape(number: u64, direction: Direction) -> Shape {
    if direction.0 == Direction::SEND.0 {
        match number {
            call::WRITE | call::SENDTO => Shape::Buffer,
            call::WRITEV => Shape::Vectors,
            call::SENDMSG => Shape::Message,
            call::SENDMMSG => Shape::Messages,
            _ => Shape::Unknown,
        }
    } else {
        match number {
            call::READ | call::RECVFROM => Shape::Buffer,
            call::READV => Shape::Vectors,
            call::RECVMSG => Shape::Message,
            call::RECVMMSG => Shape::Messages,
            _ => Shape::Unknown,
        }
    }
}

/// The source of this operation's bytes, or why it can't be told ([`uncaptured`]).
#[inline(always)]
pub(crate) fn locate(task: Object, sk: Object, direction: Direction) -> Result<Source, u8> {
    let kernel_socket: u8 = field!(sk, sock_kern_sock);
    let flags: u32 = field!(task, task_flags);
    if u32::from(kernel_socket) & setting!(kern_sock_mask) != 0 || flags & PF_KERNEL != 0 {
        return Err(uncaptured::SYSCALL);
    }
    if offset!(task_status) != KernelFields::ABSENT {
        let status: u32 = field!(task, task_status);
        if status & TS_COMPAT != 0 {
            return Err(uncaptured::SYSCALL);
        }
    }
    // SAFETY: `task` is the running task.
    let regs = unsafe { bpf_task_pt_regs(task.cast_mut().cast()) } as Object;
    let argument: [u64; 3] =
        [field!(regs, regs_arg0), field!(regs, regs_arg1), field!(regs, regs_arg2)];
    let shape = shape(field!(regs, regs_syscall), direction);
    if matches!(shape, Shape::Unknown) {
        return Err(uncaptured::SYSCALL);
    }
    if offset!(task_io_uring) != KernelFields::ABSENT {
        let ring: u64 = field!(task, task_io_uring);
        // A ring's completions run inside whatever system call the task is in: then only the descriptor
        // proves that the registers speak of this socket.
        if ring != 0 && !is_descriptor_of(task, sk, argument[0]) {
            return Err(uncaptured::SYSCALL);
        }
    }
    match shape {
        Shape::Buffer => Ok(Source { address: argument[1], length: argument[2], vectors: 0 }),
        Shape::Vectors => Ok(Source { address: argument[1], length: 0, vectors: argument[2] }),
        // Of several messages in one call nothing tells which one this is.
        Shape::Messages if argument[2] != 1 => Err(uncaptured::SYSCALL),
        // `struct mmsghdr` begins with its msghdr.
        _ => match probe_user::<Message>(argument[1]) {
            Some(message) => {
                Ok(Source { address: message.vectors, length: 0, vectors: message.vector_count })
            }
            None => Err(uncaptured::FAULT),
        },
    }
}

/// Whether descriptor `fd` of the task is this socket.
#[inline(always)]
fn is_descriptor_of(task: Object, sk: Object, fd: u64) -> bool {
    let files: Object = field!(task, task_files);
    let table: Object = field!(files, files_fdt);
    let size: u32 = field!(table, fdt_max);
    if fd >= u64::from(size) {
        return false;
    }
    let entries: u64 = field!(table, fdt_fd);
    let file = kernel::probe_kernel::<u64>(entries + fd * 8).unwrap_or(0);
    let socket: Object = field!(sk, sock_socket);
    let own: u64 = field!(socket, socket_file);
    file != 0 && file == own
}

/// What an AMQP client begins with, and a heartbeat, are operations of so many bytes. They are looked at whether
/// or not they would be cut: what follows in one burst is read in parts that begin anywhere.
pub(crate) const AMQP_BYTES: u32 = 8;

/// Whether the operation begins as a message of Redis, PostgreSQL, AMQP or Kafka does, whose structure is spread over
/// all of a stream: more of it is worth copying. Where that errs too much is copied, or too little, and nothing else.
#[inline(always)]
pub(crate) fn begins_wide(source: &Source) -> bool {
    let (mut address, mut length) = (source.address, source.length);
    if source.is_vector() {
        match probe_user::<Iovec>(address) {
            Some(vector) => (address, length) = (vector.base, vector.length),
            None => return false,
        }
    }
    match probe_user::<[u8; 2]>(address) {
        // A RESP type, and a length, a number or a word.
        Some(
            [b'*' | b'$' | b'+' | b'-' | b':' | b'%' | b'~' | b'>', b'0'..=b'9' | b'A'..=b'Z'],
        ) => true,
        // A type of PostgreSQL's, and a length's first byte.
        Some([b'A'..=b'Z' | b'a'..=b'z' | b'1'..=b'3', 0]) => true,
        // A frame's type of AMQP's, and a channel's first byte; what its clients begin with.
        Some([1..=3 | 8, 0] | [b'A', b'M']) => true,
        Some([0, _]) if length >= 12 => begins_as_kafka(address),
        _ => false,
    }
}

/// Whether twelve bytes are a request's, or those of an answer to `Fetch`: a length and a correlation id, not
/// large, and no throttling. A client may have read the first eight of an answer before.
///
/// A request begins with its length, API key and version. A connection's first one is looked at: an answer that comes
/// in parts, of which none that would be cut begins as one, can't tell.
#[inline(always)]
fn begins_as_kafka(address: u64) -> bool {
    match probe_user::<[u8; 12]>(address) {
        Some([0, _, _, _, 0, 0..=75, 0, 0..=20, ..]) => true,
        Some([0, _, _, _, 0, _, _, _, 0, 0, 0, 0]) => true,
        Some([0, 0, 0, 0, 0, 0, 0, ..]) => true,
        _ => false,
    }
}

/// Copies `size` bytes that lie `from` bytes into an operation, out of one buffer; `most` at most. Returns how
/// many: all or none.
#[inline(always)]
pub(crate) fn copy_buffer(
    target: *mut u8,
    source: &Source,
    from: u64,
    size: u64,
    most: usize,
) -> u64 {
    let size = if size > most as u64 { most as u64 } else { size };
    if read_user(target, size, source.address.wrapping_add(from)) { size } else { 0 }
}

/// Copies `size` bytes that lie `from` bytes into an operation to a scratch record's payload, `at` bytes in;
/// `MOST` at most. Returns how many are there; fewer than wanted means that the rest could not be read.
#[inline(always)]
pub(crate) fn copy<const MOST: usize>(
    scratch: *mut Scratch,
    at: u64,
    source: &Source,
    from: u64,
    size: u64,
) -> u64 {
    if at > MAX_PAYLOAD as u64 {
        return 0;
    }
    if source.is_vector() {
        let next = source.address;
        let end = next.wrapping_add(source.vectors.wrapping_mul(IOVEC_BYTES));
        let start = Gathering { next, end, from, size, at, copied: 0, passed: 0 };
        // SAFETY: `scratch` is a map value.
        unsafe { (*scratch).gathering = start };
        let done = gather(scratch);
        return if done > MOST as u64 { MOST as u64 } else { done };
    }
    // SAFETY: as above; `at` is at most `MAX_PAYLOAD`, behind which there is room for the tail.
    let target = unsafe { (&raw mut (*scratch).payload).cast::<u8>().add(at as usize) };
    copy_buffer(target, source, from, size, MOST)
}

/// Copies up to `want` bytes, [`FEW_BYTES`] at most, out of a few iovecs to `target`, which has twice that.
/// Returns how many; fewer than wanted means that the rest could not be read.
#[inline(always)]
pub(crate) fn copy_few(target: *mut u8, source: &Source, want: u64) -> u64 {
    let mut vectors = [MaybeUninit::<Iovec>::uninit(); FEW_IOVECS];
    if !source.is_few()
        || !read_user(vectors.as_mut_ptr().cast(), source.vectors * 16, source.address)
    {
        return 0;
    }
    let mut done = 0;
    let mut index = 0;
    while index < FEW_IOVECS && (index as u64) < source.vectors && done < want {
        // SAFETY: the first `source.vectors` were read.
        let vector = unsafe { vectors[index].assume_init() };
        index += 1;
        let mut size = want - done;
        if size > vector.length {
            size = vector.length;
        }
        if size > FEW_BYTES as u64 {
            size = FEW_BYTES as u64;
        }
        if size == 0 {
            continue;
        }
        // SAFETY: `done` is below `want`, which is `FEW_BYTES` at most.
        let piece = unsafe { target.add(done as usize & (FEW_BYTES - 1)) };
        if !read_user(piece, size, vector.base) {
            break;
        }
        done += size;
    }
    done
}

/// Copies out of iovecs as `gathering` says. Returns how many bytes.
#[inline(always)]
fn gather(mut scratch: *mut Scratch) -> u64 {
    let step: extern "C" fn(u64, *mut *mut Scratch) -> i64 = gather_step;
    // SAFETY: the helper calls `gather_step` with a pointer to `scratch`, which outlives the call.
    unsafe { bpf_loop(MAX_STEPS, step as *mut c_void, (&raw mut scratch).cast(), 0) };
    // SAFETY: `scratch` is a map value.
    unsafe { (&raw mut (*scratch).gathering.copied).read_volatile() }
}

/// Copies what there is of one iovec, up to [`MAX_VECTOR`]. Returns 1 when nothing more is to be copied.
///
/// A callback, which the verifier looks at once: what it learns of the registers in one step is forgotten in
/// the next.
#[inline(never)]
extern "C" fn gather_step(_step: u64, scratch: *mut *mut Scratch) -> i64 {
    // SAFETY: `gather` hands a pointer to its own variable, and that is a map value.
    let (payload, state) = unsafe {
        let scratch = *scratch;
        ((&raw mut (*scratch).payload).cast::<u8>(), &raw mut (*scratch).gathering)
    };
    // SAFETY: as above.
    let Gathering { next, end, from, size, at, copied, passed } = unsafe { *state };
    if copied >= size || next >= end {
        return 1;
    }
    let Some(vector) = probe_user::<Iovec>(next) else { return 1 };
    let wanted = from + copied;
    let behind = passed.wrapping_add(vector.length);
    let rest = behind.wrapping_sub(wanted);
    // Of a longer one the rest comes in the next step.
    if behind <= wanted || rest <= MAX_VECTOR as u64 {
        // SAFETY: as above.
        unsafe {
            (*state).next = next.wrapping_add(IOVEC_BYTES);
            (*state).passed = behind;
        }
        if behind <= wanted {
            return 0;
        }
    }
    let mut piece = size - copied;
    if piece > rest {
        piece = rest;
    }
    let (mut piece, place) = (kernel::opaque(piece), kernel::opaque(at + copied));
    if piece > MAX_VECTOR as u64 {
        piece = MAX_VECTOR as u64;
    }
    if place > (MAX_PAYLOAD + TAIL) as u64 {
        return 1;
    }
    // SAFETY: behind `place` there is room for what is taken in one step.
    let target = unsafe { payload.add(place as usize) };
    if !read_user(target, piece, vector.base.wrapping_add(wanted.wrapping_sub(passed))) {
        return 1;
    }
    // SAFETY: as above.
    unsafe { (*state).copied = copied + piece };
    0
}

#[inline(always)]
pub(crate) fn read_user(target: *mut u8, size: u64, address: u64) -> bool {
    // SAFETY: the verifier checks that `size` bytes fit behind `target`; the helper checks the address.
    unsafe { bpf_probe_read_user(target.cast(), size as u32, address as *const _) == 0 }
}

#[inline(always)]
pub(crate) fn probe_user<T: Copy>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { aya_ebpf::helpers::bpf_probe_read_user(address as *const T) }.ok()
}
