//! The proof of an accelerator: a handshake in memory with a key that it has, which must pause.
//!
//! An accelerator that is there, takes keys and computes nothing is the usual failure: OpenSSL signs in software then, and says nothing.
//!
//! **Invariant:** runs where configurations are made, never on a worker: it blocks, for a bounded time.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::accelerator::Accelerator;
use super::client::Client;
use super::error::OpenSslError;
use super::turn::turn;
use crate::client::{ClientOptions, Roots};
use crate::error::{Cause, ConfigError, TlsError};
use crate::server::Identity;
use crate::session::{Session, Step};

impl Accelerator {
    /// Proves that a handshake of the server's `session`, which has this identity only and can't do without the accelerator, pauses for it.
    /// `can_do_without`: a failure is told, and no error, for a card that is lost must not stand in the way of a start, nor of a new certificate.
    ///
    /// # Errors
    /// It does not, or fails.
    pub(crate) fn prove(
        &self,
        identity: &Identity,
        can_do_without: bool,
        session: impl Fn() -> Session,
    ) -> Result<(), ConfigError> {
        match prove(self, identity, session) {
            Err(ConfigError::ProofFailed { .. }) if can_do_without => {
                self.unproven();
                Ok(())
            }
            proof => proof,
        }
    }
}

fn prove(accelerator: &Accelerator, identity: &Identity, session: impl Fn() -> Session) -> Result<(), ConfigError> {
    let (name, key) = (|| accelerator.name().into(), || identity.key.place());
    let client = Client::new(ClientOptions { roots: Roots::Insecure, ..ClientOptions::default() })?;
    let local = |error| ConfigError::Backend(Cause::openssl(error));
    let asked = rustls_pki_types::ServerName::try_from("proof.invalid").expect("is a name");
    for _ in 0..TRIES_MAX {
        let mut client = Session::OpenSsl(client.session(&asked, None).map_err(local)?);
        let mut server = session();
        shake(&mut client, &mut server).map_err(|error| ConfigError::ProofFailed {
            name: name(),
            key: key(),
            cause: Box::new(error),
        })?;
        if !accelerator.is_asynchronous() || server.pauses() > 0 {
            return Ok(());
        }
    }
    Err(ConfigError::NotOffloaded { name: name(), key: key() })
}

fn shake(client: &mut Session, server: &mut Session) -> Result<(), TlsError> {
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS_MAX {
        let client_done = step(client, &mut to_client, &mut to_server)?;
        let server_done = step(server, &mut to_server, &mut to_client)?;
        if client_done == Some(true) && server_done == Some(true) {
            return Ok(());
        }
        if server_done.is_none() {
            turn();
            std::thread::sleep(ROUND);
        }
    }
    Err(TlsError::Local(Cause::openssl(OpenSslError::with_text("the accelerator does not answer"))))
}

/// Whether the handshake is complete; None: it waits for the accelerator.
fn step(session: &mut Session, from: &mut Vec<u8>, to: &mut Vec<u8>) -> Result<Option<bool>, TlsError> {
    let mut rest = &from[..];
    let result = session.handshake(&mut Context::from_waker(Waker::noop()), &mut rest, to);
    let used = from.len() - rest.len();
    from.drain(..used);
    match result {
        Poll::Pending => Ok(None),
        Poll::Ready(step) => Ok(Some(step? == Step::Done)),
    }
}

/// Handshakes that are tried until one pauses: on a busy machine this thread may lose its core until the accelerator is done.
const TRIES_MAX: usize = 8;

/// Between two looks at an accelerator that computes, and how many: five seconds in all.
const ROUND: Duration = Duration::from_micros(500);
const ROUNDS_MAX: usize = 10_000;
