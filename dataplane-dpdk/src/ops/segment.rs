//! The statistics segment: every number of the plane in a file that is mapped, for tools to read while the plane runs and after it has died.
//!
//! ```text
//! words  0 mark   1 sequence   2 process   3 made   4 written   5 bytes of the directory   6 numbers   7 where they begin
//!        8.. the directory: a JSON array of {name, labels, grows}, one for each number     then the numbers, in its order
//! ```
//!
//! The sequence is odd while the numbers are being written, so that a reader sees all of one moment. A number that grows goes on where the process
//! before ended, as long as the directory is the same.
//!
//! **Invariant:** a reader costs the writer nothing, and the writer is never an lcore.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ferrogate_core::control::admin::Number;
use serde_json::{Value, json};

use crate::words::Words;

/// A segment that is written.
#[derive(Debug)]
pub(crate) struct Segment {
    words: Words,
    begin: usize,
    /// What processes before this one have counted.
    before: Vec<u64>,
}

/// What a segment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The process that writes it, or wrote it last.
    pub(crate) process: u64,
    /// When it was written last.
    pub(crate) written: Duration,
    /// Its numbers.
    pub(crate) numbers: Vec<Named>,
}

/// A number and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: u64,
}

/// Why a segment can't be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The file can't.
    Io(io::Error),
    /// It is none of ours.
    Foreign,
}

impl Segment {
    /// Makes the file, for these numbers.
    ///
    /// # Errors
    /// Those of [`Words::create`].
    pub(crate) fn create(path: &Path, numbers: &[Number]) -> io::Result<Self> {
        let directory = directory(numbers);
        let begin = HEADER_WORDS + directory.len().div_ceil(8);
        let words = Words::create(path, begin + numbers.len(), 0o640)?;
        let all = words.all();
        let goes_on = header(all).is_some_and(|h| h.begin == begin && h.numbers == numbers.len())
            && text(all, directory.len()) == directory.as_bytes();
        let before = |(n, number): (usize, &Number)| {
            if goes_on && number.grows { all[begin + n].load(Ordering::Relaxed) } else { 0 }
        };
        let before = numbers.iter().enumerate().map(before).collect();
        // Nobody takes it for a segment before it is one.
        all[MARK].store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        for (word, bytes) in all[HEADER_WORDS..begin].iter().zip(directory.as_bytes().chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
        }
        let made = if goes_on { all[MADE].load(Ordering::Relaxed) } else { unix_nanos() };
        let header =
            [0, u64::from(std::process::id()), made, 0, directory.len() as u64, numbers.len() as u64, begin as u64];
        all[SEQUENCE..HEADER_WORDS].iter().zip(header).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
        let segment = Self { words, begin, before };
        segment.write(numbers);
        segment.words.all()[MARK].store(MARK_VALUE, Ordering::Release);
        Ok(segment)
    }

    /// Writes the numbers, which are those that it was made for.
    pub(crate) fn write(&self, numbers: &[Number]) {
        let all = self.words.all();
        let sequence = all[SEQUENCE].load(Ordering::Relaxed) & !1;
        all[SEQUENCE].store(sequence | 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let values = numbers.iter().zip(&self.before).map(|(number, before)| number.value.wrapping_add(*before));
        all[self.begin..].iter().zip(values).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
        all[WRITTEN].store(unix_nanos(), Ordering::Relaxed);
        all[SEQUENCE].store(sequence + 2, Ordering::Release);
    }
}

impl Reading {
    /// Reads the segment at `path`, whether its process runs or not.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn of(path: &Path) -> Result<Self, ReadError> {
        let words = Words::open(path).map_err(ReadError::Io)?;
        let all = words.all();
        let head = header(all).ok_or(ReadError::Foreign)?;
        let directory = serde_json::from_slice(&text(all, head.text_bytes)).map_err(|_| ReadError::Foreign)?;
        let mut named = named(&directory).ok_or(ReadError::Foreign)?;
        if named.len() != head.numbers {
            return Err(ReadError::Foreign);
        }
        for _ in 0..TRIES_MAX {
            let before = all[SEQUENCE].load(Ordering::Acquire);
            for (n, number) in named.iter_mut().enumerate() {
                number.value = all[head.begin + n].load(Ordering::Relaxed);
            }
            let written = Duration::from_nanos(all[WRITTEN].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            // A process that died while it wrote has left whole numbers, of two moments.
            let is_left = !is_alive(head.process);
            if is_left || (before & 1 == 0 && all[SEQUENCE].load(Ordering::Relaxed) == before) {
                return Ok(Self { process: head.process, written, numbers: named });
            }
            std::thread::yield_now();
        }
        Err(ReadError::Io(io::ErrorKind::ResourceBusy.into()))
    }

    /// Whether the process that wrote it is there.
    pub(crate) fn is_alive(&self) -> bool {
        is_alive(self.process)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "{e}"),
            Self::Foreign => f.write_str("it is no statistics segment, or of another version"),
        }
    }
}

/// The numbers of a list as the directory and the admin API write it, with their values where it has them.
pub(crate) fn named(list: &Value) -> Option<Vec<Named>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let one = |entry: &Value| {
        let labels = entry.get("labels")?.as_object()?.iter();
        let labels = labels.map(|(k, v)| Some((k.clone(), text(v)?))).collect::<Option<_>>()?;
        let value = entry.get("value").and_then(Value::as_u64).unwrap_or(0);
        Some(Named { name: text(entry.get("name")?)?, labels, value })
    };
    list.as_array()?.iter().map(one).collect()
}

fn directory(numbers: &[Number]) -> String {
    let entry = |n: &Number| {
        let labels: serde_json::Map<_, _> = n.labels.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        json!({ "name": n.name, "labels": labels, "grows": n.grows })
    };
    Value::Array(numbers.iter().map(entry).collect()).to_string()
}

/// What the first words say, if they are those of a segment that is whole.
struct Header {
    process: u64,
    text_bytes: usize,
    numbers: usize,
    begin: usize,
}

fn header(all: &[AtomicU64]) -> Option<Header> {
    let word = |at: usize| all.get(at).map(|w| w.load(Ordering::Acquire));
    let size = |at: usize| word(at).and_then(|w| usize::try_from(w).ok()).filter(|&n| n <= all.len() * 8);
    let header = Header { process: word(PROCESS)?, text_bytes: size(5)?, numbers: size(6)?, begin: size(7)? };
    let is_whole = word(MARK)? == MARK_VALUE
        && HEADER_WORDS + header.text_bytes.div_ceil(8) == header.begin
        && header.begin + header.numbers <= all.len();
    is_whole.then_some(header)
}

/// So many bytes of the directory.
fn text(all: &[AtomicU64], bytes: usize) -> Vec<u8> {
    let words = all.iter().skip(HEADER_WORDS).take(bytes.div_ceil(8));
    let mut text: Vec<u8> = words.flat_map(|w| w.load(Ordering::Relaxed).to_ne_bytes()).collect();
    text.truncate(bytes);
    text
}

/// A process that nobody has waited for yet has an entry, and is dead.
fn is_alive(process: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

fn unix_nanos() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

const MARK: usize = 0;
const SEQUENCE: usize = 1;
const PROCESS: usize = 2;
const MADE: usize = 3;
const WRITTEN: usize = 4;
const HEADER_WORDS: usize = 8;
/// The last byte is the version of the layout.
const MARK_VALUE: u64 = u64::from_ne_bytes(*b"FGSTATS1");
/// A reader that is disturbed so often gives up: the numbers are written ten times a second.
const TRIES_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use test_support::temp::TempDir;

    use super::*;

    fn number(name: &'static str, grows: bool, value: u64) -> Number {
        Number { name, help: "", grows, labels: vec![("lcore", "0".to_owned())], value }
    }

    fn values(path: &Path) -> Vec<u64> {
        Reading::of(path).unwrap().numbers.iter().map(|n| n.value).collect()
    }

    #[test]
    fn what_grows_goes_on_and_what_is_there_now_begins_anew() {
        let folder = TempDir::new();
        let path = folder.path().join("stats");
        let segment = Segment::create(&path, &[number("frames", true, 3), number("flows", false, 5)]).unwrap();
        assert_eq!(values(&path), [3, 5]);
        segment.write(&[number("frames", true, 10), number("flows", false, 2)]);
        let read = Reading::of(&path).unwrap();
        assert!(read.is_alive() && read.process == u64::from(std::process::id()));
        assert_eq!(
            read.numbers[0],
            Named { name: "frames".into(), labels: vec![("lcore".into(), "0".into())], value: 10 }
        );
        drop(segment);
        assert_eq!(values(&path), [10, 2], "it outlives its writer");
        let segment = Segment::create(&path, &[number("frames", true, 0), number("flows", false, 0)]).unwrap();
        assert_eq!(values(&path), [10, 0]);
        segment.write(&[number("frames", true, 4), number("flows", false, 1)]);
        assert_eq!(values(&path), [14, 1]);
        drop(segment);
        let other = Segment::create(&path, &[number("bytes", true, 1)]).unwrap();
        assert_eq!(values(&path), [1], "other numbers begin anew");
        assert!(Segment::create(&path, &[number("bytes", true, 1)]).is_err(), "one writer");
        drop(other);
    }

    #[test]
    fn a_process_that_is_dead_is_not_alive_though_nobody_has_waited_for_it() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        while !stat().contains(") Z ") {
            std::thread::yield_now();
        }
        assert!(!is_alive(u64::from(child.id())) && is_alive(u64::from(std::process::id())));
        child.wait().unwrap();
        assert!(!is_alive(u64::from(child.id())));
    }

    #[test]
    fn what_is_no_segment_is_refused_whatever_it_is() {
        let folder = TempDir::new();
        let path = folder.path().join("stats");
        let segment = Segment::create(&path, &[number("frames", true, 3)]).unwrap();
        drop(segment);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            for bit in [1, 0x80] {
                let mut bad = good.clone();
                bad[at] ^= bit;
                std::fs::write(&path, &bad).unwrap();
                // Read or refused: never more than that.
                let _ = Reading::of(&path);
            }
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(matches!(Reading::of(&path), Err(ReadError::Foreign)), "{at} bytes");
        }
        assert!(matches!(Reading::of(&folder.path().join("none")), Err(ReadError::Io(_))));
    }
}
