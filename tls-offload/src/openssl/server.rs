//! A server's configuration: certificates by name, application protocols, tickets.
//!
//! **Invariant:** complete when built; the callbacks, which may run on a job's small stack, look up and copy, and never allocate or panic.

use std::ffi::{CStr, c_int, c_uchar, c_uint, c_void};
use std::fmt;
use std::ptr;
use std::sync::Arc;

use super::accelerator::Accelerator;
use super::error::OpenSslError;
use super::ffi;
use super::installed::Installed;
use super::keylog;
use super::own::{Certificate, Config};
use super::session::OpenSslSession;
use super::ticket;
use super::trust::{store_of, trust};
use crate::accelerator::Fallback;
use crate::certificates::CertificateTable;
use crate::client_auth::ClientAuth;
use crate::error::{Cause, ConfigError};
use crate::keylog::KeyLogFile;
use crate::server::{Identity, Key, ServerOptions};
use crate::session::Session;
use crate::tickets::{Scope, TicketKeys, scope};

/// A server's TLS. Shared by all workers.
pub(crate) struct Server {
    config: Config,
    table: CertificateTable<Installed>,
    accelerator: Option<Arc<Accelerator>>,
    /// The same in software, for handshakes that the accelerator fails.
    software: Option<Arc<Self>>,
    _keylog: Option<Arc<KeyLogFile>>,
    /// None: clients get no tickets.
    tickets: Option<Arc<TicketKeys>>,
    /// Application protocols as they go over the wire: each behind its length.
    alpn: Box<[u8]>,
}

impl Server {
    pub(crate) fn new(options: ServerOptions) -> Result<Arc<Self>, ConfigError> {
        the_accelerator(&options.identities)?;
        let software = in_software(&options).map(|software| Self::unproven(software, None)).transpose()?;
        for identity in &options.identities {
            if let Some(accelerator) = identity.key.accelerator() {
                let client_auth = ClientAuth::None;
                let only = ServerOptions { identities: vec![identity.clone()], client_auth, ..options.clone() };
                let server = Self::unproven(only, None)?;
                accelerator.0.prove(identity, software.is_some(), || Session::OpenSsl(server.session()))?;
            }
        }
        Self::unproven(options, software)
    }

    fn unproven(options: ServerOptions, software: Option<Arc<Self>>) -> Result<Arc<Self>, ConfigError> {
        let table = CertificateTable::load(&options.identities, Installed::load)?;
        let accelerator = the_accelerator(&options.identities)?;
        let backend = |error| ConfigError::Backend(Cause::openssl(error));
        let config = Config::new(options.versions, &options.algorithms, accelerator.as_deref()).map_err(backend)?;
        ask_clients(&config, &options.client_auth)?;
        let tickets = options.tickets.then(|| TicketKeys::of(&options)).transpose()?;
        let scope = scope(&options.client_auth)?;
        let _keylog = keylog::tell_to(&config, options.keylog.as_deref())?;
        let server =
            Arc::new(Self { config, table, accelerator, software, _keylog, tickets, alpn: options.alpn.into_wire() });
        server.set_up(&scope).map_err(backend)?;
        Ok(server)
    }

    pub(crate) fn session(self: &Arc<Self>) -> OpenSslSession {
        OpenSslSession::server(Arc::clone(self))
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn accelerator(&self) -> Option<&Arc<Accelerator>> {
        self.accelerator.as_ref()
    }

    pub(super) fn software(&self) -> Option<&Arc<Self>> {
        self.software.as_ref()
    }

    fn set_up(&self, scope: &Scope) -> Result<(), OpenSslError> {
        let config = self.config.as_ptr();
        // The callbacks get a pointer to this: every session holds the Arc in which it lies.
        let this: *mut c_void = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the configuration is ours and not in use yet; the callbacks have the types that the header asks for.
        unsafe {
            if self.table.len() == 1 {
                let only = self.table.candidates(None).next().expect("the table has one");
                self.config.must(only.install_for_all(config))?;
            } else {
                ffi::SSL_CTX_set_cert_cb(config, on_certificate, this);
            }
            if !self.alpn.is_empty() {
                ffi::SSL_CTX_set_alpn_select_cb(config, on_alpn, this);
            }
            let on_status = std::mem::transmute::<StatusCallback, unsafe extern "C" fn()>(on_status);
            ffi::SSL_CTX_callback_ctrl(config, ffi::SSL_CTRL_SET_TLSEXT_STATUS_REQ_CB, on_status);
            ffi::SSL_CTX_ctrl(config, ffi::SSL_CTRL_SET_TLSEXT_STATUS_REQ_CB_ARG, 0, this);
            let on_name = std::mem::transmute::<NameCallback, unsafe extern "C" fn()>(on_name);
            ffi::SSL_CTX_callback_ctrl(config, ffi::SSL_CTRL_SET_TLSEXT_SERVERNAME_CB, on_name);
            self.config.must(ffi::SSL_CTX_set_session_id_context(config, scope.as_ptr(), SCOPE_BYTES) == 1)?;
            // Ours is the order of suites, but for clients that want ChaCha20 most: they have no AES in hardware.
            ffi::SSL_CTX_set_options(config, ffi::SSL_OP_CIPHER_SERVER_PREFERENCE | ffi::SSL_OP_PRIORITIZE_CHACHA);
        }
        match &self.tickets {
            Some(keys) => {
                ticket::seal_with(&self.config, keys)?;
            }
            // SAFETY: the configuration is ours.
            None => unsafe {
                ffi::SSL_CTX_set_options(config, ffi::SSL_OP_NO_TICKET);
                self.config.must(ffi::SSL_CTX_set_num_tickets(config, 0) == 1)?;
            },
        }
        // A store of sessions would be a lock that all workers share; tickets need none.
        self.config.control(ffi::SSL_CTRL_SET_SESS_CACHE_MODE, ffi::SSL_SESS_CACHE_OFF);
        Ok(())
    }

    /// Gives an SSL the certificate for the name it was asked for.
    fn choose(&self, ssl: *mut ffi::SSL) -> bool {
        let mut memory = [0; NAME_BYTES_MAX];
        // SAFETY: the SSL is alive.
        let name = unsafe { lower_case_name(ssl, &mut memory) };
        let usable = |installed: &&Installed| installed.is_usable(ssl);
        // With none usable the handshake fails either way: showing the best match gives the clearer alert.
        let chosen = self.table.candidates(name).find(usable).or_else(|| self.table.candidates(name).next());
        chosen.is_some_and(|installed| {
            installed.staple_to(ssl);
            installed.install(ssl)
        })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

/// Has a configuration ask for certificates of clients.
fn ask_clients(config: &Config, auth: &ClientAuth) -> Result<(), ConfigError> {
    let (roots, revoked, required) = match auth {
        ClientAuth::None => return Ok(()),
        ClientAuth::Asked => {
            // SAFETY: the configuration is ours; the callback has the type that the header asks for.
            unsafe { ffi::SSL_CTX_set_verify(config.as_ptr(), ffi::SSL_VERIFY_PEER, Some(accept_anyone)) };
            return Ok(());
        }
        ClientAuth::Verified { roots, revoked, required } => (roots, revoked.as_ref(), *required),
    };
    trust(config, &store_of(roots, revoked)?);
    for (index, der) in roots.certificates()?.iter().enumerate() {
        let bad = |_| ConfigError::BadCertificate { place: roots.place(), number: index + 1 };
        let root = Certificate::from_der(der).map_err(bad)?;
        // SAFETY: both are alive; the configuration copies the name.
        let told = unsafe { ffi::SSL_CTX_add_client_CA(config.as_ptr(), root.as_ptr()) } == 1;
        config.must(told).map_err(|error| ConfigError::Backend(Cause::openssl(error)))?;
    }
    if required {
        let mode = ffi::SSL_VERIFY_PEER | ffi::SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
        // SAFETY: the configuration is ours.
        unsafe { ffi::SSL_CTX_set_verify(config.as_ptr(), mode, None) };
    }
    Ok(())
}

/// Takes every certificate. The handshake's signature is verified all the same.
///
/// # Safety
/// Called by libssl.
unsafe extern "C" fn accept_anyone(_verified: c_int, _store: *mut ffi::X509_STORE_CTX) -> c_int {
    1
}

/// The same without its accelerator. None: there is none, it is not to be done without, or the key is where software can't have it.
fn in_software(options: &ServerOptions) -> Option<ServerOptions> {
    let accelerator = options.identities.iter().find_map(|i| i.key.accelerator())?;
    if accelerator.0.fallback() == Fallback::Fail {
        return None;
    }
    let identities = options.identities.iter().map(|identity| {
        let key = Key::Pem(identity.key.pem()?.clone());
        Some(Identity { certificates: identity.certificates.clone(), key, staple: identity.staple.clone() })
    });
    Some(ServerOptions { identities: identities.collect::<Option<_>>()?, ..options.clone() })
}

/// The one accelerator of all keys that have one.
fn the_accelerator(identities: &[Identity]) -> Result<Option<Arc<Accelerator>>, ConfigError> {
    let mut all = identities.iter().filter_map(|i| i.key.accelerator()).map(|a| &a.0);
    let Some(first) = all.next() else { return Ok(None) };
    match all.find(|other| !Arc::ptr_eq(first, other)) {
        Some(other) => Err(ConfigError::TwoAccelerators { names: [first.name().into(), other.name().into()] }),
        None => Ok(Some(Arc::clone(first))),
    }
}

type StatusCallback = unsafe extern "C" fn(*mut ffi::SSL, *mut c_void) -> c_int;

/// Staples what there is for the certificate that was chosen, for a client that asks for it.
///
/// # Safety
/// Called by libssl with a session of the [`Server`] that `server` points at.
unsafe extern "C" fn on_status(ssl: *mut ffi::SSL, server: *mut c_void) -> c_int {
    // SAFETY: the session holds the Arc in which the server lies.
    let server = unsafe { &*server.cast::<Server>() };
    if server.table.len() == 1 {
        server.table.candidates(None).for_each(|only| only.staple_to(ssl));
    }
    let mut staple: *const c_uchar = ptr::null();
    // SAFETY: the session is alive; with the pointer's place it says the length, or -1.
    let len = unsafe {
        ffi::SSL_ctrl(ssl, ffi::SSL_CTRL_GET_TLSEXT_STATUS_REQ_OCSP_RESP, 0, (&raw mut staple).cast::<c_void>())
    };
    if len > 0 { ffi::SSL_TLSEXT_ERR_OK } else { ffi::SSL_TLSEXT_ERR_NOACK }
}

type NameCallback = unsafe extern "C" fn(*mut ffi::SSL, *mut c_int, *mut c_void) -> c_int;

/// Accepts every name: only then does libssl keep it with the session that a TLS 1.2 ticket resumes.
///
/// # Safety
/// Called by libssl.
unsafe extern "C" fn on_name(_ssl: *mut ffi::SSL, _alert: *mut c_int, _arg: *mut c_void) -> c_int {
    ffi::SSL_TLSEXT_ERR_OK
}

/// # Safety
/// Called by libssl with a session of the [`Server`] that `server` points at.
unsafe extern "C" fn on_certificate(ssl: *mut ffi::SSL, server: *mut c_void) -> c_int {
    // SAFETY: the session holds the Arc in which the server lies.
    let server = unsafe { &*server.cast::<Server>() };
    c_int::from(server.choose(ssl))
}

/// Chooses by our order of preference.
///
/// # Safety
/// Called by libssl with a session of the [`Server`] that `server` points at, and the client's list.
unsafe extern "C" fn on_alpn(
    _ssl: *mut ffi::SSL,
    out: *mut *const c_uchar,
    out_len: *mut c_uchar,
    theirs: *const c_uchar,
    theirs_len: c_uint,
    server: *mut c_void,
) -> c_int {
    // SAFETY: the session holds the Arc in which the server lies.
    let ours = unsafe { &(*server.cast::<Server>()).alpn };
    let Ok(ours_len) = c_uint::try_from(ours.len()) else { return ffi::SSL_TLSEXT_ERR_ALERT_FATAL };
    // SAFETY: both lists are well-formed; what is chosen lies in one of them, and both live until libssl has copied it.
    let chosen =
        unsafe { ffi::SSL_select_next_proto(out.cast(), out_len, ours.as_ptr(), ours_len, theirs, theirs_len) };
    if chosen == ffi::OPENSSL_NPN_NEGOTIATED { ffi::SSL_TLSEXT_ERR_OK } else { ffi::SSL_TLSEXT_ERR_ALERT_FATAL }
}

/// The name that was asked for, in lower case, in `memory`.
///
/// # Safety
/// `ssl` is alive.
unsafe fn lower_case_name(ssl: *mut ffi::SSL, memory: &mut [u8; NAME_BYTES_MAX]) -> Option<&str> {
    // SAFETY: the name ends in 0 and stays while the hello is worked on.
    let name = unsafe {
        let name = ffi::SSL_get_servername(ssl, ffi::TLSEXT_NAMETYPE_HOST_NAME);
        (!name.is_null()).then(|| CStr::from_ptr(name))?
    };
    let to = memory.get_mut(..name.count_bytes())?;
    to.copy_from_slice(name.to_bytes());
    to.make_ascii_lowercase();
    std::str::from_utf8(to).ok()
}

/// Of what resumed sessions must have in common.
const SCOPE_BYTES: c_uint = 32;
/// A name of the extension, at most (RFC 6066 section 3: a DNS name).
const NAME_BYTES_MAX: usize = 255;
