//! The binary: parse, load, start a plane, wait for a signal.
//!
//! **Invariant:** only wiring; whatever can be decided is decided in the libraries.

#![forbid(unsafe_code)]

mod cli;
mod plane;
mod start;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use dataplane_kernel::KernelTransport;
use ferrogate_core::config::schema::Config;
use ferrogate_core::control::Certificates;
use ferrogate_core::control::process::terminated;
use ferrogate_core::net::Address;
use ferrogate_core::origin::Origin;
use ferrogate_core::snapshot::Snapshot;
use tokio::runtime::{Builder, LocalOptions};

use cli::{Cli, Verb};

fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Start(args) => start::start(&args),
        Verb::Check(args) => check(&args.config, args.strict),
        Verb::Origin(args) => origin(&args),
    }
}

/// Reads a file and says everything that is wrong with it; what it holds, if that can be used.
fn load(path: &Path, strict: bool) -> Option<Config> {
    let (config, diagnostics) = match Config::load(path) {
        Ok((config, warnings)) => (Some(config), warnings),
        Err(errors) => (None, errors),
    };
    for diagnostic in &diagnostics {
        eprintln!("{diagnostic}");
    }
    config.filter(|_| !strict || diagnostics.is_empty())
}

/// Makes the first generation of a configuration; says what is wrong with its certificates.
fn build(config: &Config) -> Option<Snapshot> {
    match Snapshot::build(config, None, &mut Certificates::default()) {
        Ok(snapshot) => Some(snapshot),
        Err(errors) => {
            for error in errors {
                eprintln!("{error}");
            }
            None
        }
    }
}

fn check(path: &Path, strict: bool) -> ExitCode {
    match load(path, strict).and_then(|config| build(&config)) {
        Some(_) => {
            println!("{}: good", path.display());
            ExitCode::SUCCESS
        }
        None => ExitCode::FAILURE,
    }
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
