//! Chunked bodies of requests. Responses share the code.

use super::Row;

/// A request head that announces chunks, and what follows it.
macro_rules! chunked {
    ($body:literal) => {
        concat!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", $body).as_bytes()
    };
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    ("one chunk", chunked!("5\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked \"hello\""),
    ("two chunks", chunked!("3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"), "POST / @a chunked \"hello\""),
    ("no chunk", chunked!("0\r\n\r\n"), "POST / @a chunked"),
    ("then a request", chunked!("1\r\nx\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"), "POST / @a chunked \"x\" | GET /2 @a none"),
    ("hexadecimal in both cases", chunked!("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), "POST / @a chunked \"01234567890123456789\""),
    ("leading zeros", chunked!("0005\r\nhello\r\n000\r\n\r\n"), "POST / @a chunked \"hello\""),
    ("line ends inside the data", chunked!("9\r\n0\r\n\r\nGET \r\n0\r\n\r\n"), "POST / @a chunked \"0\\r\\n\\r\\nGET \""),
    ("incomplete size", chunked!("5"), "POST / @a chunked | ..."),
    ("incomplete size line", chunked!("5\r"), "POST / @a chunked | ..."),
    ("incomplete end", chunked!("1\r\nx\r\n0\r\n"), "POST / @a chunked \"x\" | ..."),
    // Sizes.
    ("no size", chunked!("\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkSize"),
    ("0x", chunked!("0x5\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkSize"),
    ("a plus", chunked!("+5\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkSize"),
    ("a minus", chunked!("-5\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkSize"),
    ("a letter beyond f", chunked!("g\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkSize"),
    ("an underscore", chunked!("1_0\r\n0123456789012345\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkSize"),
    ("a space before", chunked!(" 5\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkSize"),
    ("a space behind", chunked!("5 \r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkSize"),
    ("a tab behind", chunked!("5\t\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkSize"),
    ("a space before the last size's line end", chunked!("0 \r\n\r\n"), "POST / @a chunked | 400 ChunkSize"),
    ("a comma", chunked!("5,5\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkSize"),
    ("16 digits are the most", chunked!("0000000000000005\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked \"hello\""),
    ("17 digits", chunked!("00000000000000005\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkSize"),
    ("wraps around to 5", chunked!("10000000000000005\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkSize"),
    ("negative when signed", chunked!("8000000000000000\r\nhello"), "POST / @a chunked | 400 ChunkSize"),
    ("all ones", chunked!("ffffffffffffffff\r\nhello"), "POST / @a chunked | 400 ChunkSize"),
    ("negative zero", chunked!("-0\r\n\r\n"), "POST / @a chunked | 400 ChunkSize"),
    // Line ends.
    ("LF ends the size", chunked!("5\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 LineEnd"),
    ("CR ends the size", chunked!("5\rhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 LineEnd"),
    ("LF ends the data", chunked!("5\r\nhello\n0\r\n\r\n"), "POST / @a chunked \"hello\" | 400 LineEnd"),
    ("CR ends the data", chunked!("5\r\nhello\r0\r\n\r\n"), "POST / @a chunked \"hello\" | 400 LineEnd"),
    ("nothing ends the data", chunked!("5\r\nhello0\r\n\r\n"), "POST / @a chunked \"hello\" | 400 ChunkEnd"),
    ("more data than said", chunked!("5\r\nhello!\r\n0\r\n\r\n"), "POST / @a chunked \"hello\" | 400 ChunkEnd"),
    ("less data than said", chunked!("6\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked \"hello\\r\" | 400 LineEnd"),
    ("LF ends the last size", chunked!("0\n\n"), "POST / @a chunked | 400 LineEnd"),
    ("LF ends the body", chunked!("0\r\n\n"), "POST / @a chunked | 400 LineEnd"),
    ("CR ends the body", chunked!("0\r\n\rx"), "POST / @a chunked | 400 LineEnd"),
    ("an empty line between chunks", chunked!("1\r\nx\r\n\r\n0\r\n\r\n"), "POST / @a chunked \"x\" | 400 ChunkSize"),
    // Extensions.
    ("a name", chunked!("5;a\r\nhello\r\n0;b\r\n\r\n"), "POST / @a chunked \"hello\""),
    ("a value", chunked!("5;a=b;c=d\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked \"hello\""),
    ("white space around", chunked!("5; a = b ;c\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked \"hello\""),
    ("a quoted value", chunked!("5;a=\"x;\\\"y\"\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked \"hello\""),
    ("white space before the semicolon", chunked!("5 ;a\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkSize"),
    ("no extension's name", chunked!("5;\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkExtension"),
    ("two semicolons", chunked!("5;;a\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkExtension"),
    ("no extension's value", chunked!("5;a=\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkExtension"),
    ("white space at the line's end", chunked!("5;a \r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkExtension"),
    ("an open quote", chunked!("5;a=\"b\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkExtension"),
    ("an escape at the end", chunked!("5;a=\"b\\\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkExtension"),
    ("words behind a quote", chunked!("5;a=\"b\"c\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkExtension"),
    ("LF in an extension", chunked!("5;a\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 LineEnd"),
    ("LF in a quoted value", chunked!("5;a=\"\n\"\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 LineEnd"),
    ("a bare CR in an extension", chunked!("5;a\rb\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 LineEnd"),
    ("NUL in an extension", chunked!("5;a\0\r\nhello\r\n0\r\n\r\n"), "POST / @a chunked | 400 ChunkExtension"),
    ("NUL in a second extension, the first being longer", chunked!("1;aaaaaaaaaa\r\nx\r\n1;b\0cc\r\ny\r\n0\r\n\r\n"), "POST / @a chunked \"x\" | 400 ChunkExtension"),
    ("LF in a second extension, the first being longer", chunked!("1;aaaaaaaaaa\r\nx\r\n1;b\n0\r\n\r\n"), "POST / @a chunked \"x\" | 400 LineEnd"),
    // Trailers.
    ("one", chunked!("0\r\nX-T: 1\r\n\r\n"), "POST / @a chunked [X-T: 1]"),
    ("two, then a request", chunked!("1\r\nx\r\n0\r\nA: 1\r\nb:2\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"), "POST / @a chunked \"x\" [A: 1] [b: 2] | GET /2 @a none"),
    ("incomplete trailers", chunked!("0\r\nX-T: 1\r\n"), "POST / @a chunked | ..."),
    ("a length", chunked!("0\r\nContent-Length: 5\r\n\r\n"), "POST / @a chunked | 400 TrailerForbidden"),
    ("a coding", chunked!("0\r\nTransfer-Encoding: chunked\r\n\r\n"), "POST / @a chunked | 400 TrailerForbidden"),
    ("a host", chunked!("0\r\nX: 1\r\nHost: b\r\n\r\n"), "POST / @a chunked | 400 TrailerForbidden"),
    ("credentials are dropped", chunked!("0\r\nAuthorization: x\r\nCookie: y\r\nX: 1\r\n\r\n"), "POST / @a chunked [X: 1]"),
    ("only dropped ones are none", chunked!("0\r\nContent-Type: x\r\nConnection: close\r\nX-Forwarded-For: y\r\n\r\n"), "POST / @a chunked"),
    ("a folded trailer", chunked!("0\r\nX: 1\r\n 2\r\n\r\n"), "POST / @a chunked | 400 Fold"),
    ("a trailer without a colon", chunked!("0\r\nGET / HTTP/1.1\r\n\r\n"), "POST / @a chunked | 400 SpaceBeforeColon"),
    ("a trailer with a space before its colon", chunked!("0\r\nX : 1\r\n\r\n"), "POST / @a chunked | 400 SpaceBeforeColon"),
    ("a trailer with NUL", chunked!("0\r\nX: \0\r\n\r\n"), "POST / @a chunked | 400 FieldValue"),
    ("LF in the trailers", chunked!("0\r\nX: 1\n\r\n"), "POST / @a chunked | 400 LineEnd"),
];
