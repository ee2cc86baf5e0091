//! Certificates and keys of a generation: what the file names, loaded and checked.
//!
//! **Invariant:** what can be wrong with a certificate is said here, before the generation is in force.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tls_offload::{
    Accelerator, Alpn, Backend, ClientOptions, ClientTls, ConfigError, Identity, Key, Pem, Roots, ServerOptions,
    ServerTls, Versions,
};

use super::accelerators::Accelerators;
use crate::config::Origin;
use crate::config::schema::{self, AcceleratorConfig, TlsBackend, TlsConfig, TlsVersion};
use crate::snapshot::{Fault, MakeTls};

/// Loads certificates from the files that the configuration names, and remembers what it made of which contents.
#[derive(Debug, Default)]
pub struct Certificates {
    servers: Vec<Made<ServerTls>>,
    clients: Vec<Made<ClientTls>>,
    accelerators: Accelerators,
}

/// What was made of some contexts.
#[derive(Debug)]
struct Made<T> {
    contexts: Vec<TlsConfig>,
    files: u64,
    tls: Arc<T>,
}

impl MakeTls for Certificates {
    fn server(&mut self, contexts: &[TlsConfig], previous: Option<&Arc<ServerTls>>) -> Result<Arc<ServerTls>, Fault> {
        let Self { servers, accelerators, .. } = self;
        remembered(servers, contexts, previous, || make_server(contexts, accelerators))
    }

    fn accelerators(&mut self, wanted: &[Arc<AcceleratorConfig>]) -> Vec<Accelerator> {
        self.accelerators.keep(wanted)
    }

    fn client(&mut self, context: &TlsConfig, previous: Option<&Arc<ClientTls>>) -> Result<Arc<ClientTls>, Fault> {
        remembered(&mut self.clients, std::slice::from_ref(context), previous, || make_client(context))
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

/// A digest of every file that the contexts name. One that can't be read counts as empty: making the configuration says why.
fn digest(contexts: &[TlsConfig]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for context in contexts {
        for pem in [&context.cert_chain, &context.private_key, &context.ca_cert].into_iter().flatten() {
            if let schema::Pem::Path(path) = pem {
                std::fs::read(path).unwrap_or_default().hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}

fn make_server(contexts: &[TlsConfig], open: &mut Accelerators) -> Result<ServerTls, Fault> {
    let Some(first) = contexts.first() else {
        return Err(Fault { origin: Origin::default(), message: "no TLS context".into(), remedy: String::new() });
    };
    let identities = contexts.iter().map(|context| identity(context, open)).collect::<Result<_, _>>()?;
    let mut options = ServerOptions::new(identities);
    options.backend = backend(first);
    options.alpn = alpn(first)?;
    options.versions = versions(first)?;
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
        server_name: Some(context.server_name.clone()).filter(|name| !name.is_empty()),
        backend: backend(context),
        alpn: alpn(context)?,
        versions: versions(context)?,
    };
    ClientTls::new(options).map_err(|e| fault(context, &e))
}

fn identity(context: &TlsConfig, open: &mut Accelerators) -> Result<Identity, Fault> {
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
    Ok(Identity { certificates: pem(certificates), key })
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

fn versions(context: &TlsConfig) -> Result<Versions, Fault> {
    let name = |version| match version {
        TlsVersion::Auto => "tls_auto",
        TlsVersion::V12 => "tlsv1_2",
        TlsVersion::V13 => "tlsv1_3",
    };
    Versions::from_names(name(context.min_version), name(context.max_version)).map_err(|e| fault(context, &e))
}

fn pem(from: &schema::Pem) -> Pem {
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
