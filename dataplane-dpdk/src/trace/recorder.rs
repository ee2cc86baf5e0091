//! The flight recorder: the last frames of each lcore in a file that is mapped, so that they are there whatever becomes of the process.
//!
//! ```text
//! words  0 mark   1 lcores   2 words of a ring   3 kept bytes   4 bytes of the names   5.. the ports' names, one a line   then the rings
//! ```
//!
//! What the process before has left is kept as `FILE.last` when a new one begins: a service that starts again at once does not wipe out why it had to.
//!
//! **Invariant:** a file that runs is not touched by anybody but its process; whatever a file holds, reading it ends.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::ring::{Record, Ring, words};
use super::{Filter, Tap};
use crate::words::Words;

/// The flight recorder of a plane.
#[derive(Debug)]
pub(crate) struct Recorder {
    taps: Vec<Tap>,
}

/// What a flight recorder has left.
#[derive(Debug)]
pub(crate) struct Recording {
    /// The ports, by their number in the records.
    pub(crate) ports: Vec<String>,
    /// In the order of time.
    pub(crate) records: Vec<Record>,
    pub(crate) kept_bytes: u32,
}

impl Recorder {
    /// Makes the file for so many frames of each lcore.
    ///
    /// # Errors
    /// When it can't be made or has no room; `WouldBlock` when another process records there.
    pub(crate) fn create(path: &Path, ports: &[String], lcores: usize, frames: usize) -> io::Result<Self> {
        put_aside(path)?;
        let names = ports.join("\n");
        let ring_words = words(frames, KEPT_BYTES);
        let begin = HEADER_WORDS + names.len().div_ceil(8);
        let words = Arc::new(Words::create(path, begin + lcores * ring_words, 0o600)?);
        let header = [0, lcores, ring_words, KEPT_BYTES, names.len()];
        words.all().iter().zip(header).for_each(|(word, value)| word.store(value as u64, Relaxed));
        for (word, bytes) in words.all()[HEADER_WORDS..].iter().zip(names.as_bytes().chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(whole), Relaxed);
        }
        words.all()[0].store(MARK, Relaxed);
        let tap = |lcore: usize| Tap {
            words: Arc::clone(&words),
            begin: begin + lcore * ring_words,
            len: ring_words,
            kept_bytes: KEPT_BYTES,
            filter: Filter::default(),
            port: 0,
            epoch: 0,
            over: Arc::default(),
        };
        Ok(Self { taps: (0..lcores).map(tap).collect() })
    }

    /// The end of each lcore.
    pub(crate) fn taps(&self) -> &[Tap] {
        &self.taps
    }
}

impl Recording {
    /// Reads the file, whether its process runs or not.
    ///
    /// # Errors
    /// When it can't be read, or is none: `InvalidData`.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let words = Words::open(path)?;
        let all = words.all();
        let word = |at: usize| all.get(at).and_then(|w| usize::try_from(w.load(Relaxed)).ok());
        let read = || {
            let [mark, lcores, ring_words, kept_bytes, name_bytes] = [0, 1, 2, 3, 4].map(word);
            let (ring_words, kept_bytes) = (ring_words?, kept_bytes.filter(|&kept| kept <= KEPT_BYTES_MAX)?);
            let begin = HEADER_WORDS.checked_add(name_bytes?.div_ceil(8))?;
            let names = all.get(HEADER_WORDS..begin)?.iter().flat_map(|w| w.load(Relaxed).to_ne_bytes());
            let names = String::from_utf8(names.take(name_bytes?).collect()).ok()?;
            let mut records = Vec::new();
            for lcore in 0..lcores.filter(|&n| n <= all.len())? {
                let start = begin.checked_add(lcore.checked_mul(ring_words)?)?;
                records.extend(Ring::new(all.get(start..start.checked_add(ring_words)?)?, kept_bytes)?.left());
            }
            records.sort_by_key(|record| record.at);
            let kept_bytes = u32::try_from(kept_bytes).ok()?;
            (mark? as u64 == MARK).then(|| Self {
                ports: names.lines().map(str::to_owned).collect(),
                records,
                kept_bytes,
            })
        };
        read().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// Gives what is at `path` another name, unless somebody is writing it.
fn put_aside(path: &Path) -> io::Result<()> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    match file.try_lock() {
        Ok(()) => fs::rename(path, last(path)),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Where what the process before has recorded is.
fn last(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".last");
    name.into()
}

const HEADER_WORDS: usize = 5;
/// The last byte is the version of the layout.
const MARK: u64 = u64::from_ne_bytes(*b"FGFLIGH1");
/// Bytes of a frame: with its header a slot is two lines of the cache.
const KEPT_BYTES: usize = 104;
/// What a file may claim.
const KEPT_BYTES_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use smoltcp::time::Instant;
    use test_support::temp::TempDir;

    use super::*;
    use crate::frame::Frame;

    fn see(recorder: &Recorder, lcore: usize, micros: i64) {
        let mut frame = Frame::heap(200);
        frame.set_len(200);
        frame.bytes_mut().fill(u8::try_from(micros).unwrap());
        let now = Instant::from_micros(micros);
        recorder.taps()[lcore].at(1, Instant::from_micros(0), 0).see(&[frame], now, true);
    }

    #[test]
    fn the_last_frames_are_read_back_and_those_of_the_process_before_are_kept() {
        let folder = TempDir::new();
        let path = folder.path().join("flight");
        let ports = ["net_ring0".to_owned(), "net_tap1".to_owned()];
        let recorder = Recorder::create(&path, &ports, 2, 16).unwrap();
        (0..40).for_each(|n| see(&recorder, usize::try_from(n % 2).unwrap(), n));
        assert_eq!(Recorder::create(&path, &ports, 2, 16).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(recorder);
        let recording = Recording::of(&path).unwrap();
        assert_eq!((recording.ports, recording.kept_bytes), (ports.to_vec(), 104));
        let times: Vec<_> = recording.records.iter().map(|r| r.at / 1000).collect();
        assert_eq!(times, (8..40).collect::<Vec<_>>());
        let last = recording.records.last().unwrap();
        assert_eq!((&last.bytes, last.len, last.port, last.sent), (&vec![39; 104], 200, 1, true));
        let again = Recorder::create(&path, &ports, 1, 16).unwrap();
        see(&again, 0, 1);
        assert_eq!(
            (Recording::of(&path).unwrap().records.len(), Recording::of(&super::last(&path)).unwrap().records.len()),
            (1, 32)
        );
    }

    #[test]
    fn what_is_no_recording_is_refused_whatever_it_is() {
        let folder = TempDir::new();
        let path = folder.path().join("flight");
        let recorder = Recorder::create(&path, &["a".to_owned()], 1, 16).unwrap();
        see(&recorder, 0, 5);
        drop(recorder);
        let good = fs::read(&path).unwrap();
        for at in 0..100 {
            for bits in [1, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= bits;
                fs::write(&path, &bad).unwrap();
                let _ = Recording::of(&path);
            }
            fs::write(&path, &good[..at * good.len() / 100]).unwrap();
            assert!(Recording::of(&path).is_err());
        }
    }
}
