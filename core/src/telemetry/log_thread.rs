//! The one thread that writes access logs, and how lines get there: each worker gathers them in a buffer of its own per log, and hands
//! whole buffers over.
//!
//! **Invariant:** a slow disk or a full pipe never holds a worker: what does not fit into the queue is dropped and counted.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::log_file::{LogFile, Rotation};

/// The running thread.
#[derive(Debug)]
pub struct LogThread {
    queue: LogQueue,
    thread: Option<JoinHandle<()>>,
}

/// The way to the thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogQueue {
    sender: Sender<Message>,
    shared: Arc<Shared>,
}

/// Where the lines of one log go.
#[derive(Debug, PartialEq, Eq)]
pub struct LogSink {
    /// `stdout`, `stderr` or a file.
    pub path: String,
    /// When the file is put aside.
    pub rotation: Rotation,
}

/// What one worker has gathered for one log.
#[derive(Debug)]
pub struct LogBuffer {
    sink: Arc<LogSink>,
    queue: LogQueue,
    held: RefCell<Held>,
    /// Memory that the thread has written out, to be used again: fresh memory for each batch costs its page faults.
    spent: Receiver<Vec<u8>>,
    /// The thread's end of it.
    give_back: SyncSender<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    lines: u64,
}

#[derive(Debug, Default)]
struct Shared {
    queued_bytes: AtomicUsize,
    dropped_lines: AtomicU64,
    failed_writes: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Lines { sink: Arc<LogSink>, held: Held, give_back: SyncSender<Vec<u8>> },
    Reopen,
    End,
}

impl LogThread {
    /// Starts the thread. Before a data plane pins this thread, or it would share a worker's core.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn start() -> io::Result<Self> {
        let (sender, receiver) = channel();
        let queue = LogQueue { sender, shared: Arc::default() };
        let shared = Arc::clone(&queue.shared);
        let thread = thread::Builder::new().name("access-log".into()).spawn(move || write_all(&receiver, &shared))?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// The way to it.
    #[must_use]
    pub fn queue(&self) -> LogQueue {
        self.queue.clone()
    }
}

impl Drop for LogThread {
    /// Lets it write what it holds, and waits for that.
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.queue.sender.send(Message::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl LogQueue {
    /// A way that leads nowhere, for those who don't log.
    #[must_use]
    pub fn closed() -> Self {
        Self { sender: channel().0, shared: Arc::default() }
    }

    /// An empty buffer for a log.
    #[must_use]
    pub fn buffer(&self, sink: LogSink) -> Rc<LogBuffer> {
        let (give_back, spent) = sync_channel(SPENT_BUFFERS_MAX);
        Rc::new(LogBuffer { sink: Arc::new(sink), queue: self.clone(), held: RefCell::default(), spent, give_back })
    }

    /// Has every file opened again: something else has moved it away.
    pub fn reopen(&self) {
        let _ = self.sender.send(Message::Reopen);
    }

    /// Lines dropped because the thread was behind.
    #[must_use]
    pub fn dropped_lines(&self) -> u64 {
        self.shared.dropped_lines.load(Ordering::Relaxed)
    }

    /// Batches that could not be written: a full disk, a file that can't be opened.
    #[must_use]
    pub fn failed_writes(&self) -> u64 {
        self.shared.failed_writes.load(Ordering::Relaxed)
    }

    fn hand_over(&self, buffer: &LogBuffer, held: Held, queue_bytes_max: usize) {
        let (size, lines) = (held.bytes.len(), held.lines);
        if self.shared.queued_bytes.fetch_add(size, Ordering::Relaxed) + size > queue_bytes_max {
            self.shared.queued_bytes.fetch_sub(size, Ordering::Relaxed);
            self.shared.dropped_lines.fetch_add(lines, Ordering::Relaxed);
            return;
        }
        let (sink, give_back) = (Arc::clone(&buffer.sink), buffer.give_back.clone());
        if self.sender.send(Message::Lines { sink, held, give_back }).is_err() {
            self.shared.queued_bytes.fetch_sub(size, Ordering::Relaxed);
            self.shared.dropped_lines.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

impl LogBuffer {
    /// Where its lines go.
    #[must_use]
    pub fn sink(&self) -> &LogSink {
        &self.sink
    }

    /// Adds a line, which `write` writes with its end; hands the buffer over when it is full. `queue_bytes_max` bounds what waits for the
    /// thread, of all workers together.
    pub fn line(&self, queue_bytes_max: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let mut held = self.held.borrow_mut();
        if held.bytes.capacity() == 0 {
            held.bytes = self.spent.try_recv().unwrap_or_default();
            held.bytes.reserve(BATCH_BYTES + LINE_BYTES);
        }
        write(&mut held.bytes);
        held.lines += 1;
        if held.bytes.len() >= BATCH_BYTES {
            self.queue.hand_over(self, std::mem::take(&mut held), queue_bytes_max);
        }
    }

    /// Hands over what there is. To be called now and then, so that a quiet log is not held back.
    pub fn flush(&self, queue_bytes_max: usize) {
        let mut held = self.held.borrow_mut();
        if !held.bytes.is_empty() {
            self.queue.hand_over(self, std::mem::take(&mut held), queue_bytes_max);
        }
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        self.flush(usize::MAX);
    }
}

fn write_all(receiver: &Receiver<Message>, shared: &Shared) {
    let mut files = Files::default();
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(Message::Lines { sink, held: Held { mut bytes, lines }, give_back }) => {
                if let Err(error) = files.write(&sink, &bytes) {
                    files.complain(&sink, &error);
                    shared.failed_writes.fetch_add(1, Ordering::Relaxed);
                    shared.dropped_lines.fetch_add(lines, Ordering::Relaxed);
                }
                shared.queued_bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
                if bytes.capacity() <= SPENT_BYTES_MAX {
                    bytes.clear();
                    // The worker is gone, or has enough: then the memory is freed here.
                    let _ = give_back.try_send(bytes);
                }
            }
            Ok(Message::Reopen) => files.reopen(),
            Err(RecvTimeoutError::Timeout) => files.close_unused(),
            Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The open logs by path.
#[derive(Default)]
struct Files {
    open: HashMap<String, Open>,
    complained: bool,
}

struct Open {
    file: LogFile,
    sink: Arc<LogSink>,
    idle_ticks: u32,
}

impl Files {
    fn write(&mut self, sink: &Arc<LogSink>, bytes: &[u8]) -> io::Result<()> {
        if !self.open.get(&sink.path).is_some_and(|open| open.sink.rotation == sink.rotation) {
            let file = LogFile::open(&sink.path, sink.rotation.clone())?;
            self.open.insert(sink.path.clone(), Open { file, sink: Arc::clone(sink), idle_ticks: 0 });
        }
        let Some(open) = self.open.get_mut(&sink.path) else { return Ok(()) };
        open.idle_ticks = 0;
        open.file.write_all(bytes)?;
        open.file.flush()?;
        self.complained = false;
        Ok(())
    }

    fn reopen(&mut self) {
        for open in self.open.values_mut() {
            if let Err(error) = open.file.reopen() {
                tracing::error!(path = %open.sink.path, %error, "an access log can't be opened again; the old file is written on");
            }
        }
    }

    /// A log that nobody has written for a while is closed: its listener may be gone, or its file removed.
    fn close_unused(&mut self) {
        self.open.retain(|_, open| {
            open.idle_ticks += 1;
            open.idle_ticks < IDLE_TICKS_MAX
        });
    }

    /// Says once why lines are lost, until some are written again.
    fn complain(&mut self, sink: &LogSink, error: &io::Error) {
        if !self.complained {
            tracing::error!(path = %sink.path, %error, "an access log can't be written: its lines are lost");
            self.complained = true;
        }
    }
}

/// A worker hands its lines over when it has so many bytes of them.
const BATCH_BYTES: usize = 32 * 1024;

/// Room for the line that fills a batch, in bytes.
const LINE_BYTES: usize = 1024;

/// Written buffers that wait to be used again, for one log of one worker at most.
const SPENT_BUFFERS_MAX: usize = 4;

/// A larger one, with a line that was very long, is freed, in bytes.
const SPENT_BYTES_MAX: usize = 2 * BATCH_BYTES;

/// How long the thread waits for lines before it looks after its files.
const TICK: Duration = Duration::from_secs(1);

/// Ticks without a line after which a file is closed.
const IDLE_TICKS_MAX: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use test_support::temp::TempDir;

    fn sink(folder: &TempDir, name: &str) -> LogSink {
        LogSink { path: folder.path().join(name).to_str().unwrap().to_owned(), rotation: Rotation::default() }
    }

    #[test]
    fn every_line_of_every_worker_arrives_in_its_order() {
        let folder = TempDir::new();
        let thread = LogThread::start().unwrap();
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let (queue, sink) = (thread.queue(), sink(&folder, "a"));
                thread::spawn(move || {
                    let buffer = queue.buffer(sink);
                    for n in 0..10_000 {
                        buffer.line(usize::MAX, |out| writeln!(out, "{worker} {n}").unwrap());
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|w| w.join().unwrap());
        drop(thread);
        let text = std::fs::read_to_string(folder.path().join("a")).unwrap();
        for worker in 0..4 {
            let own = text.lines().filter_map(|l| l.strip_prefix(&format!("{worker} ")));
            assert!(own.eq((0..10_000).map(|n: u32| n.to_string())), "worker {worker}");
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let folder = TempDir::new();
        let thread = LogThread::start().unwrap();
        let buffer = thread.queue().buffer(sink(&folder, "a"));
        for _ in 0..3 {
            buffer.line(10, |out| out.extend_from_slice(b"0123456789\n"));
        }
        buffer.flush(10);
        assert_eq!(thread.queue().dropped_lines(), 3);
        buffer.line(11, |out| out.extend_from_slice(b"0123456789\n"));
        buffer.flush(11);
        let queue = thread.queue();
        drop(thread);
        assert_eq!(queue.dropped_lines(), 3);
        assert_eq!(std::fs::read_to_string(folder.path().join("a")).unwrap(), "0123456789\n");
    }

    #[test]
    fn a_log_that_cant_be_written_is_counted() {
        let folder = TempDir::new();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let thread = LogThread::start().unwrap();
        let queue = thread.queue();
        queue.buffer(sink(&folder, "file/below")).line(usize::MAX, |out| out.extend_from_slice(b"lost\n"));
        drop(thread);
        assert_eq!((queue.failed_writes(), queue.dropped_lines()), (1, 1));
    }
}
