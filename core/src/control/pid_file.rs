//! The file with the process id, for those who send signals.
//!
//! **Invariant:** whole or not there; removed at the end only while it is ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Config;

/// A written pid file; removed when dropped, unless a new process has written its own.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes our process id, in the place of any other.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let id = std::process::id();
        let new = path.with_extension(format!("{id}.new"));
        fs::write(&new, format!("{id}\n"))?;
        fs::rename(&new, path)?;
        Ok(Self(path.into()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if read(&self.0).is_ok_and(|id| id == std::process::id()) {
            // The next start writes over it in any case.
            let _ = fs::remove_file(&self.0);
        }
    }
}

/// A process that should be running, as its configuration tells.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// Its process id.
    pub id: u32,
    /// How long it gives running requests at a stop.
    pub graceful_timeout: Duration,
}

/// The process that runs by a configuration file, by the pid file that this names.
///
/// # Errors
/// Why it can't be found, in words.
pub fn of_config(path: &Path) -> Result<Running, String> {
    let (config, _) = Config::load(path).map_err(|found| {
        let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    let Some(pid_file) = &config.pid_file else {
        return Err(format!("{} has no key `pid`: its process can't be found", path.display()));
    };
    let id = read(pid_file).map_err(|e| format!("the pid file {}: {e}", pid_file.display()))?;
    Ok(Running { id, graceful_timeout: config.limits.graceful_timeout })
}

/// The process id in a file.
///
/// # Errors
/// When it can't be read, or holds none.
pub fn read(path: &Path) -> io::Result<u32> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the file holds no process id"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_support::temp::TempDir;

    #[test]
    fn the_file_of_another_process_stays() {
        let folder = TempDir::new();
        let path = folder.path().join("run/a.pid");
        let file = PidFile::write(&path).unwrap();
        assert_eq!(read(&path).unwrap(), std::process::id());
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(read(&path).unwrap(), 1);
        drop(PidFile::write(&path).unwrap());
        assert!(!path.exists());
    }
}
