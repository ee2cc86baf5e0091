//! Load that notices every request that fails, however the gateway changes under it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::client::Client;

/// Clients on threads of their own, until it is stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

/// How a client of a [`Load`] connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// One connection for all requests.
    KeepAlive,
    /// A connection for each request.
    New,
}

impl Load {
    /// Starts clients that ask for `path` again and again.
    #[must_use]
    pub fn start(address: SocketAddr, path: &str, clients: &[Habit]) -> Self {
        let load =
            Self { stop: Arc::default(), answered: Arc::default(), failures: Arc::default(), threads: Vec::new() };
        let spawn = |habit: &Habit| {
            let (habit, path) = (*habit, path.to_owned());
            let (stop, answered, failures) =
                (Arc::clone(&load.stop), Arc::clone(&load.answered), Arc::clone(&load.failures));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = ask_on_and_on(address, &path, habit, &stop, &answered) {
                        failures.lock().expect("no client panics").push(error);
                    }
                }
            })
        };
        let threads = clients.iter().map(spawn).collect();
        Self { threads, ..load }
    }

    /// Requests that were answered with 200.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends it; how many requests were answered, and what went wrong with the others.
    ///
    /// # Panics
    /// When a client panicked.
    pub fn finish(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no client panics");
        }
        let failures = std::mem::take(&mut *self.failures.lock().expect("no client panics"));
        (self.answered.load(Ordering::Relaxed), failures)
    }
}

/// Asks on one connection for as long as it lives and the habit says.
fn ask_on_and_on(
    address: SocketAddr,
    path: &str,
    habit: Habit,
    stop: &AtomicBool,
    answered: &AtomicU64,
) -> Result<(), String> {
    let mut client = Client::try_connect(address).map_err(|e| format!("connecting: {e}"))?;
    let mut first = true;
    while !stop.load(Ordering::Relaxed) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: load.example\r\n\r\n");
        client.send(request.as_bytes()).map_err(|e| format!("sending: {e}"))?;
        let answer =
            client.try_answer_to("GET").map_err(|e| format!("reading (first on its connection: {first}): {e}"))?;
        if answer.status != 200 {
            return Err(format!("{} {}", answer.status, answer.text()));
        }
        answered.fetch_add(1, Ordering::Relaxed);
        let closes = answer.head.get("connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
        if habit == Habit::New || closes {
            return Ok(());
        }
        first = false;
    }
    Ok(())
}
