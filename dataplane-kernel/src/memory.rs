//! How much memory this process may use.
//!
//! **Invariant:** asks, never sets; the smallest of what the host and each control group above the process allow.

use std::fs;
use std::path::Path;

/// Bytes of memory that the process may use: the host's, or what its control groups (version 2) leave of it.
#[must_use]
pub fn memory_bytes() -> u64 {
    let host = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text)).unwrap_or(HOST_BYTES_DEFAULT);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups_max(&groups, Path::new("/sys/fs/cgroup")).map_or(host, |max| max.min(host))
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|l| l.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The smallest `memory.max` of the group in `cgroup` and of those above it.
fn groups_max(cgroup: &str, root: &Path) -> Option<u64> {
    let own = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let group = root.join(own.trim_start_matches('/'));
    let above = group.ancestors().take_while(|path| path.starts_with(root));
    above.filter_map(|path| fs::read_to_string(path.join("memory.max")).ok()?.trim().parse().ok()).min()
}

/// What is taken for the host's memory when it can't be read.
const HOST_BYTES_DEFAULT: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_of_host_and_groups_counts() {
        assert_eq!(total("MemTotal:        1024 kB\nMemFree: 1 kB\n"), Some(1 << 20));
        assert_eq!(total(""), None);
        let root = std::env::temp_dir().join(format!("ferrogate-cgroup-{}", std::process::id()));
        let write = |group: &str, max: &str| {
            fs::create_dir_all(root.join(group)).unwrap();
            fs::write(root.join(group).join("memory.max"), max).unwrap();
        };
        write("a/b", "max\n");
        assert_eq!(groups_max("0::/a/b\n", &root), None);
        write("a", "4096\n");
        write("a/b", "8192\n");
        assert_eq!(groups_max("0::/a/b\n", &root), Some(4096));
        assert_eq!(groups_max("1:memory:/x\n", &root), None, "version 1 is not asked");
        fs::remove_dir_all(&root).unwrap();
        assert!(memory_bytes() > 0);
    }
}
