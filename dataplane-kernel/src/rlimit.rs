//! How many descriptors this process may have open.
//!
//! **Invariant:** asks, never raises: what an operator has set stays.

/// The soft limit of open files (RLIMIT_NOFILE), as the kernel shows it; a common default when it can't be read.
#[must_use]
pub fn open_files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    parse(&limits).unwrap_or(OPEN_FILES_DEFAULT)
}

fn parse(limits: &str) -> Option<usize> {
    let line = limits.lines().find(|l| l.starts_with("Max open files"))?;
    match line.split_whitespace().nth(3)? {
        "unlimited" => Some(OPEN_FILES_UNLIMITED),
        soft => soft.parse().ok(),
    }
}

/// What most systems give a process.
const OPEN_FILES_DEFAULT: usize = 1024;

/// What "unlimited" is taken for: tables are sized by it.
const OPEN_FILES_UNLIMITED: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_found() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            20000                30000                files     \n";
        assert_eq!(parse(text), Some(20_000));
        assert_eq!(parse("Max open files            unlimited            unlimited            files"), Some(1 << 20));
        assert_eq!(parse(""), None);
        assert!(open_files_max() > 0);
    }
}
