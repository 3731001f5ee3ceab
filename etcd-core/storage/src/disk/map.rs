//! The mapping of a file, and the end of a process whose mapped page is lost: the one
//! file of the workspace that may say `unsafe`.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::sync::OnceLock;

use bytes::Bytes;
use nix::libc::{c_int, c_void, siginfo_t};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rustix::fs::{Mode, OFlags};

/// Maps the whole of `file`, shared and read-only. The map lives as long as any slice
/// of the returned bytes and keeps an unlinked file's content readable.
///
/// Soundness rests on what the callers keep: only files that are written once, synced
/// and never touched again are mapped (segments, finished images), in directories that
/// the process holds the lock of. A page that the disk can no longer deliver ends the
/// process by SIGBUS, it does not yield wrong bytes.
pub(super) fn map(file: &fs::File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new()); // an empty map is an error to the kernel
    }
    // SAFETY: see above; nothing in this process writes to or truncates a mapped file.
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}

/// Whom to tell; set before the handler is.
static REPORT: OnceLock<fn(&[u8])> = OnceLock::new();

/// Before a lost page of a mapped file ends the process by SIGBUS, `report` gets the
/// file's path as the kernel knows it (empty if it does not). It runs in a signal
/// handler: it must neither allocate nor wait for a lock. Only the first call counts.
///
/// # Errors
/// Those of `sigaction`.
pub fn on_lost_page(report: fn(&[u8])) -> io::Result<()> {
    if REPORT.set(report).is_err() {
        return Ok(());
    }
    // The handler is gone once it runs: when it returns, the same access ends the process.
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_RESETHAND;
    let action = SigAction::new(SigHandler::SigAction(lost_page), flags, SigSet::empty());
    // SAFETY: the handler makes system calls and writes to its own stack, nothing else.
    unsafe { sigaction(Signal::SIGBUS, &action)? };
    Ok(())
}

extern "C" fn lost_page(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    let Some(report) = REPORT.get() else {
        return;
    };
    // SAFETY: with SA_SIGINFO the kernel hands over a valid structure, and with SIGBUS the
    // field is the address.
    let address = unsafe { (*info).si_addr() } as usize;
    let mut line = [0; LINE_BYTES];
    let len = mapping_of(address, &mut line);
    report(path_of(&line[..len]));
}

/// The longest line of the table of mappings that is understood: addresses and the like,
/// and a path.
const LINE_BYTES: usize = 4096 + 100;

/// Reads the line of `/proc/self/maps` that covers `address` into `line`; its length, 0 if
/// there is none. A longer one is cut.
fn mapping_of(address: usize, line: &mut [u8; LINE_BYTES]) -> usize {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(c"/proc/self/maps", flags, Mode::empty()) else {
        return 0;
    };
    let (mut len, mut buffer) = (0, [0; 512]);
    while let Ok(read @ 1..) = rustix::io::read(&file, &mut buffer) {
        for byte in &buffer[..read] {
            if *byte != b'\n' {
                if let Some(place) = line.get_mut(len) {
                    *place = *byte;
                    len += 1;
                }
                continue;
            }
            if covers(&line[..len], address) {
                return len;
            }
            len = 0;
        }
    }
    0
}

/// Whether a line `from-to ...`, in hex, covers an address.
fn covers(line: &[u8], address: usize) -> bool {
    let mut bounds = [0usize; 2];
    let mut bound = 0;
    for byte in line {
        match (*byte as char).to_digit(16) {
            Some(digit) => bounds[bound] = bounds[bound] << 4 | digit as usize,
            None if *byte == b'-' && bound == 0 => bound = 1,
            None => break,
        }
    }
    (bounds[0]..bounds[1]).contains(&address)
}

/// What follows the first slash of a line: the path.
fn path_of(line: &[u8]) -> &[u8] {
    let start = line.iter().position(|byte| *byte == b'/');
    &line[start.unwrap_or(line.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_leads_to_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a file");
        fs::write(&path, vec![7; 3 * 4096]).unwrap();
        let bytes = map(&fs::File::open(&path).unwrap()).unwrap();
        let mut line = [0; LINE_BYTES];
        for offset in [0, 1, 4096, 3 * 4096 - 1] {
            let address = bytes.as_ptr() as usize + offset;
            let len = mapping_of(address, &mut line);
            let found = path_of(&line[..len]);
            assert_eq!(found, path.to_str().unwrap().as_bytes());
        }
        let len = mapping_of(1, &mut line);
        assert_eq!(path_of(&line[..len]), b"");
    }
}
