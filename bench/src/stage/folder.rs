//! The folder of one run: configurations, certificates, sockets, logs. In memory where the system has such a place.
//!
//! **Invariant:** gone when dropped; what a killed run left goes at the next start.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::BenchError;

/// A folder that is removed when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new, empty folder. Logs in it cost no disk: it is on /dev/shm if that is there.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new() -> Result<Self, BenchError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let base = parent();
        remove_leftovers(&base);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = base.join(name);
        fs::create_dir_all(&path).map_err(|e| BenchError::io(format!("make {}", path.display()), e))?;
        Ok(Self(path))
    }

    /// A file in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it and says where.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, name: &str, content: &str) -> Result<PathBuf, BenchError> {
        let path = self.path(name);
        fs::write(&path, content).map_err(|e| BenchError::io(format!("write {}", path.display()), e))?;
        Ok(path)
    }

    /// Touches so much of the memory that files here will take, and gives it back, for whoever writes next.
    ///
    /// A virtual machine's host gives a page when it is touched for the first time since the guest let go of it, which costs 15 us and more
    /// where a page at hand costs half of one: noise that falls on those who write a log, and not by what they do.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn warm(&self, bytes: usize) -> Result<(), BenchError> {
        let path = self.path("warm");
        let error = |e| BenchError::io(format!("write {}", path.display()), e);
        let mut file = fs::File::create(&path).map_err(error)?;
        let chunk = vec![0x55; WARM_CHUNK_BYTES];
        for _ in 0..bytes.div_ceil(chunk.len()) {
            file.write_all(&chunk).map_err(error)?;
        }
        fs::remove_file(&path).map_err(error)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn parent() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

/// Only what has our prefix and whose process is gone.
fn remove_leftovers(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|n| n.split('-').next());
        if process.is_some_and(is_gone) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether this is the id of a process that no longer runs.
pub(crate) fn is_gone(process: &str) -> bool {
    process.parse::<u32>().is_ok() && !fs::exists(format!("/proc/{process}")).unwrap_or(true)
}

const WARM_CHUNK_BYTES: usize = 1 << 20;

const PREFIX: &str = "ferrogate-bench-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_touched_is_given_back() {
        let folder = Folder::new().unwrap();
        folder.warm(3 * WARM_CHUNK_BYTES / 2).unwrap();
        assert_eq!(fs::read_dir(folder.root()).unwrap().count(), 0);
        let path = folder.root().to_owned();
        drop(folder);
        let gone = Folder(path.clone());
        assert!(gone.warm(1).unwrap_err().to_string().contains(path.to_str().unwrap()));
    }
}
