//! A capture that runs: a ring for each lcore, and the body of an answer that brings what comes into them.
//!
//! **Invariant:** memory and length of a capture are bounded before it begins, and it ends when nobody reads it any more.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ferrogate_core::message::{BodyError, BodyLength, BodySource, Chunk};
use tokio::time::{Instant, Sleep, sleep};

use super::ring::{Cursor, Record, Ring, words};
use super::{Filter, Tap, pcapng};
use crate::words::Words;

/// How much a capture may bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of the file, at most.
    pub(crate) bytes_max: u64,
    /// Frames, at most.
    pub(crate) frames_max: u64,
    /// How long it runs.
    pub(crate) time_max: Duration,
    /// Bytes of a frame that are kept.
    pub(crate) kept_bytes: usize,
}

/// A capture, as the one who reads it sees it.
#[derive(Debug)]
pub(crate) struct Live {
    words: Arc<Words>,
    ring_words: usize,
    limits: Limits,
    ports: Vec<String>,
    lcores: Vec<Cursor>,
    /// Frames of each port that were written.
    taken: Vec<u64>,
    written: u64,
    ends_at: Instant,
    over: Arc<AtomicBool>,
    running: Arc<AtomicUsize>,
    stage: Stage,
    pause: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begins,
    Runs,
    Ended,
}

impl Live {
    /// A capture for so many lcores, and the tap of each. None: as many run as may (`running` counts them).
    pub(crate) fn begin(
        ports: Vec<String>,
        lcores: usize,
        filter: &Filter,
        limits: Limits,
        running: &Arc<AtomicUsize>,
    ) -> Option<(Self, Vec<Tap>)> {
        let free = |n: usize| (n < CAPTURES_MAX).then_some(n + 1);
        running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        let kept_bytes = limits.kept_bytes;
        let slots = (RING_BYTES / (words(1, kept_bytes) * 8)).max(SLOTS_MIN);
        let ring_words = words(slots, kept_bytes);
        let words = Arc::new(Words::own(ring_words * lcores));
        let over = Arc::new(AtomicBool::new(false));
        let tap = |lcore: usize| Tap {
            words: Arc::clone(&words),
            begin: lcore * ring_words,
            len: ring_words,
            kept_bytes,
            filter: filter.clone(),
            port: 0,
            epoch: 0,
            over: Arc::clone(&over),
        };
        let taps = (0..lcores).map(tap).collect();
        let ends_at = Instant::now() + limits.time_max;
        let (taken, lcores) = (vec![0; ports.len()], vec![Cursor::default(); lcores]);
        let running = Arc::clone(running);
        let live = Self {
            words,
            ring_words,
            limits,
            ports,
            lcores,
            taken,
            written: 0,
            ends_at,
            over,
            running,
            stage: Stage::Begins,
            pause: None,
        };
        Some((live, taps))
    }

    /// What has come since, in the order of time, as far as the limits go.
    fn collect(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        for (lcore, cursor) in self.lcores.iter_mut().enumerate() {
            let begin = lcore * self.ring_words;
            let Some(ring) = Ring::new(&self.words.all()[begin..begin + self.ring_words], self.limits.kept_bytes)
            else {
                continue;
            };
            let mut bytes = 0;
            while bytes < TURN_BYTES
                && let Some(record) = ring.next(cursor)
            {
                bytes += record.bytes.len();
                records.push(record);
            }
        }
        records.sort_by_key(|record: &Record| record.at);
        let mut out = Vec::new();
        for record in &records {
            let before = out.len();
            pcapng::packet(&mut out, record);
            let frames: u64 = self.taken.iter().sum();
            if frames >= self.limits.frames_max || self.written + out.len() as u64 > self.limits.bytes_max {
                out.truncate(before);
                self.stop();
                break;
            }
            if let Some(taken) = self.taken.get_mut(usize::from(record.port)) {
                *taken += 1;
            }
        }
        let frames: u64 = self.taken.iter().sum();
        if frames >= self.limits.frames_max || Instant::now() >= self.ends_at {
            self.stop();
        }
        self.written += out.len() as u64;
        out
    }

    /// The last block for each port. What was lost is told at the first: whose it was, nobody knows.
    fn statistics(&self) -> Vec<u8> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let (mut out, now) = (Vec::new(), u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        let mut lost: u64 = self.lcores.iter().map(|cursor| cursor.lost).sum();
        for (port, taken) in self.taken.iter().enumerate() {
            pcapng::statistics(
                &mut out,
                u16::try_from(port).unwrap_or(u16::MAX),
                now,
                *taken,
                std::mem::take(&mut lost),
            );
        }
        out
    }

    fn stop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.stage = Stage::Ended;
    }
}

impl BodySource for Live {
    fn length(&self) -> BodyLength {
        BodyLength::Chunked
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, BodyError>> {
        let data = |bytes: Vec<u8>| Poll::Ready(Ok(Some(Chunk::Data(bytes.into()))));
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match self.stage {
                Stage::Begins => {
                    self.stage = Stage::Runs;
                    let kept = u32::try_from(self.limits.kept_bytes).unwrap_or(u32::MAX);
                    let head = pcapng::head(self.ports.iter().map(String::as_str), kept);
                    self.written = head.len() as u64;
                    return data(head);
                }
                Stage::Runs => {
                    let mut bytes = self.collect();
                    if self.stage == Stage::Ended {
                        bytes.extend(self.statistics());
                        self.ports.clear();
                    }
                    if !bytes.is_empty() {
                        return data(bytes);
                    }
                    self.pause = (self.stage == Stage::Runs).then(|| Box::pin(sleep(LOOK_INTERVAL)));
                }
                Stage::Ended => return Poll::Ready(Ok(None)),
            }
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Captures at a time.
const CAPTURES_MAX: usize = 2;
/// A ring of one lcore, in bytes: some milliseconds of a fast port.
const RING_BYTES: usize = 8 << 20;
/// Slots of a ring, at least.
const SLOTS_MIN: usize = 64;
/// Bytes that are taken from a ring in one go.
const TURN_BYTES: usize = 256 << 10;
/// Between two looks into rings that were empty.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use smoltcp::time::Instant as StackInstant;

    use super::*;
    use crate::frame::Frame;

    fn limits() -> Limits {
        Limits { bytes_max: 1 << 20, frames_max: 1000, time_max: Duration::from_secs(5), kept_bytes: 128 }
    }

    fn frame(len: usize) -> Frame {
        let mut frame = Frame::heap(len);
        frame.set_len(len);
        frame
    }

    async fn all(live: &mut Live) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(Chunk::Data(piece)) = poll_fn(|cx| live.poll_chunk(cx)).await.unwrap() {
            bytes.extend_from_slice(&piece);
        }
        bytes
    }

    /// Blocks by their kind.
    fn kinds(mut file: &[u8]) -> Vec<u32> {
        let mut kinds = Vec::new();
        while let Some((head, _)) = file.split_first_chunk::<8>() {
            kinds.push(u32::from_ne_bytes(head[..4].try_into().unwrap()));
            file = &file[u32::from_ne_bytes(head[4..].try_into().unwrap()) as usize..];
        }
        kinds
    }

    #[tokio::test(start_paused = true)]
    async fn frames_of_all_lcores_come_in_the_order_of_time_until_the_time_is_over() {
        let running = Arc::default();
        let ports = vec!["a".to_owned(), "b".to_owned()];
        let (mut live, taps) = Live::begin(ports, 2, &Filter::default(), limits(), &running).unwrap();
        let at = |micros| StackInstant::from_micros(micros);
        taps[0].at(0, at(0), 1_000_000).see(&[frame(60), frame(200)], at(20), false);
        taps[1].at(1, at(0), 1_000_000).see(&[frame(70)], at(10), true);
        let file = all(&mut live).await;
        assert_eq!(kinds(&file), [0x0a0d_0d0a, 1, 1, 6, 6, 6, 5, 5]);
        assert!(taps[0].is_over());
        assert_eq!(live.taken, [2, 1]);
        drop(live);
        assert_eq!(running.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_at_its_limits_and_tells_what_was_lost() {
        let running = Arc::default();
        let begin = |limits| Live::begin(vec!["a".to_owned()], 1, &Filter::default(), limits, &running);
        let (mut few, taps) = begin(Limits { frames_max: 3, ..limits() }).unwrap();
        let now = StackInstant::from_micros(1);
        let burst: Vec<_> = (0..10).map(|_| frame(64)).collect();
        taps[0].see(&burst, now, false);
        assert_eq!(kinds(&all(&mut few).await).iter().filter(|kind| **kind == 6).count(), 3);
        let (mut small, taps) = begin(Limits { bytes_max: 600, ..limits() }).unwrap();
        assert!(begin(limits()).is_none(), "two at a time");
        taps[0].see(&burst, now, false);
        let file = all(&mut small).await;
        assert!(file.len() < 600 + 100 && kinds(&file).contains(&6), "{} bytes", file.len());
        drop(few);
        let (mut slow, taps) = begin(limits()).unwrap();
        for _ in 0..10_000 {
            taps[0].see(&burst, now, false);
        }
        all(&mut slow).await;
        assert_eq!(slow.taken[0], 1000);
        assert!(slow.lcores[0].lost > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_the_filter_takes_is_kept() {
        let running = Arc::default();
        let (mut live, taps) =
            Live::begin(vec!["a".to_owned()], 1, &"tcp".parse().unwrap(), limits(), &running).unwrap();
        taps[0].see(&[frame(60)], StackInstant::from_micros(1), false);
        assert_eq!(kinds(&all(&mut live).await), [0x0a0d_0d0a, 1, 5]);
    }
}
