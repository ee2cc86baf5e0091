//! Looking at configuration files without serving them: what is wrong with one, and what a reload would change.
//!
//! **Invariant:** starts nothing and changes nothing; of a running process only its configuration is asked for.

use std::path::Path;

use crate::config::plan::Plan;
use crate::config::schema::Config;
use crate::config::{Address, Diagnostic, Document};
use crate::control::{Certificates, ask};
use crate::net::Transport;
use crate::snapshot::{Fault, MakeTls, Snapshot};

/// A file that was looked at.
#[derive(Debug)]
pub struct Review {
    /// The file.
    pub document: Document,
    /// What it says, with the first generation made of it. None when the file can't be used.
    pub good: Option<(Config, Snapshot)>,
    /// Everything that is wrong with it, and every warning.
    pub found: Vec<Diagnostic>,
    /// The certificates of the generation, for the next one to keep.
    pub certificates: Certificates,
}

/// What a plan is made against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Against {
    /// A file.
    File(String),
    /// A running process, by its admin API.
    Running(Address),
}

impl Review {
    /// Reads a file, its directories and its certificates.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let document = Document::load(path);
        let mut certificates = Certificates::default();
        let (config, mut found) = document.read();
        let Some(config) = config else { return Self { document, good: None, found, certificates } };
        if found.iter().any(Diagnostic::is_error) {
            // A generation can't be made, but certificates can be looked at.
            let errors = certificate_errors(&config);
            if !errors.is_empty() {
                found.extend(errors);
                found.sort_by_key(|d| (config.files.iter().position(|f| *f == d.file), d.line, d.column));
            }
            return Self { document, good: None, found, certificates };
        }
        let good = match Snapshot::build(&config, None, &mut certificates) {
            Ok(snapshot) => {
                let caveats = certificates.take_caveats().into_iter();
                found.extend(caveats.map(|d| config.warning_at(&d.origin, d.message, d.remedy)));
                Some((config, snapshot))
            }
            Err(errors) => {
                found.extend(errors);
                None
            }
        };
        Self { document, good, found, certificates }
    }

    /// Prints what was found, and whether the file is good. With `strict` a warning is as bad as an error.
    pub fn print(&self, strict: bool) -> bool {
        for diagnostic in &self.found {
            eprintln!("{diagnostic}");
        }
        self.good.is_some() && (!strict || self.found.is_empty())
    }
}

/// `ferrogate check`: says everything that is wrong with a file, and whether it is good.
#[must_use]
pub fn check(path: &Path, strict: bool) -> bool {
    let good = Review::of(path).print(strict);
    if good {
        println!("{}: good", path.display());
    }
    good
}

/// `ferrogate plan`: prints what would change if the process at `against` read this file. Without `against` that is the process whose
/// admin API the file names.
///
/// # Errors
/// Why there is no plan, in words.
pub async fn plan<T: Transport>(transport: &T, path: &Path, against: Option<&str>) -> Result<(), String> {
    let new = Review::of(path);
    if !new.print(false) {
        return Err(format!("{} would be refused: nothing would change", path.display()));
    }
    let admin = new.good.as_ref().and_then(|(config, _)| config.admin.clone());
    let old = match against.map(Against::of).or(admin.map(Against::Running)) {
        None => return Err("the file names no admin API to ask; say what to compare with by --against".into()),
        Some(Against::File(file)) => {
            let old = Document::load(Path::new(&file));
            match old.read() {
                (_, found) if !found.iter().any(Diagnostic::is_error) => old,
                (_, found) => return Err(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
            }
        }
        Some(Against::Running(address)) => running(transport, &address).await?,
    };
    println!("{}", Plan::between(&old, &new.document));
    Ok(())
}

impl Against {
    /// A file, if there is one of this name; else an address.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text.parse() {
            Ok(address) if !Path::new(text).is_file() => Self::Running(address),
            _ => Self::File(text.to_owned()),
        }
    }
}

fn certificate_errors(config: &Config) -> Vec<Diagnostic> {
    let mut certificates = Certificates::default();
    let mut found: Vec<Fault> = Vec::new();
    for listener in config.server.listeners.iter().filter(|l| !l.tls.is_empty()) {
        // Where a key is missing that was told already.
        if listener.tls.iter().all(|t| t.cert_chain.is_some() && t.private_key.is_some()) {
            found.extend(certificates.server(&listener.tls, None).err());
        }
    }
    for context in config.clusters.iter().filter_map(|c| c.tls.as_ref()) {
        found.extend(certificates.client(context, None).err());
    }
    found.into_iter().map(|f| config.error_at(&f.origin, f.message, f.remedy)).collect()
}

/// The configuration that a process runs by.
async fn running<T: Transport>(transport: &T, address: &Address) -> Result<Document, String> {
    let body = ask::get(transport, address, DUMP).await?;
    Ok(Document::of_dump(&String::from_utf8_lossy(&body), &format!("{address}{DUMP}")))
}

/// The path of the configuration in force.
const DUMP: &str = "/api/v1/config_dump";
