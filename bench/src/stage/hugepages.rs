//! Hugepages for the DPDK plane: taken when too few are free, given back at the end.
//!
//! **Invariant:** the count after a run is the count before it.

use std::fs;
use std::path::Path;

/// Holds the count that was there before. Dropped, it puts it back.
#[derive(Debug)]
pub struct Hugepages {
    before: Option<u64>,
}

impl Hugepages {
    /// Sees to it that so much is free in pages of 2 MiB. None when it can't be had: then EAL runs without, slower.
    #[must_use]
    pub fn take(mib: u64) -> Option<Self> {
        let (wanted, free) = (mib / 2, read("free_hugepages")?);
        if free >= wanted {
            return Some(Self { before: None });
        }
        let total = read("nr_hugepages")?;
        let taken = Self { before: Some(total) };
        write("nr_hugepages", total + wanted - free)?;
        // Dropped, and so undone, where memory is too scattered for all of them.
        (read("free_hugepages")? >= wanted).then_some(taken)
    }
}

impl Drop for Hugepages {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            let _ = write("nr_hugepages", before);
        }
    }
}

fn read(name: &str) -> Option<u64> {
    fs::read_to_string(Path::new(FOLDER).join(name)).ok()?.trim().parse().ok()
}

fn write(name: &str, count: u64) -> Option<()> {
    fs::write(Path::new(FOLDER).join(name), count.to_string()).ok()
}

const FOLDER: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
