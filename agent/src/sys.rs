//! Unsafe calls of user space, all of them: reading plain data out of bytes, the shared process table, the
//! memory of traced processes (read, never written), and the bpf(2) commands that aya has no type for.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

use wirespan_ebpf::{PROCESS_SLOTS, Pod, ProcessSlot};

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

/// The table of traced processes, shared with the kernel programs.
#[derive(Debug)]
pub struct SharedTable {
    slots: NonNull<ProcessSlot>,
}

// SAFETY: all access is volatile, to memory that lives as long as the value.
unsafe impl Send for SharedTable {}

impl SharedTable {
    const LENGTH: usize = PROCESS_SLOTS * size_of::<ProcessSlot>();

    /// Maps the table.
    ///
    /// # Errors
    /// The error of mmap(2).
    pub fn map(map: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                Self::LENGTH,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast())
            .map(|slots| Self { slots })
            .ok_or_else(io::Error::last_os_error)
    }

    /// A copy of one slot; `None` beyond the table.
    pub fn get(&self, slot: u32) -> Option<ProcessSlot> {
        let slot = usize::try_from(slot).ok().filter(|slot| *slot < PROCESS_SLOTS)?;
        // SAFETY: in bounds. A counter that moves meanwhile is read before or after: each is one word.
        Some(unsafe { ptr::read_volatile(self.slots.as_ptr().add(slot)) })
    }

    /// Overwrites one slot that no process uses.
    pub fn set(&self, slot: u32, value: &ProcessSlot) {
        if let Some(slot) = usize::try_from(slot).ok().filter(|slot| *slot < PROCESS_SLOTS) {
            // SAFETY: in bounds.
            unsafe { ptr::write_volatile(self.slots.as_ptr().add(slot), *value) }
        }
    }

    /// Disowns a slot: nothing is captured or counted for it any more.
    pub fn disown(&self, slot: u32) {
        if let Some(slot) = usize::try_from(slot).ok().filter(|slot| *slot < PROCESS_SLOTS) {
            // SAFETY: in bounds; the kernel programs read these two words without a lock.
            unsafe {
                let entry = self.slots.as_ptr().add(slot);
                ptr::write_volatile(&raw mut (*entry).flags, 0);
                ptr::write_volatile(&raw mut (*entry).tgid, 0);
            }
        }
    }
}

impl Drop for SharedTable {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing refers to it any more.
        unsafe { libc::munmap(self.slots.as_ptr().cast(), Self::LENGTH) };
    }
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
