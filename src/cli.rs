//! The command line.
//!
//! **Invariant:** only says what was asked for; nothing is opened or started here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ferrogate_core::control::VERSION;

/// A hardware-accelerated L4-L7 gateway: kernel sockets or DPDK below, one core above.
#[derive(Debug, Parser)]
#[command(name = "ferrogate", version = VERSION, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What `ferrogate` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start the gateway and stay in the foreground.
    Start(Start),
    /// Read a configuration file and say everything that is wrong with it.
    Check(Check),
    /// Say what a reload of a configuration file would change.
    Plan(Plan),
    /// Have the running gateway read its file again. Found by the `pid` file of its configuration.
    Reload(Running),
    /// Have the running gateway finish what runs, and end.
    Stop(Running),
    /// What an operator looks at the DPDK plane with.
    #[command(flatten)]
    Ops(dataplane_dpdk::ops::Verb),
    /// What an operator looks at TLS with.
    #[command(subcommand)]
    Tls(Tls),
    /// Run a small origin server, to have something to send requests to.
    Origin(Origin),
}

/// What `ferrogate tls` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Tls {
    /// Say who can compute for TLS here, who would for each certificate of a file and why, and how fast each signs.
    Probe {
        /// The configuration file; without one, the host by itself.
        #[arg(short, long, env = "MOSN_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `start`.
#[derive(Args, Debug)]
pub(crate) struct Start {
    /// The configuration file, JSON or YAML, in MOSN's schema.
    #[arg(short, long, env = "MOSN_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// What to log: error, warn, info, debug, trace or off; in place of `default_log_level`.
    #[arg(short, long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Make missing certificates, start an origin on every loopback host of the file, and print what to try.
    #[arg(long)]
    pub(crate) demo: bool,
}

/// Arguments of `reload` and `stop`.
#[derive(Args, Debug)]
pub(crate) struct Running {
    /// The configuration file that it runs by.
    #[arg(short, long, env = "MOSN_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Arguments of `check`.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The configuration file.
    #[arg(short, long, env = "MOSN_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Take warnings for errors.
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Arguments of `plan`.
#[derive(Args, Debug)]
pub(crate) struct Plan {
    /// The new configuration file.
    #[arg(short, long, env = "MOSN_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// What to compare with: the old file, or the admin API of a running process (IP:PORT or unix:/PATH). Default: the admin API of the new file.
    #[arg(long, value_name = "FILE|ADDRESS")]
    pub(crate) against: Option<String>,
}

/// Arguments of `origin`.
#[derive(Args, Debug)]
pub(crate) struct Origin {
    /// Where to listen: IP:PORT or unix:/PATH.
    #[arg(short, long, default_value = "127.0.0.1:9081", value_name = "ADDRESS")]
    pub(crate) listen: String,
    /// The name in its greeting.
    #[arg(short, long, default_value = "1", value_name = "NAME")]
    pub(crate) name: String,
}
