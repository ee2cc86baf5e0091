//! The static table (RFC 7541, appendix A).
//!
//! **Invariant:** entry n of the RFC is entry n - 1 here.

/// An entry: name and value.
pub(super) type Pair = (&'static [u8], &'static [u8]);

/// The entry of a name that has no value there, by binary search over the length: 0 when there is none. The name is in lower case.
#[inline]
pub(super) fn index_of_name(name: &[u8]) -> usize {
    let len = name.len();
    if len >= STARTS.len() - 1 {
        return 0;
    }
    let candidates = &BY_LENGTH[usize::from(STARTS[len])..usize::from(STARTS[len + 1])];
    candidates.iter().map(|&at| usize::from(at)).find(|&at| TABLE[at].0 == name).map_or(0, |at| at + 1)
}

/// The table.
#[rustfmt::skip]
pub(super) static TABLE: [Pair; 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// The longest name of the table, in bytes.
const NAME_BYTES_MAX: usize = 27;

/// The entries by the length of their name, the first of each name only.
static BY_LENGTH: [u8; TABLE.len()] = SORTED.0;

/// Where the names of each length begin there.
static STARTS: [u8; NAME_BYTES_MAX + 2] = SORTED.1;

#[expect(clippy::cast_possible_truncation, reason = "there are 61 entries")]
const SORTED: ([u8; 61], [u8; NAME_BYTES_MAX + 2]) = {
    let (mut order, mut starts) = ([0; 61], [0; NAME_BYTES_MAX + 2]);
    let (mut filled, mut len) = (0, 0);
    while len <= NAME_BYTES_MAX {
        starts[len] = filled as u8;
        let mut at = 0;
        while at < TABLE.len() {
            let again = at > 0 && is_same(TABLE[at].0, TABLE[at - 1].0);
            if TABLE[at].0.len() == len && !again {
                order[filled] = at as u8;
                filled += 1;
            }
            at += 1;
        }
        len += 1;
    }
    starts[NAME_BYTES_MAX + 1] = filled as u8;
    (order, starts)
};

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_at_their_first_entry() {
        for (at, (name, _)) in TABLE.iter().enumerate() {
            let first = TABLE.iter().position(|(other, _)| other == name).unwrap();
            assert_eq!(index_of_name(name), first + 1, "{at}");
        }
        for name in [&b""[..], b"x", b"hosts", b"access-control-allow-originx", &[b'a'; 100]] {
            assert_eq!(index_of_name(name), 0);
        }
    }

    /// Where RFC 7541 has them.
    #[test]
    fn the_table_is_that_of_the_rfc() {
        for (index, name, value) in [
            (1, ":authority", ""),
            (8, ":status", "200"),
            (16, "accept-encoding", "gzip, deflate"),
            (32, "cookie", ""),
            (61, "www-authenticate", ""),
        ] {
            assert_eq!(TABLE[index - 1], (name.as_bytes(), value.as_bytes()));
        }
    }
}
