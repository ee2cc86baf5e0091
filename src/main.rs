//! The binary: parse, load, start a plane, wait for a signal.
//!
//! **Invariant:** only wiring; whatever can be decided is decided in the libraries.

#![forbid(unsafe_code)]

mod cli;
mod plane;
mod start;

use std::process::ExitCode;

use clap::Parser;
use dataplane_kernel::{KernelTransport, Wish};
use ferrogate_core::control::process::terminated;
use ferrogate_core::control::{review, tls_probe};
use ferrogate_core::net::Address;
use ferrogate_core::origin::Origin;
use tokio::runtime::{Builder, LocalOptions};

use cli::{Cli, Tls, Verb};

fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Start(args) => start::start(&args),
        Verb::Check(args) => exit(review::check(&args.config, args.strict)),
        Verb::Plan(args) => plan(&args),
        Verb::Reload(args) => told(&dataplane_kernel::tell(&args.config, Wish::Reload)),
        Verb::Stop(args) => told(&dataplane_kernel::tell(&args.config, Wish::Drain)),
        Verb::Ops(verb) => verb.run(KernelTransport::new).map_or_else(|e| fail(&e), exit),
        Verb::Tls(Tls::Probe { config, json }) => exit(tls_probe::run(config.as_deref(), json)),
        Verb::Origin(args) => origin(&args),
    }
}

/// The exit code of a verb that only looks at files.
fn exit(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn plan(args: &cli::Plan) -> ExitCode {
    on_runtime(async { told(&review::plan(&KernelTransport::new(), &args.config, args.against.as_deref()).await) })
}

fn origin(args: &cli::Origin) -> ExitCode {
    let address: Address = match args.listen.parse() {
        Ok(address) => address,
        Err(e) => return fail(&format!("--listen {:?}: {e}", args.listen)),
    };
    let run = Origin::new(&args.name)
        .run(KernelTransport::new(), &address, |address| println!("origin {} listens on {address}", args.name));
    on_runtime(async {
        tokio::select! {
            ended = run => match ended {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => fail(&format!("the origin can't listen on {address}: {e}")),
            },
            () = terminated() => ExitCode::SUCCESS,
        }
    })
}

/// Runs to its end on this thread.
fn on_runtime(run: impl Future<Output = ExitCode>) -> ExitCode {
    match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime.block_on(run),
        Err(e) => fail(&format!("the runtime can't start: {e}")),
    }
}

/// The exit code of a verb that speaks to a running gateway.
fn told(told: &Result<(), String>) -> ExitCode {
    told.as_ref().map_or_else(|e| fail(e), |()| ExitCode::SUCCESS)
}

/// Says why there is no going on.
fn fail(reason: &str) -> ExitCode {
    eprintln!("ferrogate: {reason}");
    ExitCode::FAILURE
}
