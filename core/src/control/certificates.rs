//! Certificates and keys of a generation: what the file names, loaded and checked.
//!
//! **Invariant:** what can be wrong with a certificate is said here, before the generation is in force.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tls_offload::{
    Accelerator, Algorithms, Alpn, Backend, Caveat, ClientAuth, ClientIdentity, ClientOptions, ClientTls, ConfigError,
    Identity, Key, Pem, Roots, ServerOptions, ServerTls, Versions,
};

use super::accelerators::Accelerators;
use crate::config::Origin;
use crate::config::schema::{self, AcceleratorConfig, Ktls, TlsBackend, TlsConfig, TlsVersion};
use crate::snapshot::{Fault, MakeTls};

/// Loads certificates from the files that the configuration names, and remembers what it made of which contents.
#[derive(Debug, Default)]
pub struct Certificates {
    servers: Vec<Made<ServerTls>>,
    clients: Vec<Made<ClientTls>>,
    accelerators: Accelerators,
    /// What works, though perhaps not as it is meant, of what was loaded since it was last told.
    caveats: Vec<Fault>,
    /// Whether there is something in force, which is better than a certificate that has expired.
    refuses_expired: bool,
}

/// What was made of some contexts.
#[derive(Debug)]
struct Made<T> {
    contexts: Vec<TlsConfig>,
    files: u64,
    tls: Arc<T>,
}

impl Certificates {
    /// From now on a certificate that has expired is an error, unless it is the one in force: there is a generation that is better.
    pub fn refuse_expired(&mut self) {
        self.refuses_expired = true;
    }

    /// What works, though perhaps not as it is meant, of what was loaded since this was last asked.
    #[must_use]
    pub fn take_caveats(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.caveats)
    }
}

impl MakeTls for Certificates {
    fn server(&mut self, contexts: &[TlsConfig], previous: Option<&Arc<ServerTls>>) -> Result<Arc<ServerTls>, Fault> {
        let Self { servers, accelerators, caveats, refuses_expired, .. } = self;
        remembered(servers, contexts, previous, || {
            let tls = make_server(contexts, accelerators)?;
            let is_worse = |caveat: &Caveat| *refuses_expired && !previous.is_some_and(|tls| tls.has(caveat));
            judge(tls.caveats(), is_worse, contexts, caveats)?;
            Ok(tls)
        })
    }

    fn accelerators(&mut self, wanted: &[Arc<AcceleratorConfig>]) -> Vec<Accelerator> {
        self.accelerators.keep(wanted)
    }

    fn client(&mut self, context: &TlsConfig, previous: Option<&Arc<ClientTls>>) -> Result<Arc<ClientTls>, Fault> {
        let Self { clients, caveats, refuses_expired, .. } = self;
        let contexts = std::slice::from_ref(context);
        remembered(clients, contexts, previous, || {
            let tls = make_client(context)?;
            let is_worse = |caveat: &Caveat| *refuses_expired && !previous.is_some_and(|tls| tls.has(caveat));
            judge(tls.caveats(), is_worse, contexts, caveats)?;
            Ok(tls)
        })
    }
}

/// The previous one when neither the contexts nor their files have changed since it was made, else a new one.
fn remembered<T>(
    made: &mut Vec<Made<T>>,
    contexts: &[TlsConfig],
    previous: Option<&Arc<T>>,
    make: impl FnOnce() -> Result<T, Fault>,
) -> Result<Arc<T>, Fault> {
    // What no generation uses any more is forgotten.
    made.retain(|m| Arc::strong_count(&m.tls) > 1);
    let files = digest(contexts);
    let is_kept =
        |m: &&Made<T>| previous.is_some_and(|p| Arc::ptr_eq(p, &m.tls)) && m.files == files && m.contexts == contexts;
    if let Some(kept) = made.iter().find(is_kept) {
        return Ok(Arc::clone(&kept.tls));
    }
    let tls = Arc::new(make()?);
    made.push(Made { contexts: contexts.to_vec(), files, tls: Arc::clone(&tls) });
    Ok(tls)
}

/// Notes what is doubtful, or refuses it where it is worse than what is in force.
fn judge(
    found: &[Caveat],
    is_worse: impl Fn(&Caveat) -> bool,
    contexts: &[TlsConfig],
    caveats: &mut Vec<Fault>,
) -> Result<(), Fault> {
    for caveat in found {
        let origin = contexts.first().map(|context| context.origin.clone()).unwrap_or_default();
        let fault = Fault { origin, message: caveat.to_string(), remedy: String::new() };
        match caveat {
            Caveat::Expired { .. } if is_worse(caveat) => return Err(fault),
            _ => caveats.push(fault),
        }
    }
    Ok(())
}

/// A digest of every file that the contexts name. One that can't be read counts as empty: making the configuration says why.
fn digest(contexts: &[TlsConfig]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in contexts.iter().flat_map(TlsConfig::files) {
        std::fs::read(path).unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish()
}

pub(super) fn make_server(contexts: &[TlsConfig], open: &mut Accelerators) -> Result<ServerTls, Fault> {
    let Some(first) = contexts.first() else {
        return Err(Fault { origin: Origin::default(), message: "no TLS context".into(), remedy: String::new() });
    };
    let identities = contexts.iter().map(|context| identity(context, open)).collect::<Result<_, _>>()?;
    let mut options = ServerOptions::new(identities);
    options.backend = backend(first);
    options.alpn = alpn(first)?;
    options.versions = versions(first)?;
    options.algorithms = algorithms(first)?;
    options.keylog.clone_from(&first.keylog_file);
    options.client_auth = client_auth(first)?;
    options.tickets = first.resumption.tickets;
    options.ticket_keys.clone_from(&first.resumption.keys);
    options.export = first.ktls != Ktls::Off;
    options.session_lifetime = first.resumption.timeout;
    ServerTls::new(options).map_err(|e| fault(first, &e))
}

fn make_client(context: &TlsConfig) -> Result<ClientTls, Fault> {
    let roots = match &context.ca_cert {
        _ if context.insecure_skip => Roots::Insecure,
        Some(ca) => Roots::Pem(pem(ca)),
        None => Roots::System,
    };
    let options = ClientOptions {
        roots,
        revoked: context.crl.as_ref().map(pem),
        identity: client_identity(context),
        server_name: Some(context.server_name.clone()).filter(|name| !name.is_empty()),
        uri: context.uri.as_deref().map(Into::into),
        backend: backend(context),
        alpn: alpn(context)?,
        versions: versions(context)?,
        algorithms: algorithms(context)?,
        keylog: context.keylog_file.clone(),
        export: false,
    };
    ClientTls::new(options).map_err(|e| fault(context, &e))
}

pub(super) fn identity(context: &TlsConfig, open: &mut Accelerators) -> Result<Identity, Fault> {
    let (Some(certificates), Some(key)) = (&context.cert_chain, &context.private_key) else {
        return Err(Fault {
            origin: context.origin.clone(),
            message: "a listener's tls_context needs both cert_chain and private_key".into(),
            remedy: "name a certificate file and its key file, or set status to false".into(),
        });
    };
    let accelerator = context.accelerated_by.as_ref().map(|config| open.get(config));
    let accelerator = accelerator.transpose().map_err(|e| fault(context, &e))?;
    let key = match (key, accelerator) {
        (schema::Pem::Stored(id), Some(accelerator)) => Key::Stored(id.as_str().into(), accelerator),
        (key, Some(accelerator)) => Key::Accelerated(pem(key), accelerator),
        (key, None) => Key::Pem(pem(key)),
    };
    Ok(Identity { certificates: pem(certificates), key, staple: context.ocsp_staple.clone() })
}

/// What origins are shown.
fn client_identity(context: &TlsConfig) -> Option<ClientIdentity> {
    let (certificates, key) = context.cert_chain.as_ref().zip(context.private_key.as_ref())?;
    Some(ClientIdentity { certificates: pem(certificates), key: pem(key) })
}

fn client_auth(context: &TlsConfig) -> Result<ClientAuth, Fault> {
    let required = match context.client_auth {
        schema::ClientAuth::None => return Ok(ClientAuth::None),
        schema::ClientAuth::Asked => return Ok(ClientAuth::Asked),
        schema::ClientAuth::VerifiedIfGiven => false,
        schema::ClientAuth::Required => true,
    };
    let Some(roots) = context.ca_cert.as_ref().map(pem) else {
        return Err(Fault {
            origin: context.origin.clone(),
            message: "verify_client without ca_cert".into(),
            remedy: "write `ca_cert`: the authority of your clients".into(),
        });
    };
    Ok(ClientAuth::Verified { roots, revoked: context.crl.as_ref().map(pem), required })
}

fn backend(context: &TlsConfig) -> Backend {
    match context.backend {
        TlsBackend::Auto => Backend::Auto,
        TlsBackend::Rustls => Backend::Rustls,
        TlsBackend::OpenSsl => Backend::OpenSsl,
    }
}

fn alpn(context: &TlsConfig) -> Result<Alpn, Fault> {
    Alpn::new(&context.alpn).map_err(|e| fault(context, &e))
}

fn algorithms(context: &TlsConfig) -> Result<Algorithms, Fault> {
    Algorithms::from_lists(&context.cipher_suites, &context.ecdh_curves).map_err(|e| fault(context, &e))
}

fn versions(context: &TlsConfig) -> Result<Versions, Fault> {
    let name = |version| match version {
        TlsVersion::Auto => "tls_auto",
        TlsVersion::V12 => "tlsv1_2",
        TlsVersion::V13 => "tlsv1_3",
    };
    Versions::from_names(name(context.min_version), name(context.max_version)).map_err(|e| fault(context, &e))
}

pub(super) fn pem(from: &schema::Pem) -> Pem {
    match from {
        schema::Pem::Path(path) => Pem::File(path.clone()),
        // Only a key with an accelerator is read as one; as a file its error names it.
        schema::Pem::Stored(id) => Pem::File(id.into()),
        schema::Pem::Text(text) => Pem::Inline(text.as_str().into()),
    }
}

fn fault(context: &TlsConfig, error: &ConfigError) -> Fault {
    Fault { origin: context.origin.clone(), message: error.to_string(), remedy: String::new() }
}
