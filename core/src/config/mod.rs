//! The configuration file: MOSN's schema and our sections, in JSON or YAML, read with every mistake told at once.
//!
//! [`Config::load`] reads the text and the directories it names into a tree that knows its places (`document`, `tree`), walks it by the
//! schema (`read`, one function a map, over the typed looks of `reader`), asks the tables of `keys` about everything else that stands
//! there, and checks names across the file (`check`). What comes out is plain data (`schema`); `crate::snapshot` makes a generation of
//! it. `plan` compares two trees by the same tables.
//!
//! **Invariant:** data only: nothing here opens a socket or a device, and the only files that are opened are the configuration itself
//! and those of the directories that it names.

mod address;
mod check;
pub mod dataplane;
pub mod diagnostic;
mod document;
mod json;
mod keys;
pub mod limits;
pub mod log_format;
mod log_roller;
mod network;
pub mod plan;
mod read;
mod reader;
mod scalar;
pub mod schema;
mod tree;

use std::path::Path;

pub use address::{Address, AddressError};
pub use diagnostic::{Diagnostic, Origin, Place, Severity};
pub use document::Document;
pub use keys::{json_schema, reference_page};
pub use limits::Limits;
pub use log_roller::LogRoller;
pub use schema::Config;

impl Config {
    /// Reads a file. The reports of a file that is taken are warnings.
    ///
    /// # Errors
    /// Everything that is wrong with the file, in its order, warnings included.
    pub fn load(path: &Path) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        Self::of(&Document::load(path))
    }

    /// Reads a text; `file` is its name in reports. The reports of a text that is taken are warnings.
    ///
    /// # Errors
    /// Everything that is wrong with the text, in its order, warnings included.
    pub fn parse(text: &str, file: &str) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        Self::of(&Document::parse(text, file))
    }

    /// Reads a document. The reports of a document that is taken are warnings.
    ///
    /// # Errors
    /// Everything that is wrong with the document, in its order, warnings included.
    pub fn of(document: &Document) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        match document.read() {
            (Some(config), found) if !found.iter().any(Diagnostic::is_error) => Ok((config, found)),
            (_, found) => Err(found),
        }
    }

    /// An error about the thing at `origin`, for those who act on the configuration later (a certificate that can't be read).
    #[must_use]
    pub fn error_at(&self, origin: &Origin, message: impl Into<String>, remedy: impl Into<String>) -> Diagnostic {
        let file = self.files.get(origin.place.file as usize).map_or("", String::as_str);
        Diagnostic::error_at(file, origin, message, remedy)
    }

    /// A warning about the thing at `origin`, in the same way.
    #[must_use]
    pub fn warning_at(&self, origin: &Origin, message: impl Into<String>, remedy: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..self.error_at(origin, message, remedy) }
    }
}

/// The largest configuration, the files of its directories included, in bytes.
pub const FILE_BYTES_MAX: u64 = 32 << 20;
