//! Memory in words of 64 bits that others may look into: another thread, another process, or whoever comes after this one has died.
//!
//! A file that is mapped keeps what was written to it whatever becomes of the process: its pages are the kernel's. It is filled before it is
//! mapped, because a page that the file system has no room for would end the process at its first touch.
//!
//! **Invariant:** only atomic words are read and written, so that no reader can make a write wrong; and a file has one writer.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};

/// A piece of such memory.
#[derive(Debug)]
pub(crate) struct Words {
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    Own(Box<[AtomicU64]>),
    Mapped(MmapRaw, #[allow(dead_code, reason = "it is open for its lock")] File),
}

impl Words {
    /// `len` words of this process, all 0.
    pub(crate) fn own(len: usize) -> Self {
        Self { memory: Memory::Own((0..len).map(|_| AtomicU64::new(0)).collect()) }
    }

    /// The file at `path`, made `len` words long, and ours to write until this is dropped. What was in it stays as it is, as far as it goes.
    ///
    /// `mode` is for a file that is not there yet.
    ///
    /// # Errors
    /// When the file can't be made or has no room; `WouldBlock` when another process has it.
    pub(crate) fn create(path: &Path, len: usize, mode: u32) -> io::Result<Self> {
        // A link that somebody has laid there is not followed.
        let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(mode).custom_flags(flags);
        let mut file = options.open(path)?;
        file.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
            TryLockError::Error(e) => e,
        })?;
        fill(&mut file, len * WORD_BYTES)?;
        Self::map(file, len)
    }

    /// The file at `path`, to be read. A file that shrinks while it is read ends the process: this is for tools.
    ///
    /// # Errors
    /// When it can't be read, or is too large to be one of ours.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let len =
            usize::try_from(bytes).ok().filter(|&bytes| bytes <= FILE_BYTES_MAX).ok_or(io::ErrorKind::FileTooLarge)?;
        if len < WORD_BYTES {
            return Ok(Self::own(0));
        }
        let map = MmapOptions::new().len(len / WORD_BYTES * WORD_BYTES).map_raw_read_only(&file)?;
        Ok(Self { memory: Memory::Mapped(map, file) })
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[AtomicU64] {
        match &self.memory {
            Memory::Own(words) => words,
            // SAFETY: a mapping begins at a page, so it is aligned, and it is as long as `len` says as long as it lives; every bit pattern is a
            // value of a word. Nobody has a plain reference into it: all access is through these atomics, and a mapping to be read is given to
            // tools alone, which do not write. A file that was filled has pages behind all of it.
            Memory::Mapped(map, _) => unsafe {
                std::slice::from_raw_parts(map.as_ptr().cast::<AtomicU64>(), map.len() / WORD_BYTES)
            },
        }
    }

    fn map(file: File, len: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len((len * WORD_BYTES).max(WORD_BYTES)).map_raw(&file)?;
        Ok(Self { memory: Memory::Mapped(map, file) })
    }
}

/// Gives the file so many bytes, each of them with room on the disk: by writing, since a hole has none. What is there already is written again
/// as it is.
fn fill(file: &mut File, bytes: usize) -> io::Result<()> {
    let mut there = Vec::new();
    (&*file).take(bytes as u64).read_to_end(&mut there)?;
    there.resize(bytes, 0);
    file.set_len(bytes as u64)?;
    io::Seek::rewind(file)?;
    file.write_all(&there)
}

const WORD_BYTES: usize = size_of::<u64>();
/// The largest file that a tool maps, in bytes.
const FILE_BYTES_MAX: usize = 1 << 34;

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use test_support::temp::TempDir;

    use super::*;

    #[test]
    fn a_file_keeps_its_words_and_has_one_writer() {
        let folder = TempDir::new();
        let path = folder.path().join("words");
        let words = Words::create(&path, 600, 0o600).unwrap();
        assert_eq!(words.all().len(), 600);
        words.all()[599].store(7, Relaxed);
        let seen = Words::open(&path).unwrap();
        assert_eq!((seen.all().len(), seen.all()[599].load(Relaxed)), (600, 7));
        words.all()[0].store(9, Relaxed);
        assert_eq!(seen.all()[0].load(Relaxed), 9, "what is written is seen at once");
        assert_eq!(Words::create(&path, 600, 0o600).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(words);
        let again = Words::create(&path, 700, 0o600).unwrap();
        assert_eq!(
            (again.all()[0].load(Relaxed), again.all()[599].load(Relaxed), again.all()[699].load(Relaxed)),
            (9, 7, 0)
        );
    }

    #[test]
    fn no_link_is_followed_and_an_empty_file_has_no_words() {
        let folder = TempDir::new();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        std::fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(Words::create(&link, 8, 0o600).is_err());
        assert_eq!(std::fs::metadata(&target).unwrap().len(), 0);
        assert!(Words::open(&target).unwrap().all().is_empty());
        assert_eq!(Words::own(3).all().len(), 3);
    }
}
