//! An SSL and everything that must be there while libssl can call back, and the calls into it over lent bytes.
//!
//! **Invariant:** what is lent to a call is taken back when it ends; an SSL whose job has paused is buried, never freed.

use std::ffi::{CStr, c_int, c_long};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::bio::Wire;
use super::client::{Client, Tickets};
use super::error::{OpenSslError, clear, constant};
use super::ffi;
use super::job::{FDS_MAX, Job, Pausing};
use super::own::{Certificate, Config};
use super::server::Server;
use super::turn::{self, Grave};
use crate::error::{Cause, TlsError};

/// Everything that must be there while libssl can call back: the SSL, its wire, its job, and what it was made from.
pub(super) struct Ssl {
    ssl: NonNull<ffi::SSL>,
    wire: NonNull<Wire>,
    place: Option<NonNull<TicketPlace>>,
    /// With an accelerated key.
    pub(super) job: Option<Job>,
    /// Last: dropped after the SSL was freed.
    of: Option<Of>,
}

/// What a session was made from; callbacks look into it.
#[allow(dead_code, reason = "held, not read")]
pub(super) enum Of {
    Server(Arc<Server>),
    Client(Arc<Client>),
}

impl Ssl {
    pub(super) fn new(config: &Config, of: Of) -> Self {
        clear();
        // SAFETY: the configuration is complete; an SSL holds a reference to it.
        let ssl = NonNull::new(unsafe { ffi::SSL_new(config.as_ptr()) }).expect("fails only for want of memory");
        let (bio, wire) = Wire::new_bio();
        // SAFETY: the SSL takes the one reference to the BIO, for both directions.
        unsafe { ffi::SSL_set_bio(ssl.as_ptr(), bio.as_ptr(), bio.as_ptr()) };
        Self { ssl, wire, place: None, job: None, of: Some(of) }
    }

    /// One that waits for a client.
    pub(super) fn accepting(server: &Arc<Server>) -> Self {
        let ssl = Self::new(server.config(), Of::Server(Arc::clone(server)));
        // SAFETY: the SSL is new.
        unsafe { ffi::SSL_set_accept_state(ssl.as_ptr()) };
        ssl
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::SSL {
        self.ssl.as_ptr()
    }

    pub(super) fn keep_tickets(&mut self, place: TicketPlace) {
        let place = NonNull::from(Box::leak(Box::new(place)));
        self.place = Some(place);
        // SAFETY: the SSL is alive; `drop` gives the place back after it.
        unsafe { ffi::SSL_set_ex_data(self.as_ptr(), APP_DATA, place.as_ptr().cast()) };
    }

    /// Whether an operation of it is in an accelerator, or was refused by one.
    pub(super) fn is_paused(&self) -> bool {
        self.job.as_ref().is_some_and(Job::is_paused)
    }

    /// One call of the handshake, which may begin or go on with a job.
    pub(super) fn shake(&mut self, record: &[u8]) -> Outcome {
        // SAFETY: the SSL is alive; what it reads and writes was lent.
        let outcome = self.lend(record, &mut []).run(|ssl| unsafe { ffi::SSL_do_handshake(ssl) });
        let ssl = self.as_ptr();
        match (&mut self.job, &outcome) {
            (Some(job), Outcome::Paused) => job.paused(&PausedSsl(ssl)),
            (Some(job), _) => job.resumed(matches!(outcome, Outcome::Failed(TlsError::Local(_)))),
            (None, _) => {}
        }
        outcome
    }

    /// After the handshake: records are the processor's, and nothing is kept for the accelerator. Says how often it paused.
    pub(super) fn end_job(&mut self) -> u32 {
        let ssl = self.as_ptr();
        let Some(mut job) = self.job.take() else { return 0 };
        // SAFETY: the SSL is alive, and the job is its own.
        let is_resumed = unsafe {
            job.detach_from(ssl);
            ffi::SSL_session_reused(ssl) == 1
        };
        job.finish(is_resumed)
    }

    /// Goes on with the operation of a handshake that nobody waits for; None when it has ended, and all is freed.
    pub(super) fn drive_to_end(mut self) -> Option<Self> {
        let job = self.job.as_mut().filter(|job| job.is_paused())?;
        if !job.is_told() || matches!(self.shake(&[]), Outcome::Paused) {
            return Some(self);
        }
        None
    }

    pub(super) fn wire(&self) -> &Wire {
        // SAFETY: lives as long as the SSL's BIO; libssl uses it within `Call::run` only, which borrows `self` mutably.
        unsafe { self.wire.as_ref() }
    }

    pub(super) fn wire_mut(&mut self) -> &mut Wire {
        // SAFETY: as in `wire`.
        unsafe { self.wire.as_mut() }
    }

    /// Lends bytes to libssl until the call is dropped.
    pub(super) fn lend<'a>(&'a mut self, input: &'a [u8], room: &'a mut [u8]) -> Call<'a> {
        self.wire_mut().lend(input, room);
        Call { ssl: self, lent: PhantomData }
    }

    /// The name that the client of a server's session asked for, in lower case.
    pub(super) fn asked_name(&self) -> Option<Box<str>> {
        // SAFETY: the SSL is alive; the name ends in 0 and is copied at once.
        let name = unsafe {
            let name = ffi::SSL_get_servername(self.as_ptr(), ffi::TLSEXT_NAMETYPE_HOST_NAME);
            (!name.is_null()).then(|| CStr::from_ptr(name))?
        };
        name.to_str().ok().map(|name| name.to_ascii_lowercase().into_boxed_str())
    }

    /// What the peer has shown, its own certificate first.
    pub(super) fn peer_chain(&self) -> Vec<CertificateDer<'static>> {
        // SAFETY: the SSL is alive, and what the peer has shown is as long as it is.
        unsafe {
            let own = ffi::SSL_get0_peer_certificate(self.as_ptr());
            if own.is_null() {
                return Vec::new();
            }
            let chain = ffi::SSL_get_peer_cert_chain(self.as_ptr());
            // A server's has only what is behind the client's own.
            let behind = (0..ffi::OPENSSL_sk_num(chain)).map(|i| ffi::OPENSSL_sk_value(chain, i).cast::<ffi::X509>());
            let behind = behind.filter(|&other| ffi::X509_cmp(own, other) != 0);
            std::iter::once(own).chain(behind).map(|certificate| Certificate::der_of(certificate)).collect()
        }
    }

    /// Before an established session is freed: the tickets it gave stay good. libssl would spoil them where no `close_notify` was exchanged,
    /// which RFC 5246 section 7.2.1 no longer asks for.
    pub(super) fn keep_resumable(&mut self) {
        // SAFETY: the SSL is alive; this only sets two bits.
        unsafe { ffi::SSL_set_shutdown(self.as_ptr(), ffi::SSL_SENT_SHUTDOWN | ffi::SSL_RECEIVED_SHUTDOWN) };
    }

    /// What a failed call says, with the reason for a refused certificate.
    fn failure(&self) -> TlsError {
        let error = TlsError::from(OpenSslError::take());
        let TlsError::Certificate(_) = error else { return error };
        // SAFETY: the SSL is alive; the text is a constant.
        let (code, reason) = unsafe {
            let code = ffi::SSL_get_verify_result(self.as_ptr());
            (code, constant(ffi::X509_verify_cert_error_string(code)))
        };
        let mut text = format!("certificate verify failed: {}", reason.unwrap_or("no reason"));
        if [ffi::X509_V_ERR_HOSTNAME_MISMATCH, ffi::X509_V_ERR_IP_ADDRESS_MISMATCH].contains(&code) {
            // SAFETY: the SSL is alive.
            let names = unsafe { super::client::peer_names(self.as_ptr()) };
            text.push_str(&format!(" (it is for {})", names.join(", ")));
        }
        if code == c_long::from(ffi::X509_V_ERR_APPLICATION_VERIFICATION) {
            text = "certificate verify failed: it is not for the URI that is asked for".into();
        }
        TlsError::Certificate(Cause::openssl(OpenSslError::with_text(text)))
    }
}

impl Drop for Ssl {
    fn drop(&mut self) {
        if self.is_paused() {
            let (place, job, of) = (self.place.take(), self.job.take(), self.of.take());
            return turn::bury(Grave::Ssl(Self { ssl: self.ssl, wire: self.wire, place, job, of }));
        }
        // SAFETY: ours, and freed once; with it go the BIO and the wire.
        unsafe { ffi::SSL_free(self.as_ptr()) };
        if let Some(place) = self.place.take() {
            // SAFETY: leaked by `keep_tickets`; the SSL, the only other holder, is gone.
            drop(unsafe { Box::from_raw(place.as_ptr()) });
        }
    }
}

/// One whose job has paused.
struct PausedSsl(*mut ffi::SSL);

impl Pausing for PausedSsl {
    fn is_refused(&self) -> bool {
        let mut status = 0;
        // SAFETY: the SSL is alive and has run as a job.
        unsafe { ffi::SSL_get_async_status(self.0, &raw mut status) == 1 && status == ffi::ASYNC_STATUS_EAGAIN }
    }

    fn descriptors(&self, fds: &mut [c_int; FDS_MAX]) -> usize {
        let mut count = 0;
        // SAFETY: the SSL is alive and has paused; with no place it says how many there are, and then there is room for as many.
        unsafe {
            let known = ffi::SSL_get_all_async_fds(self.0, std::ptr::null_mut(), &raw mut count) == 1;
            let known =
                known && count <= FDS_MAX && ffi::SSL_get_all_async_fds(self.0, fds.as_mut_ptr(), &raw mut count) == 1;
            if known { count } else { 0 }
        }
    }
}

/// Where a client's session keeps the tickets that it gets.
pub(super) struct TicketPlace {
    pub(super) tickets: Arc<Tickets>,
    pub(super) name: Box<str>,
}

impl TicketPlace {
    /// The place of a client's SSL.
    ///
    /// # Safety
    /// `ssl` is alive, and nothing else has a reference to its place.
    pub(super) unsafe fn of<'a>(ssl: *mut ffi::SSL) -> Option<&'a Self> {
        // SAFETY: only `keep_tickets` sets this, and the place lives as long as the SSL.
        unsafe { ffi::SSL_get_ex_data(ssl, APP_DATA).cast::<Self>().as_ref() }
    }
}

/// Calls into libssl with lent bytes.
pub(super) struct Call<'a> {
    ssl: &'a mut Ssl,
    lent: PhantomData<&'a mut [u8]>,
}

impl Call<'_> {
    pub(super) fn run(&self, f: impl FnOnce(*mut ffi::SSL) -> c_int) -> Outcome {
        clear();
        let ssl = self.ssl.as_ptr();
        let ret = f(ssl);
        if ret > 0 {
            return Outcome::Done;
        }
        // SAFETY: the SSL is alive, and `ret` is what the last call on it returned.
        match unsafe { ffi::SSL_get_error(ssl, ret) } {
            ffi::SSL_ERROR_WANT_READ => Outcome::WantsWire,
            ffi::SSL_ERROR_ZERO_RETURN => Outcome::Closed,
            ffi::SSL_ERROR_WANT_ASYNC => Outcome::Paused,
            ffi::SSL_ERROR_WANT_ASYNC_JOB => {
                let cause = OpenSslError::with_text("no memory for a job of the accelerator");
                Outcome::Failed(TlsError::Local(Cause::openssl(cause)))
            }
            _ => Outcome::Failed(self.ssl.failure()),
        }
    }

    /// Ends it; says how many bytes of the room were written.
    pub(super) fn end(self) -> usize {
        self.ssl.wire_mut().take_back()
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.ssl.wire_mut().take_back();
    }
}

/// What a call came to.
pub(super) enum Outcome {
    Done,
    /// It needs another record.
    WantsWire,
    /// An accelerator computes.
    Paused,
    /// The peer said `close_notify`.
    Closed,
    Failed(TlsError),
}

/// The index of an SSL's application data.
const APP_DATA: c_int = 0;
