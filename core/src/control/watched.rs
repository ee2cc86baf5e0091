//! Files whose change is a reload: the configuration, and what its TLS contexts name.
//!
//! **Invariant:** looks, and reads nothing; a configuration that is not there has not changed to anything.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::config::schema::TlsConfig;

/// The files of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    path: PathBuf,
    others: BTreeSet<PathBuf>,
}

impl Watched {
    /// Of the configuration at `path`.
    pub(super) fn new(path: &Path, config: Option<&Config>) -> Self {
        let mut watched = Self { path: path.into(), others: BTreeSet::new() };
        config.into_iter().for_each(|config| watched.take_over(config));
        watched
    }

    /// From now on those of another configuration in the same file.
    pub(super) fn take_over(&mut self, config: &Config) {
        let listeners = config.server.listeners.iter().flat_map(|listener| &listener.tls);
        let clusters = config.clusters.iter().filter_map(|cluster| cluster.tls.as_ref());
        self.others = listeners.chain(clusters).flat_map(TlsConfig::files).map(Into::into).collect();
    }

    /// What changes when one of them is written, or another takes its name. None: the configuration is not there.
    pub(super) fn stamp(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        stamp(&self.path)?.hash(&mut hasher);
        self.others.iter().for_each(|other| stamp(other).hash(&mut hasher));
        Some(hasher.finish())
    }

    /// With very many files they are not looked at each time, but at each so many-th.
    pub(super) fn interval(&self) -> usize {
        1 + self.others.len() / FILES_PER_LOOK
    }
}

fn stamp(path: &Path) -> Option<(u64, i64, i64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
}

/// About a millisecond.
const FILES_PER_LOOK: usize = 1000;
