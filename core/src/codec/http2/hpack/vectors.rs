//! The examples of RFC 7541, appendix C, and blocks that break the coding.
//!
//! **Invariant:** what is expected here is what the RFCs print, not what the code does.

use super::*;
use crate::codec::http2::hpack::huffman::tests::encode as huffman;

#[derive(Default)]
struct Text(String);

impl Fields for Text {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        self.0 += &format!("{name}: {value}\n");
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// Decodes blocks one after another on one connection, and compares fields and table with what the RFC prints.
fn check(table_bytes_max: usize, blocks: &[(&str, &[&str], &[&str], usize)]) {
    let mut decoder = Decoder::new(table_bytes_max);
    for (wire, fields, table, size) in blocks {
        let mut text = Text::default();
        decoder.decode(&hex(wire), &mut text).unwrap();
        assert_eq!(text.0.lines().collect::<Vec<_>>(), *fields, "{wire}");
        for (entry, index) in table.iter().zip(62..) {
            let (name, value) = decoder.table.get(index).unwrap();
            assert_eq!(format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)), *entry);
        }
        let sum: usize = table.iter().map(|entry| entry.len() - 2 + 32).sum();
        assert_eq!(sum, *size, "the table of {wire}");
        assert!(decoder.table.get(62 + u32::try_from(table.len()).unwrap()).is_err(), "more than the table of {wire}");
    }
}

/// C.2
#[test]
fn single_fields() {
    let custom = "custom-key: custom-header";
    check(4096, &[("400a637573746f6d2d6b65790d637573746f6d2d686561646572", &[custom], &[custom], 55)]);
    check(4096, &[("040c2f73616d706c652f70617468", &[":path: /sample/path"], &[], 0)]);
    check(4096, &[("100870617373776f726406736563726574", &["password: secret"], &[], 0)]);
    check(4096, &[("82", &[":method: GET"], &[], 0)]);
}

/// C.3 and C.4: the same requests, plain and coded.
#[test]
fn requests() {
    let (authority, cache, custom) =
        (":authority: www.example.com", "cache-control: no-cache", "custom-key: custom-value");
    let get = [":method: GET", ":scheme: http", ":path: /", authority];
    let cached = [&get[..], &[cache]].concat();
    let last = [":method: GET", ":scheme: https", ":path: /index.html", authority, custom];
    let of = |wires: [&'static str; 3]| {
        check(
            4096,
            &[
                (wires[0], &get, &[authority], 57),
                (wires[1], &cached, &[cache, authority], 110),
                (wires[2], &last, &[custom, cache, authority], 164),
            ],
        );
    };
    of([
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    ]);
    of([
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ]);
}

/// C.5 and C.6: the same responses, plain and coded, in a table of 256 bytes that evicts.
#[test]
fn responses() {
    let date = |second: &str| format!("date: Mon, 21 Oct 2013 20:13:{second} GMT");
    let (date, later) = (date("21"), date("22"));
    let (found, moved, private) = (":status: 302", ":status: 307", "cache-control: private");
    let location = "location: https://www.example.com";
    let cookie = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    let coding = "content-encoding: gzip";
    let of = |wires: [&'static str; 3]| {
        check(
            256,
            &[
                (wires[0], &[found, private, &date, location], &[location, &date, private, found], 222),
                (wires[1], &[moved, private, &date, location], &[moved, location, &date, private], 222),
                (
                    wires[2],
                    &[":status: 200", private, &later, location, coding, cookie],
                    &[cookie, coding, &later],
                    215,
                ),
            ],
        );
    };
    of([
        "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
        "4803333037c1c0bf",
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
    ]);
    of([
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        "4883640effc1c0bf",
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
    ]);
}

#[test]
fn blocks_that_break_the_coding_are_refused() {
    let cases: &[(&str, HpackError)] = &[
        ("80", HpackError::Index),
        ("be", HpackError::Index),
        ("ff80808000", HpackError::Index),
        ("7f00", HpackError::Index),
        ("40", HpackError::Truncated),
        ("400a6375", HpackError::Truncated),
        ("4001610f62", HpackError::Truncated),
        ("ffffffffffffff", HpackError::Integer),
        ("3fe21f", HpackError::TableSize),
        ("8220", HpackError::TableSizeLate),
        ("418c0000", HpackError::Truncated),
        ("4181ff", HpackError::Huffman),
        ("4184fffffffc", HpackError::Huffman),
        ("41821fff", HpackError::Huffman),
    ];
    for (wire, error) in cases {
        let result = Decoder::new(4096).decode(&hex(wire), &mut Text::default());
        assert_eq!(result, Err(*error), "{wire}");
    }
    // The largest size that was allowed, then none.
    Decoder::new(4096).decode(&hex("3fe11f2082"), &mut Text::default()).unwrap();
}

/// One byte for each field, each as long as the table: the fields are shown, nothing is kept for them.
#[test]
fn a_bomb_holds_no_more_than_the_table() {
    struct Count(usize);
    impl Fields for Count {
        fn field(&mut self, _: &[u8], value: &[u8]) {
            self.0 += value.len();
        }
    }
    let mut decoder = Decoder::new(4096);
    let mut block = vec![0x40, 1, b'a'];
    integer::put(&mut block, 4000, 7, 0);
    block.resize(block.len() + 4000, b'v');
    block.resize(block.len() + 12_000, 0xbe);
    let mut count = Count(0);
    decoder.decode(&block, &mut count).unwrap();
    assert_eq!(count.0, 4000 * 12_001);
    assert!(decoder.held_bytes() < 20_000, "{}", decoder.held_bytes());
}

#[test]
fn coded_and_plain_strings_say_the_same() {
    for text in ["", "a", "no-cache", "\u{e9}\r\n\0", "~{}|^"] {
        let coded = huffman(text.as_bytes());
        let mut block = vec![0x00, 1, b'n', 0x80 | u8::try_from(coded.len()).unwrap()];
        block.extend_from_slice(&coded);
        let mut list = Text::default();
        Decoder::new(0).decode(&block, &mut list).unwrap();
        assert_eq!(list.0, format!("n: {text}\n"));
    }
}
