//! Paths as routes compare them, and as rewrites write them.
//!
//! **Invariant:** a path is compared as an origin will take it: `/%61dmin`, `//admin` and `/x/../admin` are all `/admin`.

use std::cell::RefCell;

/// Shows `f` the path percent-decoded, without double slashes and dot segments (RFC 3986, 6.2.2). A normal path is shown as it is.
pub(crate) fn with_normal_path<R>(path: &[u8], f: impl FnOnce(&[u8]) -> R) -> R {
    if is_normal(path) {
        return f(path);
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        decode(path, scratch);
        resolve_dots(scratch);
        let result = f(scratch);
        if scratch.capacity() > SCRATCH_BYTES_MAX {
            *scratch = Vec::new();
        }
        result
    })
}

/// Writes the normal form of `path` into `out`; says whether percent-decoding was all that it took.
pub(super) fn normal_path(path: &[u8], out: &mut Vec<u8>) -> bool {
    decode(path, out);
    let decoded = out.len();
    let before = if is_plain(out) { None } else { Some(out.clone()) };
    resolve_dots(out);
    out.len() == decoded && before.is_none_or(|before| before == *out)
}

/// Writes a normal path as a request target may have it (RFC 3986, 3.3): what may not stand there is percent-encoded.
pub(super) fn encode(path: &[u8], out: &mut Vec<u8>) {
    for &byte in path {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            out.push(byte);
        } else {
            let hex = |nibble: u8| b"0123456789ABCDEF"[usize::from(nibble & 15)];
            out.extend([b'%', hex(byte >> 4), hex(byte)]);
        }
    }
}

/// Whether nothing is to be done: no escape, no `//` and nothing that starts with `/.`.
pub(super) fn is_normal(path: &[u8]) -> bool {
    memchr::memchr(b'%', path).is_none() && is_plain(path)
}

/// Whether there is no `//` and nothing that starts with `/.`.
fn is_plain(path: &[u8]) -> bool {
    memchr::memchr_iter(b'/', path).all(|slash| !matches!(path.get(slash + 1), Some(b'/' | b'.')))
}

/// Percent-decodes. What is no escape (`%zz`, `%4` at the end) stays as it is.
fn decode(path: &[u8], out: &mut Vec<u8>) {
    let digit = |at: usize| path.get(at).and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

/// Merges slashes and resolves `.` and `..` in place (RFC 3986, 5.2.4). What does not start with a slash is no path and stays.
fn resolve_dots(path: &mut Vec<u8>) {
    if path.first() != Some(&b'/') {
        return;
    }
    // What is kept ends at `kept`, without a slash behind it; it never overtakes what is read.
    let (mut kept, mut at) = (0, 0);
    let mut ends_in_slash = false;
    while at < path.len() {
        let start = at + 1;
        let end = memchr::memchr(b'/', &path[start..]).map_or(path.len(), |n| start + n);
        ends_in_slash = false;
        match &path[start..end] {
            b"" | b"." => ends_in_slash = true,
            b".." => {
                kept = memchr::memrchr(b'/', &path[..kept]).unwrap_or(0);
                ends_in_slash = true;
            }
            _ => {
                path.copy_within(at..end, kept);
                kept += end - at;
            }
        }
        at = end;
    }
    path.truncate(kept);
    if ends_in_slash || path.is_empty() {
        path.push(b'/');
    }
}

thread_local! {
    /// Where a path that is not normal is made normal: rare, but no reason to allocate.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A larger scratch is given back, in bytes.
const SCRATCH_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_become_normal() {
        for (raw, normal) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a///b", "/a/b"),
            ("/./a", "/a"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/../b", "/b"),
            ("/../../a", "/a"),
            ("/a/./b/../../c", "/c"),
            ("/%2e%2E/a", "/a"),
            ("/a%2Fb", "/a/b"),
            ("/a%2f..%2fb", "/b"),
            ("/%61%62", "/ab"),
            ("/%zz%4", "/%zz%4"),
            ("/%", "/%"),
            ("/%252e", "/%2e"),
            ("/.a/..b/...", "/.a/..b/..."),
            ("*", "*"),
            ("", ""),
            ("a/%2e%2e", "a/.."),
        ] {
            let found = with_normal_path(raw.as_bytes(), |p| String::from_utf8(p.to_vec()).unwrap());
            assert_eq!(found, normal, "{raw}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_normal_path_has_no_dots_and_stays_as_it_is(raw in "/([x./]|%2e|%2F|%25|%){0,40}") {
            let normal = with_normal_path(raw.as_bytes(), <[u8]>::to_vec);
            let text = String::from_utf8(normal.clone()).unwrap();
            prop_assert!(text.starts_with('/') && !text.contains("//"), "{raw} -> {text}");
            prop_assert!(text.split('/').all(|segment| segment != "." && segment != ".."), "{raw} -> {text}");
            if !text.contains('%') {
                prop_assert_eq!(with_normal_path(&normal, <[u8]>::to_vec), normal);
            }
        }
    }

    #[test]
    fn what_only_needs_decoding_is_told_apart() {
        for (raw, normal, decoded) in [
            ("/a%2Fb", "/a/b", true),
            ("/a/.b/%20", "/a/.b/ ", true),
            ("/a/%2e/b", "/a/b", false),
            ("/a/..", "/", false),
            ("/a//", "/a/", false),
        ] {
            let mut out = Vec::new();
            assert_eq!((normal_path(raw.as_bytes(), &mut out), out.as_slice()), (decoded, normal.as_bytes()), "{raw}");
        }
    }

    #[test]
    fn what_is_no_path_is_encoded() {
        let mut out = Vec::new();
        encode("/a b/\u{e9}%?#\"<x>@:;=\r\n".as_bytes(), &mut out);
        assert_eq!(out, b"/a%20b/%C3%A9%25%3F%23%22%3Cx%3E@:;=%0D%0A");
    }
}
