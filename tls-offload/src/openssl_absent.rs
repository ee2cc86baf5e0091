//! Stands in for `openssl` in a binary without the feature `openssl`.
//!
//! **Invariant:** nothing here can exist at run time: each type is uninhabited and each way to one is an error.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::rustls::crypto::CryptoProvider;
use ::rustls::sign::CertifiedKey;
use bytes::BufMut;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::accelerator::{AcceleratorCounts, AcceleratorOptions, Kind};
use crate::client::ClientOptions;
use crate::error::{ConfigError, TlsError};
use crate::options::Alpn;
use crate::probe::{Ability, Measure, OpenSslFacts, SignRate};
use crate::server::{Identity, ServerOptions};
use crate::session::{Session, SessionInfo, Step};

/// Whether this binary has OpenSSL.
pub const BUILT: bool = false;

/// What OpenSSL said.
#[derive(Debug)]
pub struct OpenSslError(Infallible);

impl fmt::Display for OpenSslError {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

impl std::error::Error for OpenSslError {}

/// Nothing to do for an accelerator.
#[must_use]
pub fn turn() -> Option<Duration> {
    None
}

/// Never: there is nothing to do.
pub fn poll_news(_cx: &mut Context<'_>) -> Poll<()> {
    Poll::Pending
}

/// There is no descriptor.
#[must_use]
pub fn watched() -> Option<OwnedFd> {
    None
}

/// Nobody waits in the graveyard.
#[must_use]
pub fn buried() -> usize {
    0
}

/// An open accelerator.
#[derive(Debug)]
pub(crate) struct Accelerator(Infallible);

impl Accelerator {
    /// Always [`ConfigError::NotBuilt`].
    pub(crate) fn open(_options: AcceleratorOptions) -> Result<Arc<Self>, ConfigError> {
        Err(ConfigError::NotBuilt)
    }

    pub(crate) fn name(&self) -> &str {
        match self.0 {}
    }

    pub(crate) fn counts(&self) -> AcceleratorCounts {
        match self.0 {}
    }

    pub(crate) fn abilities(&self) -> Vec<Ability> {
        match self.0 {}
    }

    pub(crate) fn fibres(&self) -> Fibres {
        match self.0 {}
    }

    pub(crate) fn may_do_without(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn prove(
        &self,
        _identity: &Identity,
        _can_do_without: bool,
        _session: impl Fn() -> Session,
    ) -> Result<(), ConfigError> {
        match self.0 {}
    }
}

/// There are none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fibres(Infallible);

/// A computation on a stack of its own.
pub(crate) struct Fibre<T>(Infallible, PhantomData<T>);

#[allow(clippy::needless_pass_by_ref_mut, reason = "the signatures of the real one")]
impl<T> Fibre<T> {
    pub(crate) fn new(fibres: Fibres, _compute: impl FnOnce() -> T + 'static) -> io::Result<Self> {
        match fibres.0 {}
    }

    pub(crate) fn poll(&mut self, _cx: &Context<'_>) -> Poll<T> {
        match self.0 {}
    }

    pub(crate) fn pauses(&self) -> u32 {
        match self.0 {}
    }
}

/// A key of an accelerator's for rustls.
pub(crate) fn certified_key(
    _identity: &Identity,
    accelerator: &Arc<Accelerator>,
    _provider: &CryptoProvider,
    _software: bool,
) -> Result<CertifiedKey, ConfigError> {
    match accelerator.0 {}
}

/// There is no library.
pub(crate) fn facts() -> Option<OpenSslFacts> {
    None
}

/// Always [`ConfigError::NotBuilt`].
pub(crate) fn abilities(_kind: Kind, _id: &str) -> Result<Vec<Ability>, ConfigError> {
    Err(ConfigError::NotBuilt)
}

/// Of an accelerator, which can't be.
pub(crate) fn sign_rate(
    _identity: &Identity,
    accelerator: &Arc<Accelerator>,
    _at_once: usize,
    _measure: Measure,
) -> Result<SignRate, ConfigError> {
    match accelerator.0 {}
}

/// A server's TLS.
#[derive(Debug)]
pub(crate) struct Server(Infallible);

impl Server {
    /// Always [`ConfigError::NotBuilt`].
    pub(crate) fn new(_options: ServerOptions) -> Result<Arc<Self>, ConfigError> {
        Err(ConfigError::NotBuilt)
    }

    pub(crate) fn session(&self) -> OpenSslSession {
        match self.0 {}
    }
}

/// A client's TLS.
#[derive(Debug)]
pub(crate) struct Client(Infallible);

impl Client {
    /// Always [`ConfigError::NotBuilt`].
    pub(crate) fn new(_options: ClientOptions) -> Result<Arc<Self>, ConfigError> {
        Err(ConfigError::NotBuilt)
    }

    pub(crate) fn session(
        &self,
        _name: &ServerName<'static>,
        _alpn: Option<&Alpn>,
    ) -> Result<OpenSslSession, OpenSslError> {
        match self.0 {}
    }
}

/// An OpenSSL session. Tied to its thread as the real one is, so that what compiles without the feature compiles with it.
#[derive(Debug)]
pub struct OpenSslSession(Infallible, PhantomData<*mut ()>);

#[allow(clippy::needless_pass_by_ref_mut, reason = "the signatures of the real one")]
impl OpenSslSession {
    pub(crate) fn handshake(
        &mut self,
        _cx: &Context<'_>,
        _wire_in: &mut &[u8],
        _out: &mut impl BufMut,
    ) -> Poll<Result<Step, TlsError>> {
        match self.0 {}
    }

    pub(crate) fn open(&mut self, _wire_in: &mut &[u8], _plain: &mut impl BufMut) -> Result<Step, TlsError> {
        match self.0 {}
    }

    pub(crate) fn seal(&mut self, _plain: &mut &[u8], _out: &mut [u8]) -> Result<usize, TlsError> {
        match self.0 {}
    }

    pub(crate) fn close_notify(&mut self) {
        match self.0 {}
    }

    pub(crate) fn has_output(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn drain(&mut self, _out: &mut impl BufMut) {
        match self.0 {}
    }

    pub(crate) fn peer_awaits_output(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn held_bytes(&self) -> usize {
        match self.0 {}
    }

    pub(crate) fn pauses(&self) -> u32 {
        match self.0 {}
    }

    pub(crate) fn peer_chain(&self) -> Vec<CertificateDer<'static>> {
        match self.0 {}
    }

    pub(crate) fn info(&self) -> SessionInfo<'_> {
        match self.0 {}
    }
}
