//! Hessian 2 to JSON and back, value by value, without a tree in between.
//!
//! | Hessian | JSON | and back |
//! |---|---|---|
//! | null, boolean, string | the same | the same |
//! | int, long | a number | an int where it fits, else a long |
//! | double | a number; null where it is no number | a double |
//! | date | milliseconds since 1970 | |
//! | binary | a string in base64 | |
//! | list, typed or not | an array | a list without a type |
//! | map, typed or not | an object; keys that are numbers or booleans in quotes | a map without a type |
//! | object of a class | an object, its class as `class` | a map |
//!
//! **Invariant:** neither way takes more depth, values or bytes than its limits say, however values refer to each other.

mod from;
mod to;

use std::fmt;

use super::Broken;
pub use from::{Budget, FromJson, Wanted};
pub(crate) use from::{begin_count, end_count};
pub use to::ToJson;

/// What a value may take.
#[derive(Clone, Copy, Debug)]
pub struct ValueLimits {
    /// Values inside values.
    pub depth_max: usize,
    /// Values in all, the names of fields among them.
    pub values_max: usize,
    /// Bytes that are written.
    pub bytes_max: usize,
}

/// Why a value can't be written in the other form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueError {
    /// The bytes are no value.
    Broken,
    /// It nests deeper than `depth_max`.
    Depth,
    /// It is more values than `values_max`.
    Values,
    /// It is more bytes than `bytes_max`.
    Bytes,
    /// A map has a key that JSON can't have.
    Key,
}

impl From<Broken> for ValueError {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broken => "it is malformed",
            Self::Depth => "it nests deeper than limits.rpc_value_depth_max",
            Self::Values => "it has more values than limits.rpc_values_max",
            Self::Bytes => "it is longer than limits.rpc_frame_bytes_max",
            Self::Key => "a map in it has a key that is no string, number or boolean",
        })
    }
}

impl std::error::Error for ValueError {}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeSeed;

    use super::*;
    use crate::codec::xprotocol::hessian2::Reader;

    const LIMITS: ValueLimits = ValueLimits { depth_max: 16, values_max: 1000, bytes_max: 10_000 };

    fn json(body: &[u8]) -> Result<String, ValueError> {
        let mut out = Vec::new();
        let mut reader = ToJson::new(body, 0, LIMITS);
        reader.value(&mut out)?;
        assert_eq!(reader.at(), body.len(), "{body:?}");
        let text = String::from_utf8(out).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        Ok(text)
    }

    fn hessian(text: &str) -> Result<Vec<u8>, Option<ValueError>> {
        let (mut out, budget) = (Vec::new(), Budget::new(LIMITS));
        let mut from = serde_json::Deserializer::from_str(text);
        let seed = FromJson { out: &mut out, budget: &budget, depth: 0, wanted: Wanted::Any };
        seed.deserialize(&mut from).and_then(|()| from.end()).map_err(|_| budget.hit())?;
        Ok(out)
    }

    #[test]
    fn what_is_no_text_is_passed_over_within_the_limits() {
        let long = [&b"WS"[..], &3000_u16.to_be_bytes(), &[b'a'; 3000], b"Z"].concat();
        let pairs =
            |references: usize| [&b"H\x01a"[..], &long, &b"\x01bQ\x91".repeat(references), b"\x01c\x01dZ"].concat();
        let texts = |body: &[u8]| -> Result<Vec<u8>, ValueError> {
            let mut reader = ToJson::new(body, 0, LIMITS);
            assert!(reader.begin_map()?);
            let (mut name, mut value) = (Vec::new(), Vec::new());
            while let Some(is_text) = reader.text_pair(&mut name, &mut value)? {
                if !is_text {
                    name.clear();
                    value.clear();
                }
            }
            name.extend_from_slice(&value);
            Ok(name)
        };
        assert_eq!(texts(&pairs(2)), Ok(b"cd".to_vec()));
        assert_eq!(texts(&pairs(100)), Err(ValueError::Bytes), "many references to what is long");
    }

    #[test]
    fn every_kind_of_value_becomes_json() {
        let class = [&b"C"[..], b"\x05a.Foo", b"\x92", b"\x01x\x01y"].concat();
        for (bytes, text) in [
            (&b"N"[..], "null"),
            (b"T", "true"),
            (b"F", "false"),
            (b"\x90", "0"),
            (b"I\xFF\xFF\xFF\xFF", "-1"),
            (b"\xE1", "1"),
            (b"L\0\0\0\0\0\0\x0B\xB8", "3000"),
            (b"\x5B", "0.0"),
            (b"\x5C", "1.0"),
            (b"\x5D\xFF", "-1.0"),
            (b"\x5E\x01\x00", "256.0"),
            (b"\x5F\0\0\x30\x39", "12.345"),
            (b"D\x3F\xF8\0\0\0\0\0\0", "1.5"),
            (b"D\x7F\xF8\0\0\0\0\0\0", "null"),
            (b"J\0\0\0\0\0\0\x03\xE8", "1000"),
            (b"K\0\0\0\x01", "60000"),
            (b"\0", "\"\""),
            (b"\x04a\"\\\n", "\"a\\\"\\\\\\n\""),
            (b"\x01\x01", "\"\\u0001\""),
            (b"\x01\xC3\xA4", "\"\u{e4}\""),
            // A pair as one character, as two, and in two pieces; and half of one.
            (b"\x02\xF0\x9F\x98\x80", "\"\u{1F600}\""),
            (b"\x02\xED\xA0\xBD\xED\xB8\x80", "\"\u{1F600}\""),
            (b"R\0\x01\xED\xA0\xBDS\0\x01\xED\xB8\x80", "\"\u{1F600}\""),
            (b"\x22ab", "\"YWI=\""),
            (b"A\0\x01aB\0\x01b", "\"YWI=\""),
            (b"HZ", "{}"),
            (b"H\x01a\x90\x01bNZ", "{\"a\":0,\"b\":null}"),
            (b"M\x01t\x91\x90TFZ", "{\"1\":0,\"true\":false}"),
            (b"W\x90\x91Z", "[0,1]"),
            (b"U\x01t\x90Z", "[0]"),
            (b"X\x92\x90\x91", "[0,1]"),
            (b"V\x01t\x91\x90", "[0]"),
            (b"\x71\x01t\x90", "[0]"),
            (b"\x78", "[]"),
            (b"\x7A\x90\x79\x91", "[0,[1]]"),
            (&[&class[..], b"O\x90\x90\x91"].concat(), "{\"class\":\"a.Foo\",\"x\":0,\"y\":1}"),
            (
                &[&b"\x7A"[..], &class, b"\x60\x90HZ", b"Q\x91"].concat(),
                "[{\"class\":\"a.Foo\",\"x\":0,\"y\":{}},{\"class\":\"a.Foo\",\"x\":0,\"y\":{}}]",
            ),
        ] {
            assert_eq!(json(bytes).as_deref(), Ok(text), "{bytes:?}");
            for cut in 0..bytes.len() {
                let mut out = Vec::new();
                assert!(ToJson::new(&bytes[..cut], 0, LIMITS).value(&mut out).is_err(), "{bytes:?} in {cut}");
            }
        }
        let half = b"\x01\xED\xA0\xBD";
        let mut out = Vec::new();
        ToJson::new(half, 0, LIMITS).value(&mut out).unwrap();
        assert_eq!(out, b"\"\\ud83d\"");
    }

    #[test]
    fn what_lies_nests_or_multiplies_is_refused() {
        for (what, bytes, reason) in [
            ("a list in itself", b"\x79Q\x90".to_vec(), ValueError::Depth),
            ("a reference to nothing", b"Q\x90".to_vec(), ValueError::Broken),
            ("a list of nothing", b"X\xD7\xFF\xFF".to_vec(), ValueError::Broken),
            ("nested lists", vec![0x79; 100], ValueError::Depth),
            ("many values", [&b"W"[..], &[0x90; 2000], b"Z"].concat(), ValueError::Broken),
            ("a class with many fields", [&b"C\x01AI\0\x01\0\0"[..], &[0; 2000]].concat(), ValueError::Values),
            ("a class that is not there", b"\x60".to_vec(), ValueError::Broken),
            ("no UTF-8", b"\x01\xC3\x28".to_vec(), ValueError::Broken),
            ("UTF-8 that is too long", b"\x01\xC0\x80".to_vec(), ValueError::Broken),
            ("a key that is a map", b"HHZ\x90Z".to_vec(), ValueError::Key),
            ("a key that is null", b"HN\x90Z".to_vec(), ValueError::Key),
        ] {
            let found = json(&bytes);
            let is_it = found == Err(reason) || what == "many values" && found == Err(ValueError::Values);
            assert!(is_it, "{what}: {found:?}");
        }
        // A list of references to a long list grows by the length of that with each of its bytes.
        let long = [&[0x58, 0xC9, 0x2C][..], &[0x58, 0xC8, 0x64], &[0x90; 100], &b"Q\x91".repeat(299)].concat();
        assert_eq!(json(&long), Err(ValueError::Values));
        let text = [&[0x58, 0xC8, 0x65][..], &[0x79, b'S', 0x03, 0xE8], &[b'a'; 1000], &b"Q\x91".repeat(100)].concat();
        assert_eq!(json(&text), Err(ValueError::Bytes));
        // What is read again and again and writes next to nothing: the name of a list's type, a string of empty pieces, a field's name.
        let named =
            [&[0x58, 0xC8, 0x65][..], b"VS", &1000_u16.to_be_bytes(), &[b'a'; 1000], b"\x90", &b"Q\x91".repeat(100)]
                .concat();
        assert_eq!(json(&named), Err(ValueError::Bytes));
        let pieces = [&b"R\0\0".repeat(400)[..], b"\0"].concat();
        let empty = [&[0x58, 0xC8, 0x65][..], b"\x79", &pieces, &b"Q\x91".repeat(100)].concat();
        assert_eq!(json(&empty), Err(ValueError::Bytes));
        let field = [&b"C\x01A\x91"[..], &pieces, &[0x58, 0xC8, 0x65], &b"\x60N".repeat(101)].concat();
        assert_eq!(json(&field), Err(ValueError::Bytes));
        let classes = [&b"C\x01A\x90".repeat(900)[..], b"N"].concat();
        assert_eq!(json(&classes), Ok("null".to_owned()), "one behind the other is no depth");
    }

    #[test]
    fn json_becomes_values_and_comes_back() {
        for text in [
            "null",
            "true",
            "[false,1,-1,47,48,-16,-17,2047,2048,-2048,-2049,262143,262144,-262144,-262145,2147483647]",
            "[2147483648,-2147483648,-2147483649,9223372036854775807,-9223372036854775808]",
            "[1.5,0.0,-2.25,1e300]",
            "\"\"",
            "\"\u{e4}\u{1F600}\\n\\\"\"",
            "{\"a\":{\"b\":[]},\"c\":[{}]}",
        ] {
            let bytes = hessian(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            let mut reader = Reader::new(&bytes);
            assert_eq!((reader.skip(), reader.at()), (Ok(()), bytes.len()), "{text}");
            let back: serde_json::Value = serde_json::from_str(&json(&bytes).unwrap()).unwrap();
            assert_eq!(back, serde_json::from_str::<serde_json::Value>(text).unwrap(), "{text}");
        }
        for (text, hit) in [
            ("[".repeat(50) + &"]".repeat(50), Some(ValueError::Depth)),
            (format!("[{}0]", "0,".repeat(2000)), Some(ValueError::Values)),
            (format!("[\"{}\",0]", "a".repeat(10_001)), Some(ValueError::Bytes)),
            ("[1".to_owned(), None),
            ("1 2".to_owned(), None),
            ("{1:2}".to_owned(), None),
            ("\"\\ud83d\"".to_owned(), None),
        ] {
            assert_eq!(hessian(&text), Err(hit), "{}", &text[..text.len().min(40)]);
        }
    }
}
