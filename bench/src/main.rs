//! `ferrogate-bench`: load, origin and the runs that compare the gateway with its peers.

#![forbid(unsafe_code)]

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ferrogate_bench::{load, origin, run};

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
    /// Sends requests from one thread and prints what came back as one line of JSON.
    Load(load::LoadArgs),
    /// Answers requests from one thread.
    Origin(origin::OriginArgs),
}

fn main() -> ExitCode {
    match perform(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ferrogate-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn perform(verb: Verb) -> Result<ExitCode, Box<dyn Error>> {
    match verb {
        Verb::Run(args) => println!("{}", run::run(&args)?.display()),
        Verb::Load(args) => load::run(&args)?,
        Verb::Origin(args) => origin::run(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}
