//! A log's file: appended to, put aside when it is too large or too old, opened again when it is told to.
//!
//! **Invariant:** only its owner's thread touches the disk; a file that can't be put aside goes on to be written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// When a log file is put aside, and what is kept then. Zero and false switch a rule off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes of the file.
    pub bytes_max: u64,
    /// A span of the local clock: a day ends at midnight.
    pub span: Duration,
    /// Age of what was put aside.
    pub age_max: Duration,
    /// Number of files that were put aside.
    pub files_max: usize,
    /// Whether what is put aside is compressed with gzip.
    pub compress: bool,
}

/// An open log: a file, or a stream of the process.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    out: Out,
}

#[derive(Debug)]
enum Out {
    Stdout,
    Stderr,
    File {
        file: File,
        bytes: u64,
        span: i64,
    },
    /// A device, a pipe or a socket under a file's name.
    Special(File),
}

impl LogFile {
    /// Opens `stdout`, `stderr` (also `console` and the empty text) or a file, whose folder is made when it is not there.
    ///
    /// # Errors
    /// When the folder or the file can't be made or opened.
    pub fn open(path: &str, rotation: Rotation) -> io::Result<Self> {
        let out = match path {
            "stdout" => Out::Stdout,
            "" | "stderr" | "console" => Out::Stderr,
            path => open(Path::new(path), &rotation)?,
        };
        Ok(Self { path: path.into(), rotation, out })
    }

    /// Whether it has a file's name, and is not a stream of the process.
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self.out, Out::File { .. } | Out::Special(_))
    }

    /// Opens the file again, because something else has moved it away.
    ///
    /// # Errors
    /// When it can't be opened; then the old one goes on to be written.
    pub fn reopen(&mut self) -> io::Result<()> {
        if self.is_file() {
            self.out = open(&self.path, &self.rotation)?;
        }
        Ok(())
    }

    fn is_due(&self, more: usize) -> bool {
        let Out::File { bytes, span, .. } = &self.out else { return false };
        let full = self.rotation.bytes_max > 0 && *bytes > 0 && *bytes + more as u64 > self.rotation.bytes_max;
        full || (*bytes > 0 && *span != span_of(SystemTime::now(), self.rotation.span))
    }

    /// Puts the file aside under a name with the time, and begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        let aside = aside_name(&self.path);
        fs::rename(&self.path, &aside)?;
        self.reopen()?;
        let (path, rotation) = (self.path.clone(), self.rotation.clone());
        // Packing takes its time, and lines go on to come.
        thread::Builder::new().name("log-aside".into()).spawn(move || tidy_up(&path, &aside, &rotation))?;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
        if self.is_due(buf.len())
            && let Err(error) = self.rotate()
        {
            // Not through the log: this may be the log.
            eprintln!("ferrogate: {} can't be put aside: {error}", self.path.display());
            if let Out::File { bytes, span, .. } = &mut self.out {
                (*bytes, *span) = (0, span_of(SystemTime::now(), self.rotation.span));
            }
        }
        match &mut self.out {
            Out::Stdout => io::stdout().write_all(buf),
            Out::Stderr => io::stderr().write_all(buf),
            Out::Special(file) => file.write_all(buf),
            Out::File { file, bytes, .. } => {
                file.write_all(buf)?;
                *bytes += buf.len() as u64;
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.out {
            Out::Stdout => io::stdout().flush(),
            Out::Stderr => io::stderr().flush(),
            Out::File { .. } | Out::Special(_) => Ok(()),
        }
    }
}

fn open(path: &Path, rotation: &Rotation) -> io::Result<Out> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        // `/dev/null` and the like are nobody's to put aside: the system has one of each.
        return Ok(Out::Special(file));
    }
    // What an earlier process wrote belongs to the span in which it was written last.
    let written = metadata.modified().ok().filter(|_| metadata.len() > 0).unwrap_or_else(SystemTime::now);
    Ok(Out::File { bytes: metadata.len(), span: span_of(written, rotation.span), file })
}

/// The number of the span of the local clock that a time falls into.
fn span_of(time: SystemTime, span: Duration) -> i64 {
    let Ok(seconds) = i64::try_from(span.as_secs()) else { return 0 };
    let Ok(time) = Timestamp::try_from(time) else { return 0 };
    if seconds == 0 {
        return 0;
    }
    (time.as_second() + i64::from(TimeZone::system().to_offset(time).seconds())).div_euclid(seconds)
}

/// `<path>.<local time>`, with a number behind it when that is taken.
fn aside_name(path: &Path) -> PathBuf {
    let now = Timestamp::now().to_zoned(TimeZone::system());
    let (date, time) = (now.date(), now.time());
    let base = format!(
        "{}.{:04}-{:02}-{:02}_{:02}-{:02}-{:02}",
        path.display(),
        date.year(),
        date.month(),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    let is_free = |p: &PathBuf| !p.exists() && !packed(p).exists();
    let numbered = (1..).map(|n| PathBuf::from(format!("{base}.{n}")));
    std::iter::once(PathBuf::from(&base)).chain(numbered).find(is_free).unwrap_or_else(|| base.into())
}

fn packed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    name.into()
}

/// Packs what was just put aside, and removes what is too old or too many.
fn tidy_up(path: &Path, aside: &Path, rotation: &Rotation) {
    if rotation.compress
        && let Err(error) = pack(aside)
    {
        eprintln!("ferrogate: {} can't be packed: {error}", aside.display());
    }
    let mut old = put_aside(path);
    // The newest first; the names sort by time.
    old.sort_unstable_by(|a, b| b.cmp(a));
    let is_too_old = |file: &Path| {
        let age = fs::metadata(file).and_then(|m| m.modified()).ok().and_then(|m| m.elapsed().ok());
        !rotation.age_max.is_zero() && age.is_some_and(|age| age > rotation.age_max)
    };
    for (index, file) in old.iter().enumerate() {
        if (rotation.files_max > 0 && index >= rotation.files_max) || is_too_old(file) {
            // Tried again at the next time.
            let _ = fs::remove_file(file);
        }
    }
}

fn pack(path: &Path) -> io::Result<()> {
    let mut from = File::open(path)?;
    let to = packed(path);
    let mut half = to.as_os_str().to_owned();
    half.push(PART);
    let mut encoder = GzEncoder::new(File::create(&half)?, Compression::default());
    io::copy(&mut from, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::rename(&half, to)?;
    fs::remove_file(path)
}

/// The files beside `path` whose names are its own and a time.
fn put_aside(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Vec::new();
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let is_ours = |file: &str| {
        let rest = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
        rest.is_some_and(|rest| {
            !rest.ends_with(PART)
                && rest.len() >= TIME_BYTES
                && rest[..TIME_BYTES].bytes().all(|b| b.is_ascii_digit() || b == b'-' || b == b'_')
        })
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|e| e.file_name().to_str().is_some_and(is_ours)).map(|e| e.path()).collect()
}

/// Behind the name of a file that is still being packed.
const PART: &str = ".part";

/// `2006-01-02_15-04-05`, in bytes.
const TIME_BYTES: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;
    use test_support::temp::TempDir;
    use test_support::wait_until;

    #[test]
    fn a_full_file_is_put_aside_packed_and_bounded_in_number() {
        let folder = TempDir::new();
        let path = folder.path().join("access.log");
        let rotation = Rotation { bytes_max: 100, files_max: 2, compress: true, ..Rotation::default() };
        let mut log = LogFile::open(path.to_str().unwrap(), rotation).unwrap();
        for n in 0..5 {
            log.write_all(format!("{n}{}\n", "x".repeat(80)).as_bytes()).unwrap();
        }
        assert!(fs::read_to_string(&path).unwrap().starts_with('4'), "the last line is in the file itself");
        let packed = || put_aside(&path).iter().filter(|p| p.extension().is_some_and(|e| e == "gz")).count();
        wait_until("old files are packed and the oldest removed", || put_aside(&path).len() == 2 && packed() == 2);
    }

    #[test]
    fn a_new_span_begins_a_new_file() {
        let folder = TempDir::new();
        let path = folder.path().join("a/b/access.log");
        let rotation = Rotation { span: Duration::from_secs(3600), ..Rotation::default() };
        let mut log = LogFile::open(path.to_str().unwrap(), rotation.clone()).unwrap();
        log.write_all(b"old\n").unwrap();
        drop(log);
        let two_hours_ago = SystemTime::now() - Duration::from_secs(7200);
        File::options().append(true).open(&path).unwrap().set_modified(two_hours_ago).unwrap();
        let mut log = LogFile::open(path.to_str().unwrap(), rotation).unwrap();
        log.write_all(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(put_aside(&path).len(), 1);
    }

    #[test]
    fn a_device_is_never_put_aside() {
        let folder = TempDir::new();
        let path = folder.path().join("access.log");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        let rotation = Rotation { bytes_max: 10, span: Duration::from_secs(1), ..Rotation::default() };
        let mut log = LogFile::open(path.to_str().unwrap(), rotation).unwrap();
        for _ in 0..3 {
            log.write_all(b"a line that is longer than the file may be\n").unwrap();
        }
        log.reopen().unwrap();
        assert!(put_aside(&path).is_empty() && fs::symlink_metadata(&path).unwrap().is_symlink());
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_again() {
        let folder = TempDir::new();
        let path = folder.path().join("access.log");
        let mut log = LogFile::open(path.to_str().unwrap(), Rotation::default()).unwrap();
        log.write_all(b"one\n").unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        log.write_all(b"two\n").unwrap();
        log.reopen().unwrap();
        log.write_all(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("moved")).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }
}
