//! The load generator: one thread that sends requests and verifies what comes back.
//!
//! **Invariant:** no allocation per request; what is sent is made before, what comes back is counted.

mod args;
mod calls;
mod error;
mod kernel;
mod multiplexed;
mod pace;
mod polled;
mod record;
mod requests;
mod response;
mod result;
mod session;
mod slot;
mod spare;
mod tls;
mod window;

use std::io::Write;

pub use args::{LoadArgs, MemifArgs, Mode, Resume, Shape, TlsVersion};
pub use error::LoadError;
pub use result::{Errors, LatencyUs, LoadResult};
pub(crate) use tls::certificates;

/// Runs the load; prints `measuring`, `measured` and the result on stdout.
///
/// # Errors
/// When the load can't begin. What goes wrong afterwards is counted in the result.
pub fn run(args: &LoadArgs) -> Result<(), LoadError> {
    if args.mode == Mode::Http2
        && let Some(flag) = args.unfit_for_http2()
    {
        return Err(LoadError::NotWithHttp2(flag));
    }
    match &args.memif.memif {
        Some(socket) => return polled::run(args, socket),
        None if args.is_multiplexed() => say_result(&polled::run_over_kernel(args)?),
        None => say_result(&kernel::run(args)?),
    }
    Ok(())
}

/// The result's line.
fn say_result(result: &LoadResult) {
    say(&serde_json::to_string(result).expect("plain numbers serialise"));
}

/// A line on stdout, at once: whoever reads it acts on it.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that has gone away wants no more lines.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
