//! The path and the host that an origin is asked for.
//!
//! A path is rewritten in its normal form, in which it was matched. Where the path as it came differs from that by escapes only and begins as
//! it does, what follows the prefix stays as it came, escapes and all; else the normal form is escaped anew.
//!
//! **Invariant:** what comes out is a request target that starts with a slash, and a host that is one; nothing longer than was asked for.

use regex::bytes::Regex;

use super::path::{encode, is_normal, normal_path};
use crate::codec::http1::is_authority;
use crate::config::schema::{self, HostRewrite, PathMatch};
use crate::message::{HttpHead, Method};

/// How a path is rewritten.
#[derive(Debug)]
pub(super) enum PathRewrite {
    /// The first so many bytes, all of them matched, become this.
    Prefix(usize, Box<[u8]>),
    /// The whole path becomes this.
    Whole(Box<[u8]>),
    /// What is found first becomes this, as it stands.
    Found(Regex, Box<[u8]>),
    /// Each match becomes what the substitution makes of it.
    Each(Regex, Box<[u8]>),
}

/// A rewritten target is longer than a request line may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetTooLong;

impl PathRewrite {
    /// What the file says, for a route that matches so.
    pub(super) fn new(rewrite: &schema::PathRewrite, matching: &PathMatch) -> Option<Self> {
        Some(match rewrite {
            schema::PathRewrite::Regex { pattern, substitution } => {
                Self::Each(pattern.regex().clone(), substitution.as_bytes().into())
            }
            schema::PathRewrite::Prefix(text) => {
                let text = text.as_bytes().into();
                match matching {
                    PathMatch::Prefix(prefix) => Self::Prefix(prefix.len(), text),
                    PathMatch::Path(_) => Self::Whole(text),
                    PathMatch::Regex(pattern) => Self::Found(pattern.regex().clone(), text),
                    PathMatch::Any => return None,
                }
            }
        })
    }

    /// Rewrites the target of `head`, to at most `bytes_max`.
    ///
    /// # Errors
    /// When it would be longer.
    pub(super) fn apply(&self, head: &mut HttpHead, bytes_max: usize) -> Result<(), TargetTooLong> {
        let path = head.path();
        // CONNECT and `OPTIONS *` have no path.
        if head.method() == Method::Connect || path.first() != Some(&b'/') {
            return Ok(());
        }
        let mut target = Vec::with_capacity(path.len() + SPARE_BYTES);
        self.rewrite(path, &mut target, bytes_max)?;
        let all = head.path_and_query();
        if let Some(at) = memchr::memchr(b'?', all) {
            target.extend_from_slice(&all[at..]);
        }
        if target.len() > bytes_max {
            return Err(TargetTooLong);
        }
        to_origin_form(head);
        head.set_target(&target);
        Ok(())
    }

    /// Writes what `path`, which is as it came, becomes.
    fn rewrite(&self, path: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), TargetTooLong> {
        let mut normal = Vec::new();
        let plain = is_normal(path);
        let only_decoded = plain || normal_path(path, &mut normal);
        let normal = if plain { path } else { normal.as_slice() };
        let mut made = Vec::new();
        // What of the path stays as it came, behind what is made anew.
        let mut rest: &[u8] = &[];
        match self {
            Self::Whole(with) => made.extend_from_slice(with),
            Self::Prefix(len, with) => {
                made.extend_from_slice(with);
                // A CONNECT or an asterisk aside, the route would not have matched a path that is shorter.
                let tail = normal.get(*len..).unwrap_or_default();
                match path.get(*len..) {
                    Some(raw) if only_decoded && path.get(..*len) == normal.get(..*len) => rest = raw,
                    _ => made.extend_from_slice(tail),
                }
            }
            Self::Found(regex, with) => {
                let found = regex.find(normal).map_or(0..0, |found| found.range());
                made.extend_from_slice(&normal[..found.start]);
                made.extend_from_slice(with);
                made.extend_from_slice(&normal[found.end..]);
            }
            Self::Each(regex, with) => {
                if !regex.is_match(normal) {
                    out.extend_from_slice(path);
                    return Ok(());
                }
                let mut at = 0;
                for captures in regex.captures_iter(normal) {
                    let found = captures.get_match().range();
                    made.extend_from_slice(&normal[at..found.start]);
                    captures.expand(with, &mut made);
                    at = found.end;
                    if made.len() > bytes_max {
                        return Err(TargetTooLong);
                    }
                }
                made.extend_from_slice(&normal[at..]);
            }
        }
        if made.first() != Some(&b'/') && !(made.is_empty() && rest.first() == Some(&b'/')) {
            out.push(b'/');
        }
        encode(&made, out);
        out.extend_from_slice(rest);
        Ok(())
    }
}

/// Sets the host that an origin is asked for. `upstream` is the name of the host that was chosen.
pub(super) fn rewrite_host(rewrite: &HostRewrite, head: &mut HttpHead, upstream: Option<&str>) {
    if head.method() == Method::Connect {
        return;
    }
    let host = match rewrite {
        HostRewrite::To(host) => host.clone().into_bytes(),
        HostRewrite::Field(name) => head.get(name).unwrap_or_default().to_vec(),
        HostRewrite::Upstream => upstream.unwrap_or_default().as_bytes().to_vec(),
    };
    // A field of the client's is no host before it was looked at.
    if is_authority(&host) {
        to_origin_form(head);
        head.replace("host", &host);
    }
}

/// Moves the authority of an absolute-form target to where it counts as much: the Host field (RFC 9112, 3.2.2).
fn to_origin_form(head: &mut HttpHead) {
    if matches!(head.target().first(), Some(b'/' | b'*')) {
        return;
    }
    let (Some(authority), path) = (head.authority().map(<[u8]>::to_vec), head.path_and_query()) else { return };
    let mut target = Vec::with_capacity(path.len() + 1);
    if path.first() != Some(&b'/') {
        target.push(b'/');
    }
    target.extend_from_slice(path);
    head.replace("host", &authority);
    head.set_target(&target);
}

/// What a rewritten path is expected to be longer, in bytes.
const SPARE_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::schema::Pattern;

    fn prefix(matched: &str, with: &str) -> PathRewrite {
        let rewrite = schema::PathRewrite::Prefix(with.into());
        PathRewrite::new(&rewrite, &PathMatch::Prefix(matched.into())).unwrap()
    }

    fn each(pattern: &str, substitution: &str) -> PathRewrite {
        let pattern = Pattern::new(pattern).unwrap();
        let rewrite = schema::PathRewrite::Regex { pattern, substitution: substitution.into() };
        PathRewrite::new(&rewrite, &PathMatch::Prefix("/".into())).unwrap()
    }

    fn target(rewrite: &PathRewrite, from: &str) -> String {
        let mut head = HttpHead::request("GET", from.as_bytes());
        rewrite.apply(&mut head, 8192).unwrap();
        String::from_utf8(head.target().to_vec()).unwrap()
    }

    #[test]
    fn paths_are_rewritten() {
        let whole = schema::PathRewrite::Prefix("/new".into());
        let path = PathRewrite::new(&whole, &PathMatch::Path("/Old".into())).unwrap();
        let found = PathRewrite::new(&whole, &PathMatch::Regex(Pattern::new("/v[0-9]").unwrap())).unwrap();
        for (rewrite, from, to) in [
            (prefix("/api", "/v2"), "/api/x?q=1&r=%20", "/v2/x?q=1&r=%20"),
            (prefix("/api", "/v2"), "/apiary", "/v2ary"),
            (prefix("/api", "/"), "/api/x", "//x"),
            (prefix("/api/", "/"), "/api/x", "/x"),
            (prefix("/api", ""), "/api/x", "/x"),
            (prefix("/api", "v2"), "/api", "/v2"),
            (prefix("/api", "/v 2"), "/api/a", "/v%202/a"),
            // Escapes behind the prefix stay; those within it, and paths that are not normal, are written anew.
            (prefix("/api", "/v2"), "/api/a%2Fb%20c", "/v2/a%2Fb%20c"),
            (prefix("/api", "/v2"), "/%61pi/a%2Fb%20c", "/v2/a/b%20c"),
            (prefix("/api", "/v2"), "/api/../api/x%3Fy", "/v2/x%3Fy"),
            (prefix("/api", "/v2"), "/x/..//api/%zz", "/v2/%25zz"),
            (path, "/OLD?x", "/new?x"),
            (found, "/a/v1/b/v2", "/a/new/b/v2"),
            (each("^/item/([0-9]+)", "/i/${1}.html"), "/item/12/x?y", "/i/12.html/x?y"),
            (each("a", "b"), "/a/a/c", "/b/b/c"),
            (each("x+", "y"), "/a%2Fb", "/a%2Fb"),
            (each("b", "?#%"), "/a/b", "/a/%3F%23%25"),
            (each("^/", ""), "/a", "/a"),
            (prefix("/", "/z/"), "*", "*"),
        ] {
            assert_eq!(target(&rewrite, from), to, "{from} {rewrite:?}");
        }
    }

    #[test]
    fn a_target_stays_within_its_bound() {
        let mut head = HttpHead::request("GET", b"/aaaaaaaaaa?q");
        assert_eq!(each("a", &"b".repeat(100)).apply(&mut head, 500), Err(TargetTooLong));
        assert_eq!(prefix("/", &"b".repeat(100)).apply(&mut head, 100), Err(TargetTooLong));
        assert_eq!(head.target(), b"/aaaaaaaaaa?q");
    }

    #[test]
    fn hosts_are_rewritten_and_absolute_targets_keep_theirs() {
        let request = |target: &str| {
            let mut head = HttpHead::request("GET", target.as_bytes());
            assert!(
                head.append("Host", b"field") && head.append("x-host", b"other:8080") && head.append("x-bad", b"a b")
            );
            head
        };
        for (rewrite, target, host, path) in [
            (HostRewrite::To("new".into()), "/a", "new", "/a"),
            (HostRewrite::To("new".into()), "http://abs?q", "new", "/?q"),
            (HostRewrite::Field("x-host".into()), "/a", "other:8080", "/a"),
            (HostRewrite::Field("x-bad".into()), "http://abs/a", "abs", "http://abs/a"),
            (HostRewrite::Field("x-none".into()), "/a", "field", "/a"),
            (HostRewrite::Upstream, "/a", "up.example", "/a"),
        ] {
            let mut head = request(target);
            rewrite_host(&rewrite, &mut head, Some("up.example"));
            assert_eq!((head.authority(), head.target()), (Some(host.as_bytes()), path.as_bytes()), "{rewrite:?}");
        }
        let mut head = request("http://abs/api?q");
        prefix("/api", "/v2").apply(&mut head, 100).unwrap();
        assert_eq!((head.authority(), head.target()), (Some(&b"abs"[..]), &b"/v2?q"[..]));
        rewrite_host(&HostRewrite::Upstream, &mut head, None);
        assert_eq!(head.authority(), Some(&b"abs"[..]));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_comes_out_is_a_target(path in "/([a./]|%2e|%2F|%0d%0a|%|\\?){0,20}", with in "[ -~\u{e9}\n]{0,8}") {
            for rewrite in [prefix("/a", &with), prefix("/", &with), each("[a/]", &with)] {
                let mut head = HttpHead::request("GET", path.as_bytes());
                if rewrite.apply(&mut head, 8192).is_ok() {
                    let out = head.target();
                    prop_assert!(out.starts_with(b"/"), "{:?}", head);
                    prop_assert!(out.iter().all(|b| b.is_ascii_graphic() && *b != b'#'), "{:?}", head);
                }
            }
        }
    }
}
