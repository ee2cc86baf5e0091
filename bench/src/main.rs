//! `ferrogate-bench`: load, origin and the runs that compare the gateway with its peers.
//!
//! **Invariant:** wiring only: each verb is a function of the library.

#![forbid(unsafe_code)]

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ferrogate_bench::{compare, load, origin, profile, report, run};

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
    /// Turns results into a page that can be read.
    Report(report::ReportArgs),
    /// Says what became slower or faster between two results files or two binaries. Exits with 1 when something became slower.
    Compare(compare::CompareArgs),
    /// Draws where a proxy's time goes under a scenario.
    Profile(profile::ProfileArgs),
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
        Verb::Report(args) => report::run(&args)?,
        Verb::Compare(args) if compare::run(&args)? => return Ok(ExitCode::FAILURE),
        Verb::Compare(_) => {}
        Verb::Profile(args) => println!("{}: {} samples", args.out.display(), profile::run(&args)?),
        Verb::Load(args) => load::run(&args)?,
        Verb::Origin(args) => origin::run(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}
