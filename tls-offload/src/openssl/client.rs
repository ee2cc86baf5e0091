//! A client's configuration: trusted roots, the name that is verified, sessions to resume.
//!
//! **Invariant:** a session that verifies is never resumed from one that did not, nor for another name: tickets belong to one configuration
//! and are kept by name.

use std::collections::{HashMap, VecDeque};
use std::ffi::{c_int, c_uint, c_void};
use std::net::IpAddr;
use std::ptr;
use std::sync::Arc;

use rustls_pki_types::ServerName;

use super::error::{OpenSslError, clear};
use super::ffi;
use super::installed::Installed;
use super::keylog;
use super::own::{Certificate, Config, Resumable};
use super::session::OpenSslSession;
use super::ssl::TicketPlace;
use super::trust::{WantedUri, trust, trusted, verify_uri};
use crate::client::{ClientOptions, Roots};
use crate::error::{Cause, ConfigError};
use crate::keylog::KeyLogFile;
use crate::names::dns_names;
use crate::options::Alpn;

/// A client's TLS. Shared by all workers.
#[derive(Debug)]
pub(crate) struct Client {
    config: Config,
    tickets: Arc<Tickets>,
    /// The URI that a certificate must have, in place of the name. On the heap: the configuration has its address.
    uri: Option<Box<WantedUri>>,
    _keylog: Option<Arc<KeyLogFile>>,
}

impl Client {
    pub(crate) fn new(options: ClientOptions) -> Result<Arc<Self>, ConfigError> {
        let backend = |error| ConfigError::Backend(Cause::openssl(error));
        let config = Config::new(options.versions, &options.algorithms, None).map_err(backend)?;
        let alpn = options.alpn.into_wire();
        if let (false, Ok(len)) = (alpn.is_empty(), c_uint::try_from(alpn.len())) {
            // SAFETY: the configuration is ours, the list is copied.
            let set = unsafe { ffi::SSL_CTX_set_alpn_protos(config.as_ptr(), alpn.as_ptr(), len) } == 0;
            config.must(set).map_err(backend)?;
        }
        match trusted(&options.roots, options.revoked.as_ref())? {
            Some(store) => trust(&config, &store),
            // SAFETY: the configuration is ours.
            None => unsafe { ffi::SSL_CTX_set_verify(config.as_ptr(), ffi::SSL_VERIFY_NONE, None) },
        }
        let uri = options.uri.filter(|_| !matches!(options.roots, Roots::Insecure)).map(|uri| Box::new(WantedUri(uri)));
        if let Some(uri) = &uri {
            verify_uri(&config, uri);
        }
        if let Some(identity) = &options.identity {
            config.must(Installed::load(&identity.into())?.install_for_all(config.as_ptr())).map_err(backend)?;
        }
        config.control(ffi::SSL_CTRL_SET_SESS_CACHE_MODE, ffi::SSL_SESS_CACHE_CLIENT | ffi::SSL_SESS_CACHE_NO_INTERNAL);
        // SAFETY: the configuration is ours; the callback has the type that the header asks for.
        unsafe { ffi::SSL_CTX_sess_set_new_cb(config.as_ptr(), on_ticket) };
        let _keylog = keylog::tell_to(&config, options.keylog.as_deref())?;
        Ok(Arc::new(Self { config, tickets: Arc::default(), uri, _keylog }))
    }

    /// A session; with `alpn` it offers these protocols in place of the configuration's.
    pub(crate) fn session(
        self: &Arc<Self>,
        name: &ServerName<'static>,
        alpn: Option<&Alpn>,
    ) -> Result<OpenSslSession, OpenSslError> {
        let text = name.to_str().to_ascii_lowercase().into_boxed_str();
        let sni = matches!(name, ServerName::DnsName(_)).then(|| text.clone());
        let resumed = self.tickets.take(&text);
        let place = TicketPlace { tickets: Arc::clone(&self.tickets), name: text };
        OpenSslSession::client(Arc::clone(self), place, sni, |ssl| {
            ask_for(ssl, name, self.uri.is_none())?;
            if let Some(alpn) = alpn {
                offer(ssl, alpn)?;
            }
            if let Some(resumable) = resumed {
                // SAFETY: both are alive; the SSL takes a reference of its own. A session it can't use is none.
                unsafe { ffi::SSL_set_session(ssl, resumable.as_ptr()) };
                clear();
            }
            Ok(())
        })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }
}

/// Sessions that can be resumed, by the server's name. One lock for all workers, taken once per upstream handshake and per ticket.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    #[allow(
        clippy::disallowed_types,
        reason = "crossed once per upstream handshake, as the software backend's own store is"
    )]
    by_name: std::sync::Mutex<HashMap<Box<str>, VecDeque<Resumable>>>,
}

impl Tickets {
    /// Of TLS 1.3 each is used once (RFC 8446 appendix C.4); one of TLS 1.2 stays.
    fn take(&self, name: &str) -> Option<Resumable> {
        let mut by_name = self.by_name.lock().ok()?;
        let kept = by_name.get_mut(name)?;
        // SAFETY: a session in the store is alive.
        let is_usable = |r: &Resumable| unsafe { ffi::SSL_SESSION_is_resumable(r.as_ptr()) } == 1;
        while let Some(newest) = kept.pop_back() {
            if is_usable(&newest) {
                // SAFETY: as above.
                if unsafe { ffi::SSL_SESSION_get_protocol_version(newest.as_ptr()) } == ffi::TLS1_2_VERSION {
                    kept.push_back(newest.share());
                }
                return Some(newest);
            }
        }
        None
    }

    /// Keeps the session of a resumed connection, if it is not the one that was kept.
    pub(super) fn keep_renewed(&self, name: &str, resumable: Option<Resumable>) {
        let Some(resumable) = resumable else { return };
        let is_kept = self.by_name.lock().is_ok_and(|by_name| {
            by_name.get(name).is_some_and(|kept| kept.iter().any(|other| other.as_ptr() == resumable.as_ptr()))
        });
        if !is_kept {
            self.keep(name, resumable);
        }
    }

    fn keep(&self, name: &str, resumable: Resumable) {
        let Ok(mut by_name) = self.by_name.lock() else { return };
        if !by_name.contains_key(name) && by_name.len() >= RESUMABLE_NAMES_MAX {
            // Any: with so many names none is a favourite.
            if let Some(other) = by_name.keys().next().cloned() {
                by_name.remove(&other);
            }
        }
        let kept = by_name.entry(name.into()).or_default();
        if kept.len() >= RESUMABLE_PER_NAME_MAX {
            kept.pop_front();
        }
        kept.push_back(resumable);
    }
}

/// The names in the certificate that the peer has shown.
///
/// # Safety
/// `ssl` is alive.
pub(super) unsafe fn peer_names(ssl: *mut ffi::SSL) -> Vec<Box<str>> {
    // SAFETY: the caller says that it is alive; the chain and its certificates live as long.
    let leaf = unsafe {
        let chain = ffi::SSL_get_peer_cert_chain(ssl);
        if chain.is_null() { ptr::null_mut() } else { ffi::OPENSSL_sk_value(chain, 0).cast::<ffi::X509>() }
    };
    if leaf.is_null() {
        return Vec::new();
    }
    // SAFETY: as above.
    dns_names(&unsafe { Certificate::der_of(leaf) }).unwrap_or_default()
}

/// Has an SSL ask for a name. `verified`: the certificate must be for it, by its alternative names only, with wildcards for a whole label only.
fn ask_for(ssl: *mut ffi::SSL, name: &ServerName<'_>, verified: bool) -> Result<(), OpenSslError> {
    // SAFETY: the SSL is alive, and its parameters with it.
    let param = unsafe { ffi::SSL_get0_param(ssl) };
    let done = match name {
        ServerName::DnsName(name) => {
            let host = name.as_ref().trim_end_matches('.');
            let asked = std::ffi::CString::new(host).map_err(|_| OpenSslError::with_text("a name with a 0 in it"))?;
            let flags = ffi::X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | ffi::X509_CHECK_FLAG_NEVER_CHECK_SUBJECT;
            // SAFETY: the text ends in 0 and is copied; the name is given with its length.
            unsafe {
                let text = asked.as_ptr().cast_mut().cast::<c_void>();
                let kind = ffi::TLSEXT_NAMETYPE_HOST_NAME.into();
                ffi::X509_VERIFY_PARAM_set_hostflags(param, flags);
                ffi::SSL_ctrl(ssl, ffi::SSL_CTRL_SET_TLSEXT_HOSTNAME, kind, text) == 1
                    && (!verified || ffi::X509_VERIFY_PARAM_set1_host(param, asked.as_ptr(), host.len()) == 1)
            }
        }
        ServerName::IpAddress(_) if !verified => true,
        ServerName::IpAddress(ip) => {
            let octets = match IpAddr::from(*ip) {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            // SAFETY: the address is given with its length and copied.
            unsafe { ffi::X509_VERIFY_PARAM_set1_ip(param, octets.as_ptr(), octets.len()) == 1 }
        }
        _ => return Err(OpenSslError::with_text("a name of an unknown kind")),
    };
    if done { Ok(()) } else { Err(OpenSslError::take()) }
}

/// Has an SSL offer these protocols.
fn offer(ssl: *mut ffi::SSL, alpn: &Alpn) -> Result<(), OpenSslError> {
    let wire = alpn.clone().into_wire();
    let len = c_uint::try_from(wire.len()).map_err(|_| OpenSslError::with_text("too many protocols"))?;
    // SAFETY: the SSL is alive; the list is given with its length and copied.
    let set = unsafe { ffi::SSL_set_alpn_protos(ssl, wire.as_ptr(), len) } == 0;
    if set { Ok(()) } else { Err(OpenSslError::take()) }
}

/// Keeps a session that the server lets us resume. 1: the reference is ours now.
///
/// # Safety
/// Called by libssl with a session of a [`Client`].
unsafe extern "C" fn on_ticket(ssl: *mut ffi::SSL, session: *mut ffi::SSL_SESSION) -> c_int {
    // SAFETY: a client's SSL has its place from the beginning, and nobody changes it.
    let Some(place) = (unsafe { TicketPlace::of(ssl) }) else { return 0 };
    // SAFETY: by answering 1 we take the reference.
    let Some(resumable) = (unsafe { Resumable::from_raw(session) }) else { return 0 };
    place.tickets.keep(&place.name, resumable);
    1
}

/// Names with resumable sessions, at most, of one configuration.
const RESUMABLE_NAMES_MAX: usize = 256;
/// Resumable sessions of a name, at most: a server of TLS 1.3 gives two or so with each handshake.
const RESUMABLE_PER_NAME_MAX: usize = 8;
