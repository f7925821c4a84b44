//! Finds the assist's area in a process's memory, from outside.
//!
//! Its magic number is in no other place of the process: the script never holds it in one piece. Only pages that
//! are there are looked at (`/proc/PID/pagemap`), so that nothing is paged in. An allocator puts an area as large
//! as this at the beginning of pages of its own; only if it is nowhere there is everything read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::area::{HEADER_BYTES, Header, MAGIC, Memory};
use crate::sys;

const PAGE: u64 = 4096;

/// Where glibc's calloc puts what gets pages of its own: after the chunk's header. musl's is larger.
const CHUNK_HEADERS: [u64; 2] = [0x10, 0x20];

/// A page's entry in pagemap has this bit while the page is in memory (Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;

/// Pages whose entries are read at once.
const PAGES: usize = 512;

/// Memory beyond this is not searched.
const MOST_PAGES: usize = 4 << 20;

/// The memory of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessMemory(pub(super) i32);

impl Memory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        let length = buffer.len();
        let read = sys::read_process(self.0, &[address], length, buffer)?;
        if read == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// An area and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) address: u64,
    pub(super) header: Header,
}

impl Found {
    /// The area at an address, if one is there.
    pub(super) fn at(address: u64, memory: &impl Memory) -> Option<Self> {
        let mut bytes = [0; HEADER_BYTES];
        memory.read(address, &mut bytes).ok()?;
        Header::parse(&bytes).map(|header| Self { address, header })
    }
}

/// Which areas are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// What the process calls itself.
    pub(super) namespace_pid: u32,
    /// The announcement; `None`: any.
    pub(super) nonce: Option<[u32; 2]>,
}

/// How thoroughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Where an allocator puts it: some milliseconds.
    Beginnings,
    /// Everywhere, if it isn't there: a tenth of a second for a process of 300 MB.
    Everywhere,
}

/// The area of each thread that has one.
///
/// # Errors
/// When the process is gone or may not be read.
pub(super) fn find(pid: i32, wanted: Wanted, effort: Effort) -> io::Result<Vec<Found>> {
    let search = Search { pid, wanted, pagemap: File::open(format!("/proc/{pid}/pagemap"))? };
    let regions = regions(pid)?;
    let mut found = Vec::new();
    for region in &regions {
        search.beginnings(*region, &mut found)?;
    }
    if found.is_empty() && effort == Effort::Everywhere {
        for region in &regions {
            search.everything(*region, &mut found)?;
        }
    }
    Ok(found)
}

/// Private writable memory without a file behind it.
fn regions(pid: i32) -> io::Result<Vec<(u64, u64)>> {
    let maps = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/maps")))?;
    let region = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (range, permissions) = (fields.next()?, fields.next()?);
        let name = fields.nth(3).unwrap_or_default();
        let anonymous = name.is_empty() || name == "[heap]" || name.starts_with("[anon:");
        let (from, to) = range.split_once('-')?;
        let range = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        (permissions.starts_with("rw") && anonymous).then_some(range)
    };
    Ok(maps.lines().filter_map(region).collect())
}

struct Search {
    pid: i32,
    wanted: Wanted,
    pagemap: File,
}

impl Search {
    /// Calls `each` with the pages of a region that are in memory, a number of them at a time.
    fn present(
        &self,
        (from, to): (u64, u64),
        mut each: impl FnMut(&[u64]) -> io::Result<()>,
    ) -> io::Result<()> {
        let count = usize::try_from((to.saturating_sub(from)) / PAGE).unwrap_or(0).min(MOST_PAGES);
        let mut entries = [0; 8 * PAGES];
        let mut pages = Vec::with_capacity(PAGES);
        for first in (0..count).step_by(PAGES) {
            let wanted = (count - first).min(PAGES);
            let at = (from / PAGE).saturating_add(first as u64).saturating_mul(8);
            let Some(part) = entries.get_mut(..8 * wanted) else { break };
            if self.pagemap.read_exact_at(part, at).is_err() {
                break;
            }
            pages.clear();
            for (index, entry) in part.chunks_exact(8).enumerate() {
                let entry = entry.first_chunk().map_or(0, |entry| u64::from_ne_bytes(*entry));
                if entry & PRESENT != 0 {
                    pages.push(from + (first + index) as u64 * PAGE);
                }
            }
            if !pages.is_empty() {
                each(&pages)?;
            }
        }
        Ok(())
    }

    /// Looks where a page of the region begins, and a little after.
    fn beginnings(&self, region: (u64, u64), found: &mut Vec<Found>) -> io::Result<()> {
        let mut buffer = vec![0; PAGES * HEADER_BYTES];
        for after in CHUNK_HEADERS {
            self.present(region, |pages| {
                let places: Vec<u64> = pages.iter().map(|page| page + after).collect();
                let read = self.read(&places, HEADER_BYTES, &mut buffer)?;
                let headers = buffer.get(..read).unwrap_or_default().chunks_exact(HEADER_BYTES);
                for (place, bytes) in places.iter().zip(headers) {
                    self.take(*place, bytes, found);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Reads all of the region that is in memory. A header never lies across two pages of which one is not.
    fn everything(&self, region: (u64, u64), found: &mut Vec<Found>) -> io::Result<()> {
        let finder = memchr::memmem::Finder::new(&MAGIC);
        let mut page = vec![0; PAGE as usize];
        self.present(region, |pages| {
            for &address in pages {
                let read = self.read(&[address], PAGE as usize, &mut page)?;
                let bytes = page.get(..read).unwrap_or_default();
                for at in finder.find_iter(bytes) {
                    let mut header = [0; HEADER_BYTES];
                    let place = address + at as u64;
                    if self.read(&[place], HEADER_BYTES, &mut header)? == HEADER_BYTES {
                        self.take(place, &header, found);
                    }
                }
            }
            Ok(())
        })
    }

    /// As [`sys::read_process`], where what can't be read is none.
    fn read(&self, places: &[u64], length: usize, buffer: &mut [u8]) -> io::Result<usize> {
        match sys::read_process(self.pid, places, length, buffer) {
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(0),
            result => result,
        }
    }

    fn take(&self, address: u64, bytes: &[u8], found: &mut Vec<Found>) {
        let Some(header) = Header::parse(bytes) else { return };
        let announced = self.wanted.nonce.is_none_or(|nonce| nonce == header.nonce);
        let new = found.iter().all(|other| other.address != address);
        if header.pid == self.wanted.namespace_pid && announced && new {
            found.push(Found { address, header });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_of_this_very_process_is_found() {
        let mut area = vec![0_u8; 600 << 10];
        let pid = std::process::id();
        // Somewhere, aligned as any allocation is.
        let at = 160;
        area[at + 16..at + 20].copy_from_slice(&super::super::area::VERSION.to_le_bytes());
        area[at + 20..at + 24].copy_from_slice(&8192_u32.to_le_bytes());
        area[at + 32..at + 36].copy_from_slice(&77_u32.to_le_bytes());
        area[at + 40..at + 44].copy_from_slice(&pid.to_le_bytes());
        area[at..at + 16].copy_from_slice(&MAGIC);
        let found = |nonce| {
            let wanted = Wanted { namespace_pid: pid, nonce };
            let found = find(pid.cast_signed(), wanted, Effort::Everywhere).unwrap();
            found.into_iter().map(|found| found.address).collect::<Vec<_>>()
        };
        assert_eq!(found(Some([77, 0])), [area.as_ptr() as u64 + at as u64]);
        assert!(found(Some([78, 0])).is_empty());
    }
}
