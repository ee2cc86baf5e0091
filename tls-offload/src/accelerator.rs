//! Accelerators as they are configured: cards, tokens and modules that hold keys or compute with them, behind an OpenSSL provider.
//!
//! **Invariant:** what an accelerator is told to do holds for the keys that are bound to it and for nothing else in the process.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::ConfigError;
use crate::openssl;

/// What an accelerator is opened from.
#[derive(Clone, Debug)]
pub struct AcceleratorOptions {
    /// Its name, in messages.
    pub name: Box<str>,
    /// The provider's name (HAProxy: `ssl-provider`).
    pub provider: Box<str>,
    /// The provider's module where it is not in OpenSSL's own directory (HAProxy: `ssl-provider-path`).
    pub module: Option<PathBuf>,
    /// What the provider is told when it is loaded, as in its section of `openssl.cnf`.
    pub parameters: Vec<(Box<str>, Box<str>)>,
    /// A property query for everything that the sessions of its keys compute (HAProxy: `ssl-propquery`); empty: only what its keys do is its own.
    pub properties: Box<str>,
    /// Whether handshakes pause for it (HAProxy: `ssl-mode-async`). Without, a worker stands still for each operation.
    pub asynchronous: bool,
    /// How a finished operation is told.
    pub notify: Notify,
    /// How long a worker waits between two polls, with [`Notify::Poll`].
    pub poll_interval: Duration,
    /// Operations of one worker in the accelerator, at most; further handshakes wait for one to end.
    pub in_flight_max: u32,
}

impl AcceleratorOptions {
    /// With the defaults: the provider's own way to tell, 1024 operations per worker.
    #[must_use]
    pub fn new(name: &str, provider: &str) -> Self {
        Self {
            name: name.into(),
            provider: provider.into(),
            module: None,
            parameters: Vec::new(),
            properties: "".into(),
            asynchronous: true,
            notify: Notify::Callback,
            poll_interval: Duration::from_micros(50),
            in_flight_max: 1024,
        }
    }
}

/// How an accelerator says that it has finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notify {
    /// It calls back, from a thread of its own.
    #[default]
    Callback,
    /// It calls back when it is polled: by the provider's parameter `poll`.
    Poll,
}

/// An open accelerator. Cheap to clone; the clones are the same one.
#[derive(Clone)]
pub struct Accelerator(pub(crate) Arc<openssl::Accelerator>);

impl Accelerator {
    /// Loads the provider.
    ///
    /// # Errors
    /// This binary has no OpenSSL, or the provider can't be loaded.
    pub fn open(options: AcceleratorOptions) -> Result<Self, ConfigError> {
        openssl::Accelerator::open(options).map(Self)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// What it has done since it was opened.
    #[must_use]
    pub fn counts(&self) -> AcceleratorCounts {
        self.0.counts()
    }
}

impl fmt::Debug for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Accelerator").field(&self.0.name()).finish()
    }
}

/// What an accelerator has done, on all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceleratorCounts {
    /// Handshakes with a key of its own that came to their end.
    pub handshakes: u64,
    /// Those of them that paused for it. With handshakes and none paused it computes nothing asynchronously: someone does it in software.
    pub offloaded: u64,
    /// Operations that are in it now.
    pub in_flight: u64,
    /// Times that a handshake waited because `in_flight_max` was reached, or the accelerator took no more.
    pub waits: u64,
    /// Handshakes that were given up while their operation was in it.
    pub cancelled: u64,
}
