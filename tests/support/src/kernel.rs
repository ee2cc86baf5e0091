//! What the kernel that the tests run on allows.
//!
//! **Invariant:** reads, and changes nothing.

/// The third number of `/proc/sys/net/ipv4/NAME`: how large the kernel lets a socket's buffer grow, in bytes. Since Linux 6.16 a receiver's
/// may have 32 MiB.
///
/// # Panics
/// When there is no such number.
#[must_use]
pub fn limit_bytes(name: &str) -> u64 {
    let path = format!("/proc/sys/net/ipv4/{name}");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    text.split_whitespace().nth(2).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{path}: {text:?}"))
}
