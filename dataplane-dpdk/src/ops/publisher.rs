//! Keeps the statistics segment up to date, ten times a second, on a thread of its own.
//!
//! **Invariant:** reads what lcores count and never makes one wait; a file that can't be written is told, and stops nothing.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::segment::Segment;
use crate::run::Status;

/// The thread. Dropped, it writes a last time and ends.
#[derive(Debug)]
pub(crate) struct Publisher {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Writes the numbers of `status` to the segment at `path` from now on. None, and a line in the log, where that can't be.
    pub(crate) fn start(path: &Path, status: &Arc<Status>) -> Option<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let (status, segment) = (Arc::clone(status), Segment::create(path, &status.report().numbers));
        let thread = segment.and_then(|segment| {
            thread::Builder::new().name("statistics".to_owned()).spawn(move || {
                while stopped.recv_timeout(INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                    segment.write(&status.report().numbers);
                }
                segment.write(&status.report().numbers);
            })
        });
        match thread {
            Ok(thread) => Some(Self { stop: Some(stop), thread: Some(thread) }),
            Err(error) => {
                tracing::error!(path = %path.display(), %error,
                    "no statistics are kept: dataplane.dpdk.statistics_file can't be written, or another process writes it");
                None
            }
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread of the statistics panicked");
        }
    }
}

/// Between two writes.
const INTERVAL: Duration = Duration::from_millis(100);
