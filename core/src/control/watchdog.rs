//! Watches the workers from outside: one that stays in the same turn for too long is told of, with what it is that it runs.
//!
//! **Invariant:** never touches a worker; a stall is told once, and again when it has gone on for ten times as long.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::snapshot::Snapshot;
use crate::telemetry::metrics::WorkerCounters;
use crate::telemetry::pulse::{Beat, Work};

/// Watches until it is dropped.
pub async fn watch_over(workers: Arc<[Arc<WorkerCounters>]>, snapshot: watch::Receiver<Arc<Snapshot>>) {
    let mut watched: Vec<Watched> = workers.iter().map(|_| Watched::default()).collect();
    loop {
        let stall = snapshot.borrow().limits.stall_timeout;
        // A turn just above the bound must be met by two looks.
        let wake = Instant::now() + stall / 4;
        sleep_until(wake).await;
        let now = Instant::now();
        // Where the watchdog is late too, it is the host that has no time for us.
        let late = now - wake;
        for (index, (worker, watched)) in workers.iter().zip(&mut watched).enumerate() {
            let beat = worker.pulse.beat();
            if let Some(lasted) = watched.look(beat, now, stall) {
                let milliseconds = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
                worker.pulse.tell(milliseconds.max(1));
                tell(index, beat, milliseconds, late);
            }
        }
    }
}

/// What was seen of one worker.
#[derive(Default)]
struct Watched {
    /// The beat that lasts, and since when.
    lasts: Option<(Beat, Instant)>,
    /// When it is to be told of, counted from its start.
    told_at: Duration,
}

impl Watched {
    /// How long the beat has lasted, if that is to be told now.
    fn look(&mut self, beat: Beat, now: Instant, stall: Duration) -> Option<Duration> {
        match self.lasts {
            Some((last, since)) if last == beat && beat.work().is_some() => {
                let lasted = now - since;
                if lasted < self.told_at {
                    return None;
                }
                self.told_at = lasted.saturating_mul(10);
                Some(lasted)
            }
            _ => {
                self.lasts = Some((beat, now));
                self.told_at = stall;
                None
            }
        }
    }
}

fn tell(worker: usize, beat: Beat, milliseconds: u64, late: Duration) {
    let work = match beat.work() {
        Some(Work::Connection) => "a connection",
        Some(Work::Handshake) => "a TLS handshake",
        Some(Work::Sweep) => "the search for idle connections",
        Some(Work::Generation) => "a new generation of the configuration",
        Some(Work::Accelerators) => "an accelerator",
        Some(Work::Datagrams) => "a burst of datagrams",
        None => return,
    };
    tracing::error!(
        worker,
        work,
        connection = beat.subject,
        milliseconds,
        watchdog_late = ?late,
        "a worker does not come to the end of its turn: its other connections wait (limits.stall_timeout)"
    );
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::mpsc;

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::config::Config;
    use crate::control::Certificates;
    use crate::telemetry::pulse::Pulse;

    /// A worker that does not come back is seen from outside, while it is still at it, and learns of it when it is done.
    #[tokio::test]
    async fn a_stalled_thread_is_seen() {
        let file = "servers: [{listeners: []}]\nlimits: {stall_timeout: 40ms}";
        let (config, _) = Config::parse(file, "t").unwrap();
        let snapshot = Snapshot::build(&config, None, &mut Certificates::default()).unwrap();
        let (_snapshot, orders) = watch::channel(Arc::new(snapshot));
        let counters = Arc::new(WorkerCounters::default());
        let (release, released) = mpsc::channel::<()>();
        let worker = Arc::clone(&counters);
        let thread = std::thread::spawn(move || {
            let running = worker.pulse.enter(&Cell::new(0), Work::Connection, 5);
            released.recv().unwrap();
            running.stalled()
        });
        let seen = async {
            while counters.pulse.stalls() == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = watch_over(Arc::from([Arc::clone(&counters)]), orders) => {}
            seen = timeout(Duration::from_secs(30), seen) => seen.expect("it is told of"),
        }
        release.send(()).unwrap();
        assert!(thread.join().unwrap().is_some_and(|milliseconds| milliseconds >= 40));
        assert_eq!(counters.pulse.stalls(), 1);
    }

    #[test]
    fn a_stall_is_told_once_and_again_when_it_is_ten_times_as_long() {
        let (pulse, count) = (Pulse::default(), Cell::new(0));
        let (mut watched, start) = (Watched::default(), Instant::now());
        let stall = Duration::from_millis(100);
        let mut look = |at: u64| watched.look(pulse.beat(), start + Duration::from_millis(at), stall);
        assert_eq!((look(0), look(1000)), (None, None), "an idle worker is no stalled one");
        let running = pulse.enter(&count, Work::Connection, 1);
        assert_eq!((look(1000), look(1099)), (None, None));
        assert_eq!(look(1125), Some(Duration::from_millis(125)));
        assert_eq!((look(1200), look(2249)), (None, None));
        assert_eq!(look(2250), Some(Duration::from_millis(1250)));
        drop(running);
        assert_eq!(look(9000), None);
        let _next = pulse.enter(&count, Work::Connection, 1);
        assert_eq!((look(9100), look(9199)), (None, None), "another turn of the same connection");
    }
}
