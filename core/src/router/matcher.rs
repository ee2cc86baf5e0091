//! Paths as routes compare them.
//!
//! **Invariant:** a path is compared as an origin will take it: `/%61dmin`, `//admin` and `/x/../admin` are all `/admin`.

use std::cell::RefCell;

use crate::config::schema::PathMatch;

/// One route's condition.
#[derive(Debug)]
pub(super) enum Matcher {
    /// The path starts with this.
    Prefix(Box<[u8]>),
    /// The path is this, but for the case of ASCII letters.
    Path(Box<[u8]>),
}

impl Matcher {
    pub(super) fn new(path: &PathMatch) -> Self {
        match path {
            PathMatch::Prefix(text) => Self::Prefix(text.as_bytes().into()),
            PathMatch::Path(text) => Self::Path(text.as_bytes().into()),
        }
    }

    /// Whether the route takes a request for this normal path.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Prefix(prefix) => path.starts_with(prefix),
            Self::Path(whole) => path.eq_ignore_ascii_case(whole),
        }
    }
}

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

/// Whether nothing is to be done: no escape, no `//` and nothing that starts with `/.`.
fn is_normal(path: &[u8]) -> bool {
    memchr::memchr(b'%', path).is_none()
        && memchr::memchr_iter(b'/', path).all(|slash| !matches!(path.get(slash + 1), Some(b'/' | b'.')))
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
    fn matching_is_as_in_the_table_of_rules() {
        let prefix = |text: &str| Matcher::new(&PathMatch::Prefix(text.into()));
        let path = |text: &str| Matcher::new(&PathMatch::Path(text.into()));
        for (matcher, request, matches) in [
            (prefix("/foo"), "/foobar", true),
            (prefix("/foo"), "/foo", true),
            (prefix("/foo"), "/Foo", false),
            (prefix("/foo"), "/fo", false),
            (prefix("/"), "/", true),
            (path("/Foo"), "/fOO", true),
            (path("/foo"), "/foo/", false),
            (path("/é"), "/É", false),
        ] {
            assert_eq!(matcher.matches(request.as_bytes()), matches, "{matcher:?} {request}");
        }
    }
}
