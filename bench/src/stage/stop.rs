//! Ctrl-C: a flag that every wait looks at, so that all that was made is taken away in order.
//!
//! **Invariant:** the signal itself ends nothing; the error that follows from it does, by dropping what the run holds.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::BenchError;

/// From now on INT, TERM and HUP set the flag. A second one ends the program at once; what is left then goes at the next start.
///
/// # Errors
/// When the system does not let us take the signals.
pub fn listen() -> Result<(), BenchError> {
    let flag = FLAG.get_or_init(|| Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let register = || {
            // The order counts: the first signal finds the flag unset here and sets it after.
            signal_hook::flag::register_conditional_shutdown(signal, EXIT_CODE, Arc::clone(flag))?;
            signal_hook::flag::register(signal, Arc::clone(flag))
        };
        register().map_err(|e| BenchError::io("take signals", e))?;
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

/// As a shell shows a program that INT ended.
const EXIT_CODE: i32 = 130;
