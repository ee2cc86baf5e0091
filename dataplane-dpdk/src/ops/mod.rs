//! An operator's tools around the DPDK plane: the verbs that look at a host, or at a gateway that runs.
//!
//! **Invariant:** look only; nothing here opens a port or changes the host.

mod capture;
pub(crate) mod desk;
pub mod doctor;
mod flows;
mod lcores;
pub(crate) mod publisher;
mod segment;
mod wish;

use std::io;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use ferrogate_core::config::{Address, Config};
use ferrogate_core::control::review::Review;
use ferrogate_core::net::Transport;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Look whether this host is ready for the DPDK plane, and say how to make it so.
    Doctor(doctor::Args),
    /// Show what each core of a running DPDK plane does with its time, and what it drops.
    Lcores(lcores::Args),
    /// List the TCP flows of a running DPDK plane.
    Flows(flows::Args),
    /// Write the frames at the ports of a running DPDK plane to a file, or read what its flight recorder has left.
    Capture(capture::Args),
}

impl Verb {
    /// Does it, by `transport` where a gateway is asked. Says whether all is well.
    ///
    /// # Errors
    /// Why it can't be done, in words.
    pub fn run<T: Transport>(&self, transport: impl FnOnce() -> T) -> Result<bool, String> {
        match self {
            Self::Doctor(args) => args.run(),
            Self::Lcores(args) => args.run(transport),
            Self::Flows(args) => args.run(transport),
            Self::Capture(args) => args.run(transport),
        }
    }
}

/// Where a verb finds the gateway.
#[derive(Debug, clap::Args)]
struct Gateway {
    /// The configuration file that it runs by.
    #[arg(short, long, env = "MOSN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its admin API (IP:PORT or unix:/PATH), in place of the file.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<Address>,
}

impl Gateway {
    /// Its admin API.
    fn admin(&self) -> Result<Address, String> {
        match (&self.admin, &self.config) {
            (Some(admin), _) => Ok(admin.clone()),
            (None, Some(path)) => {
                let admin = read(path)?.admin;
                admin.ok_or_else(|| {
                    format!("{} names no admin API: add `admin`, or say --admin ADDRESS", path.display())
                })
            }
            (None, None) => Err("which gateway? Say --config FILE or --admin ADDRESS".to_owned()),
        }
    }
}

/// A configuration file. What is wrong with it is printed.
fn read(path: &Path) -> Result<Config, String> {
    let review = Review::of(path);
    review.print(false);
    review.good.map(|(config, _)| config).ok_or_else(|| format!("{} is not good", path.display()))
}

/// What a verb runs on.
fn runtime() -> Result<LocalRuntime, String> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    runtime.map_err(|e| format!("the runtime can't start: {e}"))
}

/// A path with a query of these pairs, with whatever is no plain letter or digit behind a percent sign.
fn query<'a>(path: &str, pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let escaped = |text: &str| {
        let byte = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
        text.bytes().map(byte).collect::<String>()
    };
    let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| format!("{key}={}", escaped(&value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// A reader that has gone wants no more; that is no error.
fn unless_closed(written: io::Result<()>) -> Result<(), String> {
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(format!("it can't be written: {e}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_keep_what_they_are_given() {
        assert_eq!(query("/a", []), "/a");
        let pairs = [("filter", "tcp port 80 & (x)".to_owned()), ("limit", "5".to_owned())];
        assert_eq!(query("/a", pairs), "/a?filter=tcp%20port%2080%20%26%20%28x%29&limit=5");
    }
}
