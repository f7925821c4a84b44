//! Unsafe calls of user space, all of them: reading plain data out of bytes, the shared process table, the
//! memory of traced processes (read, never written), and the bpf(2) commands that aya has no type for.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use aya_obj::generated::bpf_insn;
use wirespan_ebpf::{
    LANE_BYTES, LANE_RECORDS, Lane, LaneEnds, LaneMark, PROCESS_SLOTS, Pod, ProcessSlot,
    PythonProcess,
};

/// The value at the beginning of `bytes`; `None` when there are too few.
pub fn read_pod<T: Pod>(bytes: &[u8]) -> Option<T> {
    // SAFETY: `get` shows that the bytes are there, `Pod` that any of them make a value.
    bytes.get(..size_of::<T>()).map(|bytes| unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) })
}

/// The bytes of a value.
pub fn pod_bytes<T: Pod>(value: &T) -> &[u8] {
    // SAFETY: `Pod` has no padding, so that each byte is initialised.
    unsafe { std::slice::from_raw_parts(ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The values of an array map, mapped: the kernel programs read and write them at the same time.
#[derive(Debug)]
struct SharedArray<T> {
    values: NonNull<T>,
    count: usize,
}

// SAFETY: all access is volatile or to what nobody writes meanwhile, in memory that lives as long as the value.
unsafe impl<T: Pod> Send for SharedArray<T> {}

impl<T> SharedArray<T> {
    /// Maps `count` values, which the map must have.
    fn map(map: BorrowedFd<'_>, count: usize, protection: i32) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                count.saturating_mul(size_of::<T>()),
                protection,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast())
            .map(|values| Self { values, count })
            .ok_or_else(io::Error::last_os_error)
    }

    /// Where a value lies; `None` beyond the array.
    fn place(&self, index: usize) -> Option<*mut T> {
        // SAFETY: in bounds.
        (index < self.count).then(|| unsafe { self.values.as_ptr().add(index) })
    }
}

impl<T> Drop for SharedArray<T> {
    fn drop(&mut self) {
        let length = self.count.saturating_mul(size_of::<T>());
        // SAFETY: the mapping is ours and nothing refers to it any more.
        unsafe { libc::munmap(self.values.as_ptr().cast(), length) };
    }
}

/// The table of traced processes, shared with the kernel programs.
#[derive(Debug)]
pub struct SharedTable {
    slots: SharedArray<ProcessSlot>,
}

impl SharedTable {
    /// Maps the table.
    ///
    /// # Errors
    /// The error of mmap(2).
    pub fn map(map: BorrowedFd<'_>) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        Ok(Self { slots: SharedArray::map(map, PROCESS_SLOTS, protection)? })
    }

    fn place(&self, slot: u32) -> Option<*mut ProcessSlot> {
        self.slots.place(usize::try_from(slot).ok()?)
    }

    /// A copy of one slot; `None` beyond the table.
    pub fn get(&self, slot: u32) -> Option<ProcessSlot> {
        // SAFETY: in bounds. A counter that moves meanwhile is read before or after: each is one word.
        self.place(slot).map(|entry| unsafe { ptr::read_volatile(entry) })
    }

    /// Overwrites one slot that no process uses.
    pub fn set(&self, slot: u32, value: &ProcessSlot) {
        if let Some(entry) = self.place(slot) {
            // SAFETY: in bounds.
            unsafe { ptr::write_volatile(entry, *value) }
        }
    }

    /// Says which runtime's logical tasks the programs follow in a slot's process.
    pub fn set_runtime(&self, slot: u32, runtime: u32) {
        if let Some(entry) = self.place(slot) {
            // SAFETY: in bounds; the kernel programs read this word without a lock.
            unsafe { ptr::write_volatile(&raw mut (*entry).runtime, runtime) };
        }
    }

    /// Disowns a slot: nothing is captured or counted for it any more.
    pub fn disown(&self, slot: u32) {
        if let Some(entry) = self.place(slot) {
            // SAFETY: in bounds; the kernel programs read these two words without a lock.
            unsafe {
                ptr::write_volatile(&raw mut (*entry).flags, 0);
                ptr::write_volatile(&raw mut (*entry).tgid, 0);
            }
        }
    }
}

/// The lanes, shared with the kernel programs: they write a record where there is room, this side reads it once it
/// is whole, and then says that its place is free again.
#[derive(Debug)]
pub struct SharedLanes {
    lanes: SharedArray<Lane>,
    ends: SharedArray<LaneEnds>,
}

impl SharedLanes {
    /// Maps so many lanes.
    ///
    /// # Errors
    /// The error of mmap(2).
    pub fn map(lanes: BorrowedFd<'_>, ends: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        Ok(Self {
            lanes: SharedArray::map(lanes, count, libc::PROT_READ)?,
            ends: SharedArray::map(ends, count, libc::PROT_READ | libc::PROT_WRITE)?,
        })
    }

    /// What of a lane was claimed so far, whole or not.
    pub fn claimed(&self, lane: usize) -> LaneMark {
        // SAFETY: in bounds; an aligned word that is only ever accessed whole.
        self.ends.place(lane).map_or(LaneMark::default(), |ends| unsafe {
            load(&raw mut (*ends).claimed, Ordering::Relaxed)
        })
    }

    /// The record, with all that follows it, before which a lane was used so far, and the mark behind it. `None`
    /// while it isn't whole.
    pub fn record(&self, lane: usize, read: LaneMark) -> Option<(&[u8], LaneMark)> {
        let ends = self.ends.place(lane)?;
        let number = usize::try_from(read.records()).ok()? % LANE_RECORDS;
        // SAFETY: in bounds; an aligned word that is only ever accessed whole.
        let mark = unsafe {
            let whole = (&raw mut (*ends).whole).cast::<LaneMark>().add(number);
            load(whole, Ordering::Acquire)
        };
        let size = usize::try_from(mark.bytes().wrapping_sub(read.bytes())).ok()?;
        let place = usize::try_from(read.bytes()).ok()? % LANE_BYTES;
        if mark.records() != read.records().wrapping_add(1) || place + size > size_of::<Lane>() {
            return None;
        }
        let bytes = self.lanes.place(lane)?.cast::<u8>();
        // SAFETY: in bounds. What was handed over isn't written to until `release`, which takes this borrow's
        // end; all of it is initialised, by the kernel when the map was made.
        Some((unsafe { std::slice::from_raw_parts(bytes.add(place), size) }, mark))
    }

    /// What of a lane lies before this mark is free again.
    pub fn release(&mut self, lane: usize, read: LaneMark) {
        if let Some(ends) = self.ends.place(lane) {
            // SAFETY: in bounds; an aligned word that is only ever accessed whole.
            unsafe { AtomicU64::from_ptr((&raw mut (*ends).read).cast()) }
                .store(read.0, Ordering::Release);
        }
    }
}

/// A mark that the kernel programs write.
///
/// # Safety
/// `place` is aligned and in mapped memory.
unsafe fn load(place: *mut LaneMark, order: Ordering) -> LaneMark {
    // SAFETY: by the contract; a mark is one word.
    LaneMark(unsafe { AtomicU64::from_ptr(place.cast()) }.load(order))
}

/// Reads another process's memory: `length` bytes from each of `addresses`, one after the other into `buffer`.
/// Returns how many bytes were read before the first place that can't be.
///
/// # Errors
/// The error of process_vm_readv(2): `ESRCH` when the process is gone, `EPERM` without the right to trace it.
pub fn read_process(
    pid: i32,
    addresses: &[u64],
    length: usize,
    buffer: &mut [u8],
) -> io::Result<usize> {
    /// `UIO_MAXIOV` (include/uapi/linux/uio.h).
    const MOST: usize = 1024;
    let room = buffer.len().checked_div(length).unwrap_or(0);
    let remote: Vec<libc::iovec> = addresses
        .iter()
        .take(room.min(MOST))
        .map(|address| libc::iovec { iov_base: *address as *mut libc::c_void, iov_len: length })
        .collect();
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: remote.len().saturating_mul(length),
    };
    // SAFETY: the kernel writes at most `iov_len` bytes into `buffer`, which has room for them; the remote
    // addresses are the other process's, and the kernel checks them.
    let read = unsafe {
        libc::process_vm_readv(pid, &raw const local, 1, remote.as_ptr(), remote.len() as u64, 0)
    };
    usize::try_from(read).map_err(|_negative| io::Error::last_os_error())
}

/// Gives the kernel back what was freed. The allocator keeps it for a while, and what is read at the start (the kernel's
/// type information, some 60 MB of it unpacked) would count with all that comes after against a container's limit.
pub fn return_memory() {
    // SAFETY: has no preconditions; where another allocator is in use there is nothing that it would return.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Has this process ignore a signal from now on.
///
/// # Errors
/// The error of signal(2).
pub fn ignore_signal(signal: i32) -> io::Result<()> {
    // SAFETY: no handler is installed.
    if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Arguments of the element commands of bpf(2).
#[repr(C)]
struct MapElement {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Sets the task storage of a process. `pidfd` names its group leader.
///
/// # Errors
/// The error of bpf(2): `ESRCH` when the process is gone.
pub fn set_task_storage<T: Pod>(
    map: BorrowedFd<'_>,
    pidfd: BorrowedFd<'_>,
    value: &T,
) -> io::Result<()> {
    const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
    map_element(BPF_MAP_UPDATE_ELEM, map, pidfd, ptr::from_ref(value) as u64)
}

/// The task storage of a process. `pidfd` names its group leader.
///
/// # Errors
/// The error of bpf(2): `ENOENT` where there is none, `ESRCH` when the process is gone.
pub fn task_storage<T: Pod>(map: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> io::Result<T> {
    const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
    let mut value = MaybeUninit::<T>::zeroed();
    map_element(BPF_MAP_LOOKUP_ELEM, map, pidfd, value.as_mut_ptr() as u64)?;
    // SAFETY: `Pod` says that any bytes make a value, and the kernel wrote these.
    Ok(unsafe { value.assume_init() })
}

/// Removes the task storage of a process.
///
/// # Errors
/// The error of bpf(2): `ENOENT` where there is none, `ESRCH` when the process is gone.
pub fn remove_task_storage(map: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> io::Result<()> {
    const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
    map_element(BPF_MAP_DELETE_ELEM, map, pidfd, 0)
}

fn map_element(
    command: libc::c_long,
    map: BorrowedFd<'_>,
    pidfd: BorrowedFd<'_>,
    value: u64,
) -> io::Result<()> {
    let key = pidfd.as_fd().as_raw_fd();
    let element = MapElement {
        map: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: ptr::from_ref(&key) as u64,
        value,
        flags: 0,
    };
    // SAFETY: the attribute and what it points to outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, ptr::from_ref(&element), size_of::<MapElement>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Arguments of `BPF_PROG_LOAD` as far as they are used here.
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// A program that the kernel did not take.
#[derive(Debug)]
pub struct Refusal {
    /// The error of bpf(2).
    pub error: io::Error,
    log: Vec<u8>,
}

impl Refusal {
    /// What the verifier said at last.
    #[must_use]
    pub fn last_words(&self) -> String {
        let end = self.log.iter().position(|byte| *byte == 0).unwrap_or(self.log.len());
        let said = String::from_utf8_lossy(self.log.get(..end).unwrap_or_default());
        said.lines()
            .rev()
            .find(|line| !line.starts_with("processed "))
            .unwrap_or_default()
            .to_owned()
    }
}

/// `BPF_TRACE_UPROBE_MULTI` of `enum bpf_attach_type`.
const UPROBE_MULTI: u32 = 48;

/// Loads a program for [`attach_probe`].
///
/// # Errors
/// The kernel's, with the verifier's words.
pub fn load_probe(
    name: &str,
    instructions: &[bpf_insn],
    license: &CStr,
) -> Result<OwnedFd, Refusal> {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_KPROBE: u32 = 2;
    const LOG_BYTES: u32 = 1 << 20;
    let mut load = ProgramLoad {
        kind: BPF_PROG_TYPE_KPROBE,
        instruction_count: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: [0; 16],
        interface: 0,
        attach_type: UPROBE_MULTI,
    };
    // The last byte stays 0.
    for (to, from) in load.name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    let error = match bpf(BPF_PROG_LOAD, &load) {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    let mut log = vec![0; LOG_BYTES as usize];
    load.log_level = 1;
    load.log_size = LOG_BYTES;
    load.log = log.as_mut_ptr() as u64;
    // Once more, for what is said about it.
    match bpf(BPF_PROG_LOAD, &load) {
        Ok(program) => Ok(program),
        Err(_) => Err(Refusal { error, log }),
    }
}

/// Arguments of `BPF_LINK_CREATE` for a `uprobe_multi` link.
#[repr(C)]
struct ProbeLink {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    reference_counters: u64,
    cookies: u64,
    count: u32,
    probe_flags: u32,
    pid: u32,
    padding: u32,
}

/// Attaches a program of [`load_probe`] in one process (`pid`, in this one's pid namespace), at an offset in a file:
/// at the beginning of what is called there, or (`returns`) where that returns to. It is attached until the link is
/// closed.
///
/// # Errors
/// The error of bpf(2): `ESRCH` when the process is gone.
pub fn attach_probe(
    program: BorrowedFd<'_>,
    returns: bool,
    pid: i32,
    file: &CStr,
    offset: u64,
    cookie: u64,
) -> io::Result<OwnedFd> {
    const BPF_LINK_CREATE: libc::c_long = 28;
    const BPF_F_UPROBE_MULTI_RETURN: u32 = 1;
    let link = ProbeLink {
        program: program.as_raw_fd().cast_unsigned(),
        target: 0,
        attach_type: UPROBE_MULTI,
        flags: 0,
        path: file.as_ptr() as u64,
        offsets: ptr::from_ref(&offset) as u64,
        reference_counters: 0,
        cookies: ptr::from_ref(&cookie) as u64,
        count: 1,
        probe_flags: if returns { BPF_F_UPROBE_MULTI_RETURN } else { 0 },
        // 0 would be every process.
        pid: u32::try_from(pid).ok().filter(|pid| *pid != 0).ok_or(io::ErrorKind::InvalidInput)?,
        padding: 0,
    };
    bpf(BPF_LINK_CREATE, &link)
}

/// A command of bpf(2) that returns a descriptor.
fn bpf<T>(command: libc::c_long, attribute: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attribute and what it points to outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_ref(attribute), size_of::<T>()) };
    match RawFd::try_from(result) {
        // SAFETY: the kernel has just opened it for this process, and nobody else knows it.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// For the map that aya reads and writes: its trait is foreign, and so is the type.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct PythonEntry(pub PythonProcess);

// SAFETY: `wirespan_ebpf::Pod` says that any bytes make a value and that there is no padding.
unsafe impl aya::Pod for PythonEntry {}

/// Forbids this process every system call but those in `allowed`: others fail with EPERM, as a container
/// engine's filter has it. For good.
///
/// # Errors
/// Those of prctl(2).
pub fn forbid_unknown_calls(allowed: &[libc::c_long]) -> io::Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUALS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    // `seccomp_data.nr` is the first word.
    let mut filter = vec![statement(LOAD, 0)];
    for call in allowed {
        let number = u32::try_from(*call).unwrap_or(u32::MAX);
        filter.push(libc::sock_filter { code: EQUALS, jt: 0, jf: 1, k: number });
        filter.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
    }
    filter.push(statement(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()));
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap_or(u16::MAX),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the filter outlives the call; the kernel copies it.
    let result = unsafe {
        match libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) {
            0 => libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            error => error,
        }
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
