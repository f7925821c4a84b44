//! Which processes may be asked for their inspector: the rules of safety, each from a way in which it went wrong.
//!
//! SIGUSR1 asks Node.js to open its inspector, and only Node.js: the default action ends the process, and an
//! application's own handler does whatever that does. So the handler must be known to be the runtime's, seen in
//! the kernel right before the signal (`Capture::signal_handler`). Reads `/proc` and the runtime's image; sends
//! nothing.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

use object::read::elf::ElfFile64;
use object::{Object, ObjectSegment, ObjectSymbol, ReadCache};
use procfs::net::TcpState;
use procfs::process::{MMapPath, Process};
use rustc_hash::FxHashMap;
use wirespan_ebpf::SignalHandlerRecord;

use super::inspector::INSPECTOR_PORT;

/// SIGUSR1's bit in the masks of proc_pid_status(5).
const USR1: u64 = 1 << 9;

/// `SA_RESTART`: libuv sets it on every handler, Node on none of its own (`uv__signal_register_handler` in
/// deps/uv/src/unix/signal.c, `RegisterSignalHandler` in src/node.cc).
const SA_RESTART: u64 = 0x1000_0000;

/// Node's own handler, in whichever anonymous namespace.
const HANDLER: &str = "StartIoThreadWakeup";

/// Bytes of code that are looked at where there are no symbols.
const CODE_BYTES: usize = 48;

/// Symbols looked through: a build with all of them has 300,000.
const MOST_SYMBOLS: usize = 2_000_000;

/// Why a process is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// For good.
    Never(&'static str),
    /// For now.
    NotYet(&'static str),
}

use Obstacle::{Never, NotYet};

/// A process in another time namespace has a monotonic clock of its own: its notes can't be lined up with the
/// kernel's records (time_namespaces(7); before Linux 5.6 there are none).
pub(super) fn shares_clock(pid: i32) -> Result<(), Obstacle> {
    let clock = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/time")).ok();
    if clock(&pid.to_string()) == clock("self") {
        Ok(())
    } else {
        Err(Never("it has a clock of its own (a time namespace)"))
    }
}

/// What `/proc` says against it.
pub(super) fn look(pid: i32) -> Result<(), Obstacle> {
    let process = Process::new(pid).map_err(|_gone| Never("it is gone"))?;
    let status = process.status().map_err(|_gone| Never("it is gone"))?;
    if status.sigblk & USR1 != 0 {
        return Err(Never("it blocks SIGUSR1 (--disable-sigusr1)"));
    }
    if status.sigign & USR1 != 0 {
        return Err(Never("it ignores SIGUSR1"));
    }
    if status.sigcgt & USR1 == 0 {
        return Err(NotYet("the runtime has no handler for SIGUSR1 (yet)"));
    }
    let arguments = process.cmdline().unwrap_or_default();
    let environment = process.environ().unwrap_or_default();
    let options = environment.get(OsStr::new("NODE_OPTIONS")).cloned();
    let options = options.unwrap_or_default();
    let mut words = arguments
        .iter()
        .map(String::as_str)
        .chain(options.to_str().unwrap_or_default().split_ascii_whitespace());
    if words.any(|word| word.starts_with("--inspect") || word.starts_with("--debug")) {
        return Err(Never("it was started with options for its inspector"));
    }
    let sockets = process.tcp().map_err(|_gone| Never("it is gone"))?;
    let sockets = sockets.into_iter().chain(process.tcp6().unwrap_or_default());
    let mut listening = sockets.filter(|socket| socket.state == TcpState::Listen);
    if listening.any(|socket| socket.local_address.port() == INSPECTOR_PORT) {
        return Err(NotYet("an inspector is in use in its network namespace"));
    }
    Ok(())
}

/// What an image tells of the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Its address in the file's own terms.
    At(u64),
    /// It has no symbols.
    Stripped,
}

/// What was learned of images, by device, inode and time of change.
#[derive(Debug, Default)]
pub(super) struct Images(FxHashMap<(u64, u64, i64), Known>);

impl Images {
    /// Whether the handler that the kernel has is Node's own.
    ///
    /// # Errors
    /// Why that can't be said.
    pub(super) fn is_nodes_own(
        &mut self,
        pid: i32,
        record: &SignalHandlerRecord,
    ) -> Result<(), Obstacle> {
        if record.handler <= 1 {
            return Err(NotYet("the runtime has no handler for SIGUSR1 (yet)"));
        }
        let gone = Never("it is gone");
        let process = Process::new(pid).map_err(|_gone| gone)?;
        let maps = process.maps().map_err(|_gone| gone)?;
        let inside = |from: u64, to: u64| from <= record.handler && record.handler < to;
        let map = maps.iter().find(|map| inside(map.address.0, map.address.1));
        let foreign = Never("another handler for SIGUSR1 is installed than the runtime's");
        let Some(map) = map else { return Err(foreign) };
        let MMapPath::Path(path) = &map.pathname else { return Err(foreign) };
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with("node") && !name.starts_with("libnode") {
            return Err(foreign);
        }
        // By its mapping, whatever has become of the path.
        let (from, to) = map.address;
        let image = File::open(format!("/proc/{pid}/map_files/{from:x}-{to:x}"));
        let image = image.map_err(|_denied| Never("its image can't be read"))?;
        let offset = record.handler - from + map.offset;
        match self.known(&image) {
            Known::At(address) if file_offset(&image, address) == Some(offset) => Ok(()),
            Known::At(_) => Err(foreign),
            Known::Stripped if record.flags & SA_RESTART != 0 => Err(foreign),
            Known::Stripped => {
                let mut code = [0; CODE_BYTES];
                let read = std::os::unix::fs::FileExt::read_at(&image, &mut code, offset);
                let code = code.get(..read.unwrap_or(0)).unwrap_or_default();
                if posts_a_semaphore(code) {
                    Ok(())
                } else {
                    Err(Never("whose handler for SIGUSR1 this is can't be told (a stripped build)"))
                }
            }
        }
    }

    fn known(&mut self, image: &File) -> Known {
        let Ok(data) = image.metadata() else { return Known::Stripped };
        let key = (data.dev(), data.ino(), data.mtime());
        if let Some(known) = self.0.get(&key) {
            return *known;
        }
        let known = symbol(image).map_or(Known::Stripped, Known::At);
        if self.0.len() > 64 {
            self.0.clear();
        }
        self.0.insert(key, known);
        known
    }
}

/// The address of Node's handler by its symbol.
fn symbol(image: &File) -> Option<u64> {
    let cache = ReadCache::new(image.try_clone().ok()?);
    let elf = ElfFile64::<object::Endianness, _>::parse(&cache).ok()?;
    let mut symbols = elf.symbols().take(MOST_SYMBOLS);
    let found = symbols.find(|symbol| symbol.name().is_ok_and(|name| name.contains(HANDLER)));
    found.map(|symbol| symbol.address())
}

/// Where in the file an address is.
fn file_offset(image: &File, address: u64) -> Option<u64> {
    let cache = ReadCache::new(image.try_clone().ok()?);
    let elf = ElfFile64::<object::Endianness, _>::parse(&cache).ok()?;
    elf.segments().find_map(|segment| {
        let inside = address.checked_sub(segment.address())?;
        let (offset, size) = segment.file_range();
        (inside < size).then_some(offset + inside)
    })
}

/// Whether x86-64 code is `uv_sem_post(&semaphore)` and nothing else: what Node's handler does, and no handler of
/// libuv's, which saves errno, takes a lock and writes to a pipe. The semaphore's address into rdi
/// (`mov edi, ...` in an executable at a fixed address, `lea rdi, [rip + ...]` in others), and a jump, or in a
/// frame a call, with nothing else before them but `endbr64` and the frame's set-up.
fn posts_a_semaphore(code: &[u8]) -> bool {
    if !cfg!(target_arch = "x86_64") {
        return false;
    }
    let prologue: [&[u8]; 4] =
        [&[0xf3, 0x0f, 0x1e, 0xfa], &[0x55], &[0x48, 0x89, 0xe5], &[0x48, 0x83, 0xec, 0x08]];
    let rest = prologue.iter().fold(code, |rest, part| rest.strip_prefix(*part).unwrap_or(rest));
    let address = [&[0xbf][..], &[0x48, 0x8d, 0x3d]];
    let rest = address.iter().find_map(|instruction| rest.strip_prefix(*instruction)?.get(4..));
    rest.is_some_and(|rest| matches!(rest.first(), Some(0xe9 | 0xe8)))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    /// What is said of a process that does this about SIGUSR1; `None`: there is no Python here to do it.
    fn look_at(preparation: &str) -> Option<Result<(), Obstacle>> {
        let script = format!(
            "import signal, sys\n{preparation}\nprint('ready', flush=True)\nsys.stdin.read()"
        );
        let mut command = Command::new("python3");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let looked = look(child.id().cast_signed());
        // Its input ends, and so does it.
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(look(child.id().cast_signed()), Err(Never("it is gone")));
        Some(looked)
    }

    #[test]
    fn a_process_that_a_signal_would_not_reach_or_would_end_is_left_alone() {
        let blocks = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])";
        let Some(blocked) = look_at(blocks) else { return };
        assert!(matches!(blocked, Err(Never(why)) if why.contains("blocks")));
        let ignores = "signal.signal(signal.SIGUSR1, signal.SIG_IGN)";
        assert!(matches!(look_at(ignores), Some(Err(Never(why))) if why.contains("ignores")));
        // As in the first milliseconds after an exec.
        assert!(matches!(look_at(""), Some(Err(NotYet(why))) if why.contains("no handler")));
    }

    #[test]
    fn only_a_post_of_a_semaphore_is_nodes() {
        // At a fixed address (Node's own builds), anywhere (libnode); libuv's handler begins by saving registers.
        let fixed = [0xbf, 0x60, 4, 0x66, 5, 0xe9, 0x46, 0x0c, 0xac, 0];
        let bare = [0x48, 0x8d, 0x3d, 1, 2, 3, 4, 0xe9, 1, 2, 3, 4];
        assert!(posts_a_semaphore(&fixed));
        let libuv = [0x55, 0x48, 0x89, 0xe5, 0x41, 0x57, 0x41, 0x56, 0x41, 0x55, 0x41, 0x54];
        assert!(posts_a_semaphore(&bare));
        assert!(!posts_a_semaphore(&libuv));
        for length in 0..8 {
            assert!(!posts_a_semaphore(&bare[..length]));
        }
    }
}
