//! Ctrl-C: a flag that every wait looks at, so that all that was made is taken away in order.
//!
//! **Invariant:** the signal itself ends nothing; the error that follows from it does, by dropping what the run holds.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::BenchError;

/// From now on INT, TERM and HUP set the flag, and a second one does no more than the first: whoever is impatient would else cut the clearing up
/// short. It takes a second or two; QUIT ends the program at once, and what is left then goes at the next start.
///
/// # Errors
/// When the system does not let us take the signals.
pub fn listen() -> Result<(), BenchError> {
    let flag = FLAG.get_or_init(|| Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag)).map_err(|e| BenchError::io("take signals", e))?;
    }
    Ok(())
}

/// # Errors
/// [`BenchError::Interrupted`] after a signal.
pub fn check() -> Result<(), BenchError> {
    match FLAG.get() {
        Some(flag) if flag.load(Ordering::Relaxed) => Err(BenchError::Interrupted),
        _ => Ok(()),
    }
}

static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
