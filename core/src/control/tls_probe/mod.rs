//! `ferrogate tls probe`: who can compute for TLS on this host, who would for each certificate of a file and why, and how fast each signs.
//!
//! **Invariant:** loads what OpenSSL's folders hold and what the file names, signs for as long as it is told to, and changes nothing.

mod report;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use tls_offload::{
    Ability, ConfigError, Identity, Kind, Measure, OpenSslFacts, SampleKey, SignRate, abilities, about, openssl_facts,
    rate_in_accelerator, rate_in_software, rate_of_sample, rustls_groups,
};

use super::accelerators::{Accelerators, clock};
use super::certificates::{identity, make_server, pem};
use crate::config::Document;
use crate::config::schema::{
    self, AcceleratorConfig, AcceleratorFallback, AcceleratorKind, Config, TlsBackend, TlsConfig,
};
use report::{Backend, Certificate, Found, Loaded, Modules, Rate, Rates, Report};

/// Prints all that it finds, and says whether everything that the file names can be used.
#[must_use]
pub fn run(config: Option<&Path>, as_json: bool) -> bool {
    let report = look(config);
    let text = match as_json {
        true => serde_json::to_string_pretty(&report).expect("has no map with keys of another kind"),
        false => report.to_string(),
    };
    // A reader that has gone wants no more.
    let _ = writeln!(io::stdout(), "{}", text.trim_end());
    report.is_good()
}

fn look(config: Option<&Path>) -> Report {
    let facts = openssl_facts();
    let modules = |folder: &Path, kind| Modules { folder: folder.display().to_string(), found: modules(folder, kind) };
    Report {
        backends: backends(facts.as_ref()),
        engines: facts.as_ref().and_then(|f| f.engines.as_deref()).map(|folder| modules(folder, Kind::Engine)),
        providers: facts.as_ref().map(|f| modules(&f.providers, Kind::Provider)),
        software: [SampleKey::EcdsaP256, SampleKey::Rsa2048].into_iter().map(sample).collect(),
        file: config.map(file),
    }
}

fn backends(facts: Option<&OpenSslFacts>) -> Vec<Backend> {
    let versions = || vec!["TLS 1.2", "TLS 1.3"];
    let rustls = Backend {
        name: "rustls",
        says: "with aws-lc-rs: the fastest in software".into(),
        is_there: true,
        versions: versions(),
        groups: rustls_groups(),
        can_pause: facts.is_some_and(|f| f.has_async),
    };
    let openssl = match facts {
        Some(facts) => Backend {
            name: "OpenSSL",
            says: facts.version.clone(),
            is_there: true,
            versions: versions(),
            groups: facts.groups.clone(),
            can_pause: facts.has_async,
        },
        None => Backend {
            name: "OpenSSL",
            says: "not in this binary, so there are no accelerators: `make` builds one that has it".into(),
            is_there: false,
            versions: Vec::new(),
            groups: Vec::new(),
            can_pause: false,
        },
    };
    vec![rustls, openssl]
}

/// The modules of a folder, by name, and what each can do. A second name of the same file is left out.
fn modules(folder: &Path, kind: Kind) -> Vec<Loaded> {
    let id = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok().filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()))?;
        entry.file_name().to_str()?.strip_suffix(".so").map(str::to_owned)
    };
    let mut ids: Vec<String> = fs::read_dir(folder).into_iter().flatten().filter_map(id).collect();
    ids.sort_unstable();
    ids.into_iter().map(|id| Loaded::of(abilities(kind, &id), id)).collect()
}

fn sample(key: SampleKey) -> Found<Rate> {
    match rate_of_sample(key, MEASURE) {
        Ok(rate) => Found::Good(Rate::of(key.name(), &rate)),
        Err(error) => Found::Bad { error: error.to_string() },
    }
}

fn file(path: &Path) -> report::File {
    let (config, found) = Document::load(path).read();
    let errors = found.iter().filter(|d| d.is_error()).map(ToString::to_string).collect();
    let mut file = report::File { name: path.display().to_string(), errors, ..report::File::default() };
    let Some(config) = config else { return file };
    let mut probe = Probe { config: &config, open: Accelerators::default(), measured: Vec::new() };
    file.accelerators = probe.accelerators();
    file.certificates = probe.certificates();
    file
}

/// One file, while it is looked at.
struct Probe<'c> {
    config: &'c Config,
    open: Accelerators,
    /// By the kind of key and the accelerator: certificates of the same are measured once.
    measured: Vec<((Box<str>, String), Rates)>,
}

impl Probe<'_> {
    fn accelerators(&mut self) -> Vec<report::Accelerator> {
        let all = self.config.accelerators.iter();
        all.map(|config| {
            let opened = self.open.get(config).map(|accelerator| accelerator.abilities());
            report::Accelerator {
                kind: match config.kind {
                    AcceleratorKind::Provider => "provider",
                    AcceleratorKind::Engine => "engine",
                },
                id: config.id.clone(),
                pauses: config.asynchronous,
                module: Loaded::of(opened, config.name.clone()),
            }
        })
        .collect()
    }

    fn certificates(&mut self) -> Vec<Certificate> {
        let mut found = Vec::new();
        for listener in &self.config.server.listeners {
            let (of, all) = (format!("listener {}", listener.name), &listener.tls);
            found.extend(all.iter().map(|context| self.of_listener(&of, context, all)));
        }
        for cluster in &self.config.clusters {
            let context = cluster.tls.as_ref().filter(|context| context.cert_chain.is_some());
            found.extend(context.map(|context| self.of_cluster(&format!("cluster {}", cluster.name), context)));
        }
        found
    }

    fn of_listener(&mut self, of: &str, context: &TlsConfig, all: &[TlsConfig]) -> Certificate {
        let (backend, why) = chosen(context, all);
        let mut certificate = Certificate::new(of, context, backend, why);
        // As the listener does it, though this certificate by itself might be another backend's.
        let mut alone = context.clone();
        alone.backend = if backend == RUSTLS { TlsBackend::Rustls } else { TlsBackend::OpenSsl };
        let made = make_server(std::slice::from_ref(&alone), &mut self.open);
        let made = made.and_then(|_| identity(context, &mut self.open)).map_err(|fault| fault.message);
        match made {
            Ok(identity) => self.measure(&mut certificate, context, &identity),
            Err(error) => certificate.error = Some(error),
        }
        certificate
    }

    /// What origins are shown: always by software.
    fn of_cluster(&mut self, of: &str, context: &TlsConfig) -> Certificate {
        let (backend, why) = chosen(context, &[]);
        let mut certificate = Certificate::new(of, context, backend, why);
        match identity(context, &mut self.open) {
            Ok(identity) => self.measure(&mut certificate, context, &identity),
            Err(fault) => certificate.error = Some(fault.message),
        }
        certificate
    }

    fn measure(&mut self, certificate: &mut Certificate, context: &TlsConfig, identity: &Identity) {
        let about = match about(&identity.certificates) {
            Ok(about) => about,
            Err(error) => return certificate.error = Some(error.to_string()),
        };
        certificate.names = about.names.iter().map(ToString::to_string).collect();
        certificate.key = about.key.to_string();
        if let Some(config) = &context.accelerated_by
            && self.open.get(config).is_ok_and(|accelerator| accelerator.counts().is_left)
        {
            certificate.caveat =
                Some("it fails the handshake that a start begins with: software computes until it is back");
        }
        let kind = (about.key, context.accelerator.clone());
        let known = self.measured.iter().find(|(known, _)| *known == kind).map(|(_, rates)| rates.clone());
        let rates = known.unwrap_or_else(|| {
            let rates = rates(context, identity);
            self.measured.push((kind, rates.clone()));
            rates
        });
        certificate.error = rates.error.clone().filter(|_| certificate.caveat.is_none());
        certificate.rates = rates;
    }
}

/// By software, where it can have the key, and by the accelerator, one at a time and many.
fn rates(context: &TlsConfig, identity: &Identity) -> Rates {
    let mut rates = Rates::default();
    if let (Some(chain), Some(key)) =
        (&context.cert_chain, context.private_key.as_ref().filter(|key| !matches!(key, schema::Pem::Stored(_))))
    {
        rates.software = rate_in_software(&pem(chain), &pem(key), MEASURE).ok().map(|rate| Rate::of("", &rate));
    }
    let can_pause = context.accelerated_by.as_ref().is_some_and(|config| config.asynchronous);
    for at_once in AT_ONCE.into_iter().take(if can_pause { 2 } else { 1 }) {
        match rate_in_accelerator(identity, at_once, MEASURE) {
            None => {}
            Some(Ok(rate)) => rates.accelerator.push(Rate::of("", &rate)),
            Some(Err(error)) => {
                rates.error = Some(error.to_string());
                break;
            }
        }
    }
    rates
}

/// The backend of a context among those of its listener, and the reason.
fn chosen(context: &TlsConfig, all: &[TlsConfig]) -> (&'static str, String) {
    let said = match context.backend {
        TlsBackend::Rustls => Some(RUSTLS),
        TlsBackend::OpenSsl => Some(OPENSSL),
        TlsBackend::Auto => None,
    };
    let backend = said.unwrap_or(match all.iter().any(|other| other.accelerated_by.is_some()) {
        true => OPENSSL,
        false => RUSTLS,
    });
    let why = match (said, &context.accelerated_by) {
        (Some(_), None) => "tls_backend.backend says so, and software signs".to_owned(),
        (Some(_), Some(config)) => {
            format!("tls_backend.backend says so; {} signs, {}", config.name, fallback(config, context))
        }
        (None, Some(config)) => format!("{} has the key and signs, {}", config.name, fallback(config, context)),
        (None, None) if backend == OPENSSL => {
            "a certificate of the same listener has its key in an accelerator; software signs for this one".to_owned()
        }
        (None, None) => "it is the fastest in software, and no accelerator has the key".to_owned(),
    };
    (backend, why)
}

fn fallback(config: &AcceleratorConfig, context: &TlsConfig) -> &'static str {
    let is_stored = matches!(context.private_key, Some(schema::Pem::Stored(_)));
    match config.fallback {
        AcceleratorFallback::Software if !is_stored => "and where it fails software does",
        AcceleratorFallback::Software | AcceleratorFallback::Fail => "and a handshake that it fails does fail",
    }
}

/// What this thread has had of its core.
fn cpu() -> Option<Duration> {
    let counted = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(counted.split_whitespace().next()?.parse().ok()?))
}

const RUSTLS: &str = "rustls";
const OPENSSL: &str = "OpenSSL";
/// For each figure.
const MEASURE: Measure = Measure { time: Duration::from_millis(300), clock, cpu };
/// Operations at a time: what one handshake sees, and what many share.
const AT_ONCE: [usize; 2] = [1, 64];
