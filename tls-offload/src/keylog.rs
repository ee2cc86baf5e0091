//! A file for the keys of sessions, in the format that Wireshark reads (NSS's, SSLKEYLOGFILE).
//!
//! **Invariant:** there is none but where the configuration names one, and only its owner may read it.

#![allow(clippy::disallowed_types, reason = "for looking into traffic, never for serving much of it")]

use std::fmt::Write as _;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ::rustls::KeyLog;

use crate::error::{ConfigError, Place};

/// The file, to which every session appends.
#[derive(Debug)]
pub(crate) struct KeyLogFile(Mutex<File>);

impl KeyLogFile {
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>, ConfigError> {
        let open = || {
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            // Of one that was there the mode is as it was.
            file.set_permissions(Permissions::from_mode(0o600))?;
            Ok(file)
        };
        let failed = |cause| ConfigError::KeyLog { place: Place::File(path.into()), cause };
        open().map(|file| Arc::new(Self(Mutex::new(file)))).map_err(failed)
    }

    /// A line without its end.
    pub(crate) fn put(&self, line: &[u8]) {
        let whole = [line, b"\n"].concat();
        // A full disk must not end a session.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&whole);
    }
}

impl KeyLog for KeyLogFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = label.to_owned();
        for bytes in [client_random, secret] {
            line.push(' ');
            bytes.iter().for_each(|byte| {
                // A string takes whatever is written.
                let _ = write!(line, "{byte:02x}");
            });
        }
        self.put(line.as_bytes());
    }
}
