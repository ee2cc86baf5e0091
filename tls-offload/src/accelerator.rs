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
#[derive(Clone)]
pub struct AcceleratorOptions {
    /// Its name, in messages.
    pub name: Box<str>,
    /// What it is to OpenSSL.
    pub kind: Kind,
    /// The provider's or engine's name (HAProxy: `ssl-provider`, `ssl-engine`).
    pub id: Box<str>,
    /// Its module where it is not in OpenSSL's own directory (HAProxy: `ssl-provider-path`).
    pub module: Option<PathBuf>,
    /// What it is told when it is loaded, as in its section of `openssl.cnf`; an engine, before it is initialised.
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
    /// How long a handshake waits for an operation, or for its turn; then the accelerator has failed it.
    pub timeout: Duration,
    /// What becomes of a handshake that the accelerator has failed.
    pub fallback: Fallback,
    /// Failures in a row after which it is left alone.
    pub failures_max: u32,
    /// For how long it is left alone; then one handshake tries it. Twice as long after each trial that fails, up to 32 times.
    pub retry_interval: Duration,
    /// The time since any moment. Never goes back.
    pub clock: fn() -> Duration,
    /// Is told, by the accelerator's name, what an operator wants to know. Called on workers: must not block.
    pub tell: fn(&str, AcceleratorEvent),
}

impl AcceleratorOptions {
    /// With the defaults: the provider's own way to tell, 1024 operations per worker, half a second for each, software where it fails.
    #[must_use]
    pub fn new(name: &str, id: &str, clock: fn() -> Duration) -> Self {
        Self {
            name: name.into(),
            kind: Kind::Provider,
            id: id.into(),
            module: None,
            parameters: Vec::new(),
            properties: "".into(),
            asynchronous: true,
            notify: Notify::Callback,
            poll_interval: Duration::from_micros(50),
            in_flight_max: 1024,
            timeout: Duration::from_millis(500),
            fallback: Fallback::Software,
            failures_max: 8,
            retry_interval: Duration::from_secs(1),
            clock,
            tell: |_, _| (),
        }
    }
}

/// What an accelerator is to OpenSSL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A provider, of OpenSSL 3 and newer.
    #[default]
    Provider,
    /// An engine, the way before providers: OpenSSL 4 has none. It is used for keys that it holds.
    Engine,
}

/// How an accelerator says that it has finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notify {
    /// It calls back, from a thread of its own.
    #[default]
    Callback,
    /// It calls back when it is polled: by the provider's parameter `poll`.
    Poll,
    /// It makes a descriptor readable.
    Fd,
}

/// Shows no parameter: one may be a PIN.
impl fmt::Debug for AcceleratorOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceleratorOptions").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}

/// What becomes of a handshake that an accelerator has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// Software computes, where the key can be had; the client notices nothing but the time.
    #[default]
    Software,
    /// It fails.
    Fail,
}

/// How an accelerator fails a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An operation was not done within the timeout.
    Timeout,
    /// It said that it can't.
    Fault,
    /// It took no more for as long as the timeout, or had as many as it may have.
    Full,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "an operation took longer than its timeout",
            Self::Fault => "an operation failed",
            Self::Full => "it took no further operation within its timeout",
        })
    }
}

/// What happens to an accelerator that an operator wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceleratorEvent {
    /// It failed a handshake: the first for some time.
    Failed(Failure),
    /// It failed the proof that a configuration begins with, and software takes its place.
    Unproven,
    /// It is left alone for so long.
    Left(Duration),
    /// A handshake tries it again.
    Tried,
    /// It computes again.
    Back,
}

/// An open accelerator. Cheap to clone; the clones are the same one.
#[derive(Clone)]
pub struct Accelerator(pub(crate) Arc<openssl::Accelerator>);

impl Accelerator {
    /// Loads the provider or the engine.
    ///
    /// # Errors
    /// This binary has no OpenSSL, or it can't be loaded.
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
    /// Operations that were not done within the timeout.
    pub timeouts: u64,
    /// Operations that failed.
    pub faults: u64,
    /// Handshakes that it had no place for within the timeout.
    pub full: u64,
    /// Handshakes that software computed in its place.
    pub software: u64,
    /// Times that it was left alone.
    pub left: u64,
    /// Handshakes that tried it again after that.
    pub tried: u64,
    /// Whether it is left alone now.
    pub is_left: bool,
}
