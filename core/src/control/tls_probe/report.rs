//! What the probe has found: for people as text, for programs as JSON.
//!
//! **Invariant:** both say the same.

use std::fmt;

use serde::Serialize;

use super::{Ability, ConfigError, SignRate, TlsConfig};

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) backends: Vec<Backend>,
    /// None: there are no engines at all.
    pub(super) engines: Option<Modules>,
    pub(super) providers: Option<Modules>,
    /// How fast rustls signs with keys that were made for this.
    pub(super) software: Vec<Found<Rate>>,
    pub(super) file: Option<File>,
}

/// A result, or why there is none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Found<T> {
    Good(T),
    Bad { error: String },
}

#[derive(Debug, Serialize)]
pub(super) struct Backend {
    pub(super) name: &'static str,
    pub(super) says: String,
    pub(super) is_there: bool,
    pub(super) versions: Vec<&'static str>,
    pub(super) groups: Vec<&'static str>,
    /// Whether its handshakes can pause for an accelerator.
    pub(super) can_pause: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Modules {
    pub(super) folder: String,
    pub(super) found: Vec<Loaded>,
}

/// A provider or an engine.
#[derive(Debug, Serialize)]
pub(super) struct Loaded {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    can: Vec<Can>,
}

/// One thing that it can do.
#[derive(Debug, Serialize)]
struct Can {
    what: String,
    names: Vec<String>,
}

/// What a configuration file names.
#[derive(Debug, Default, Serialize)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) errors: Vec<String>,
    pub(super) accelerators: Vec<Accelerator>,
    pub(super) certificates: Vec<Certificate>,
}

#[derive(Debug, Serialize)]
pub(super) struct Accelerator {
    pub(super) kind: &'static str,
    pub(super) id: String,
    /// `async`.
    pub(super) pauses: bool,
    #[serde(flatten)]
    pub(super) module: Loaded,
}

#[derive(Debug, Serialize)]
pub(super) struct Certificate {
    of: String,
    place: String,
    pub(super) names: Vec<String>,
    pub(super) key: String,
    backend: &'static str,
    /// The accelerator's name, or `software`.
    signs: String,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) caveat: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(flatten)]
    pub(super) rates: Rates,
}

/// How fast the key of a certificate signs.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Rates {
    /// None: software can't have the key.
    #[serde(rename = "in_software")]
    pub(super) software: Option<Rate>,
    #[serde(rename = "in_accelerator")]
    pub(super) accelerator: Vec<Rate>,
    #[serde(skip)]
    pub(super) error: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Rate {
    #[serde(skip_serializing_if = "str::is_empty")]
    key: &'static str,
    at_once: usize,
    per_second: f64,
    /// What each takes of the thread that asks for it.
    worker_us: Option<f64>,
    /// How many of them paused for an accelerator.
    paused: u64,
    count: u64,
}

impl Report {
    /// Whether everything that the file names can be used.
    pub(super) fn is_good(&self) -> bool {
        self.file.as_ref().is_none_or(|file| {
            file.errors.is_empty()
                && file.accelerators.iter().all(|accelerator| accelerator.module.error.is_none())
                && file.certificates.iter().all(|certificate| certificate.error.is_none())
        })
    }
}

impl Loaded {
    pub(super) fn of(found: Result<Vec<Ability>, ConfigError>, name: String) -> Self {
        let one = |ability: Ability| Can { what: ability.what.to_string(), names: ability.names };
        match found {
            Ok(found) => Self { name, error: None, can: found.into_iter().map(one).collect() },
            Err(ConfigError::NoAccelerator { cause, .. }) => {
                Self { name, error: Some(format!("can't be loaded: {cause}")), can: Vec::new() }
            }
            Err(error) => Self { name, error: Some(error.to_string()), can: Vec::new() },
        }
    }
}

impl Certificate {
    pub(super) fn new(of: &str, context: &TlsConfig, backend: &'static str, why: String) -> Self {
        let accelerator = Some(context.accelerator.clone()).filter(|name| !name.is_empty());
        Self {
            of: of.to_owned(),
            place: context.origin.path.clone(),
            names: Vec::new(),
            key: String::new(),
            backend,
            signs: accelerator.unwrap_or_else(|| "software".to_owned()),
            why,
            caveat: None,
            error: None,
            rates: Rates::default(),
        }
    }
}

impl Rate {
    pub(super) fn of(key: &'static str, rate: &SignRate) -> Self {
        Self {
            key,
            at_once: rate.at_once,
            per_second: rounded(rate.per_second()),
            worker_us: rate.cpu_us().map(rounded),
            paused: rate.paused,
            count: rate.count,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "backends")?;
        self.backends.iter().try_for_each(|backend| backend.fmt(f))?;
        let is_built = self.providers.is_some();
        for (title, modules) in [("engines", &self.engines), ("providers", &self.providers)] {
            match modules {
                Some(modules) => write!(f, "{title} in {}\n{modules}", modules.folder)?,
                None if is_built => writeln!(f, "{title}\n  this OpenSSL has none")?,
                None => {}
            }
        }
        writeln!(f, "software, one core")?;
        for found in &self.software {
            match found {
                Found::Good(rate) => writeln!(f, "  rustls signs with {}: {rate}", rate.key)?,
                Found::Bad { error } => writeln!(f, "  rustls does not sign: {error}")?,
            }
        }
        match &self.file {
            Some(file) => file.fmt(f),
            None => writeln!(f, "with -c FILE: who computes for its certificates, and how fast its accelerators sign"),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}: {}", self.name, self.says)?;
        if !self.is_there {
            return Ok(());
        }
        let pauses = if self.can_pause { "handshakes can pause for an accelerator" } else { "no handshake can pause" };
        writeln!(f, "    {}; {}; {pauses}", self.versions.join(", "), self.groups.join(", "))
    }
}

impl fmt::Display for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.found.is_empty() {
            writeln!(f, "  none")?;
        }
        self.found.iter().try_for_each(|module| writeln!(f, "  {}: {module}", module.name))
    }
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = &self.error {
            return f.write_str(error);
        }
        let one = |can: &Can| match can.names.get(NAMES_SHOWN..).map_or(0, <[_]>::len) {
            0 => format!("{} {}", can.what, can.names.join(", ")),
            more => format!("{} {} and {more} more", can.what, can.names[..NAMES_SHOWN].join(", ")),
        };
        let all: Vec<_> = self.can.iter().map(one).collect();
        f.write_str(if all.is_empty() { "nothing that TLS needs" } else { "" })?;
        f.write_str(&all.join("; "))
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        self.errors.iter().try_for_each(|error| writeln!(f, "  {error}"))?;
        for Accelerator { kind, id, pauses, module } in &self.accelerators {
            let pauses = if *pauses { "" } else { ", async: false" };
            writeln!(f, "  accelerator {} ({kind} {id}{pauses}): {module}", module.name)?;
        }
        self.certificates.iter().try_for_each(|certificate| certificate.fmt(f))
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}, {}", self.of, self.place)?;
        if !self.key.is_empty() {
            writeln!(f, "    {} for {}", self.key, self.names.join(", "))?;
        }
        writeln!(f, "    {}: {}", self.backend, self.why)?;
        if let Some(caveat) = self.caveat {
            writeln!(f, "    {}: {caveat}", self.signs)?;
        }
        if let Some(error) = &self.error {
            writeln!(f, "    can't be served: {error}")?;
        }
        self.rates.print(&self.signs, f)
    }
}

impl Rates {
    fn print(&self, signs: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rate) = &self.software {
            writeln!(f, "    software signs {rate}")?;
        }
        for rate in &self.accelerator {
            let pauses = if rate.paused == 0 { "; it never paused: a worker stands still for each" } else { "" };
            writeln!(f, "    {signs} signs, {} at a time, {rate}{pauses}", rate.at_once)?;
        }
        match (&self.software, self.accelerator.last()) {
            (Some(software), Some(most)) => {
                let cores = most.per_second / software.per_second.max(1e-9);
                writeln!(f, "    {signs} signs as much as {cores:.1} cores{}", judged(software, most))
            }
            (None, Some(_)) => writeln!(f, "    software can't have the key"),
            _ => Ok(()),
        }
    }
}

/// Whether a worker has less to do with it.
fn judged(software: &Rate, most: &Rate) -> &'static str {
    match (software.worker_us, most.worker_us) {
        (Some(software), Some(with)) if with < software => ", and spares a worker more than it takes",
        (Some(_), Some(_)) => {
            ", but asking it takes more of a worker than signing itself: it is not worth it for speed"
        }
        _ => "",
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} times a second", self.per_second)?;
        match self.worker_us {
            Some(us) => write!(f, ", {us:.1} us of a core each"),
            None => Ok(()),
        }
    }
}

/// To a tenth.
fn rounded(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

/// Names of one ability that text has; JSON has all.
const NAMES_SHOWN: usize = 8;
