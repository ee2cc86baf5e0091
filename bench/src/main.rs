//! `ferrogate-bench`: load, origin and the runs that compare the gateway with its peers.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ferrogate_bench::run;

#[derive(Parser)]
#[command(name = "ferrogate-bench", version, about = "Measures Ferrogate beside its peers")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs scenarios on all backends and writes what it finds as JSON lines.
    Run(run::RunArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run(args) => run::run(&args).map(|out| println!("{}", out.display())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ferrogate-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
