//! The configuration file: MOSN's schema and our sections, in JSON or YAML, read with every mistake told at once.
//!
//! [`Config::load`] reads the text into a tree that knows its places (`tree`), walks it by the schema (`read`, one function a map, over
//! the typed looks of `reader`), asks the tables of `keys` about everything else that stands there, and checks names across the file
//! (`check`). What comes out is plain data (`schema`); `crate::snapshot` makes a generation of it.
//!
//! **Invariant:** data only: nothing here opens a socket or a device, and the only file that is opened is the configuration itself.

mod address;
mod check;
pub mod dataplane;
pub mod diagnostic;
mod keys;
pub mod limits;
pub mod log_format;
mod log_roller;
mod read;
mod reader;
mod scalar;
pub mod schema;
mod tree;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use address::{Address, AddressError};
pub use diagnostic::{Diagnostic, Origin, Place, Severity};
pub use keys::reference_page;
pub use limits::Limits;
pub use log_roller::LogRoller;
pub use schema::Config;

impl Config {
    /// Reads a file. The reports of a file that is taken are warnings.
    ///
    /// # Errors
    /// Everything that is wrong with the file, in its order, warnings included.
    pub fn load(path: &Path) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            return Err(whole_file(&name, format!("can't be read: {error}"), ""));
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse(text, &name),
            Err(error) => {
                let line = 1 + memchr::memchr_iter(b'\n', &bytes[..error.valid_up_to()]).count();
                Err(whole_file(&name, format!("line {line} is not UTF-8"), "save the file as UTF-8"))
            }
        }
    }

    /// Reads a text; `file` is its name in reports. The reports of a text that is taken are warnings.
    ///
    /// # Errors
    /// Everything that is wrong with the text, in its order, warnings included.
    pub fn parse(text: &str, file: &str) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
            return Err(whole_file(file, format!("larger than {} MiB", FILE_BYTES_MAX >> 20), ""));
        }
        let mut reader = reader::Reader::new(file);
        let config = match tree::parse(text) {
            Err(error) => {
                reader.error(error.place, error.message, error.remedy);
                None
            }
            Ok(None | Some(tree::Node { value: tree::Value::Null, .. })) => {
                return Err(whole_file(file, "the file is empty".into(), ""));
            }
            Ok(Some(root)) => read::file(&mut reader, &root, file),
        };
        let found = reader.finish();
        match config {
            Some(config) if !found.iter().any(Diagnostic::is_error) => Ok((config, found)),
            _ => Err(found),
        }
    }
}

fn whole_file(file: &str, message: String, remedy: &str) -> Vec<Diagnostic> {
    vec![Diagnostic::error_at(file, &Origin::default(), message, remedy)]
}

/// The largest configuration file, in bytes.
pub const FILE_BYTES_MAX: u64 = 32 << 20;
