//! Certificates and keys of a generation: what the file names, loaded and checked.
//!
//! **Invariant:** what can be wrong with a certificate is said here, before the generation is in force.

use std::sync::Arc;

use tls_offload::{
    Alpn, ClientOptions, ClientTls, ConfigError, Identity, Pem, Roots, ServerOptions, ServerTls, Versions,
};

use crate::config::Origin;
use crate::config::schema::{self, TlsConfig, TlsVersion};
use crate::snapshot::{Fault, MakeTls};

/// Loads certificates from the files that the configuration names.
#[derive(Debug, Default)]
pub struct Certificates;

impl MakeTls for Certificates {
    fn server(&mut self, contexts: &[TlsConfig], _: Option<&Arc<ServerTls>>) -> Result<Arc<ServerTls>, Fault> {
        let Some(first) = contexts.first() else {
            return Err(Fault { origin: Origin::default(), message: "no TLS context".into(), remedy: String::new() });
        };
        let identities = contexts.iter().map(identity).collect::<Result<_, _>>()?;
        let mut options = ServerOptions::new(identities);
        options.alpn = alpn(first)?;
        options.versions = versions(first)?;
        ServerTls::new(options).map(Arc::new).map_err(|e| fault(first, &e))
    }

    fn client(&mut self, context: &TlsConfig, _: Option<&Arc<ClientTls>>) -> Result<Arc<ClientTls>, Fault> {
        let roots = match &context.ca_cert {
            _ if context.insecure_skip => Roots::Insecure,
            Some(ca) => Roots::Pem(pem(ca)),
            None => Roots::System,
        };
        let options = ClientOptions {
            roots,
            server_name: Some(context.server_name.clone()).filter(|name| !name.is_empty()),
            alpn: alpn(context)?,
            versions: versions(context)?,
        };
        ClientTls::new(options).map(Arc::new).map_err(|e| fault(context, &e))
    }
}

fn identity(context: &TlsConfig) -> Result<Identity, Fault> {
    let (Some(certificates), Some(key)) = (&context.cert_chain, &context.private_key) else {
        return Err(Fault {
            origin: context.origin.clone(),
            message: "a listener's tls_context needs both cert_chain and private_key".into(),
            remedy: "name a certificate file and its key file, or set status to false".into(),
        });
    };
    Ok(Identity { certificates: pem(certificates), key: pem(key) })
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
        schema::Pem::Text(text) => Pem::Inline(text.as_str().into()),
    }
}

fn fault(context: &TlsConfig, error: &ConfigError) -> Fault {
    Fault { origin: context.origin.clone(), message: error.to_string(), remedy: String::new() }
}
