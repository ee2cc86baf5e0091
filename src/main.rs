//! The binary: parse, load, start a plane, wait for a signal.
//!
//! **Invariant:** only wiring; whatever can be decided is decided in the libraries.

#![forbid(unsafe_code)]

mod cli;
mod plane;
mod start;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use dataplane_kernel::{KernelTransport, Wish};
use ferrogate_core::control::pid_file;
use ferrogate_core::control::process::terminated;
use ferrogate_core::control::review;
use ferrogate_core::net::Address;
use ferrogate_core::origin::Origin;
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::Instant;

use cli::{Cli, Verb};

fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Start(args) => start::start(&args),
        Verb::Check(args) => exit(review::check(&args.config, args.strict)),
        Verb::Plan(args) => plan(&args),
        Verb::Reload(args) => tell(&args.config, Wish::Reload),
        Verb::Stop(args) => tell(&args.config, Wish::Drain),
        Verb::Origin(args) => origin(&args),
    }
}

/// The exit code of a verb that only looks at files.
fn exit(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn plan(args: &cli::Plan) -> ExitCode {
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(e) => return fail(&format!("the runtime can't start: {e}")),
    };
    let plan = runtime.block_on(review::plan(&KernelTransport::new(), &args.config, args.against.as_deref()));
    plan.map_or_else(|e| fail(&e), |()| ExitCode::SUCCESS)
}

/// Sends the gateway that runs by this file a signal; waits for its end where that is what it was told.
fn tell(path: &Path, wish: Wish) -> ExitCode {
    let running = match pid_file::of_config(path) {
        Ok(id) => id,
        Err(e) => return fail(&e),
    };
    if let Err(e) = dataplane_kernel::send(running.id, wish) {
        return fail(&format!("process {} can't be told: {e}", running.id));
    }
    let deadline = Instant::now() + running.graceful_timeout + STOP_SLACK;
    while wish == Wish::Drain && dataplane_kernel::is_running(running.id) {
        if Instant::now() > deadline {
            return fail(&format!("process {} has not ended yet", running.id));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    ExitCode::SUCCESS
}

fn origin(args: &cli::Origin) -> ExitCode {
    let address: Address = match args.listen.parse() {
        Ok(address) => address,
        Err(e) => return fail(&format!("--listen {:?}: {e}", args.listen)),
    };
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(e) => return fail(&format!("the runtime can't start: {e}")),
    };
    let run = Origin::new(&args.name)
        .run(KernelTransport::new(), &address, |address| println!("origin {} listens on {address}", args.name));
    runtime.block_on(async {
        tokio::select! {
            ended = run => match ended {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => fail(&format!("the origin can't listen on {address}: {e}")),
            },
            () = terminated() => ExitCode::SUCCESS,
        }
    })
}

/// Says why there is no going on.
fn fail(reason: &str) -> ExitCode {
    eprintln!("ferrogate: {reason}");
    ExitCode::FAILURE
}

/// How much longer than its `graceful_timeout` a process is given to end.
const STOP_SLACK: Duration = Duration::from_secs(10);
