//! `ferrogate-bench`: load, origin and the runs that compare the gateway with its peers.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ferrogate_bench::{load, origin};

#[derive(Parser)]
#[command(name = "ferrogate-bench", version, about = "Measures Ferrogate beside its peers")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Sends requests from one thread and prints what came back as one line of JSON.
    Load(load::LoadArgs),
    /// Answers requests from one thread.
    Origin(origin::OriginArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Load(args) => load::run(&args),
        Verb::Origin(args) => origin::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ferrogate-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
