//! The arguments of a call: as JSON on the side of HTTP, in Hessian on that of Dubbo.
//!
//! **Invariant:** a body is read once for what it says beside the arguments, and once for them; nothing of it is held but types and
//! attachments, which are bounded in number.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::codec::xprotocol::hessian2::json::{
    Budget, FromJson, ToJson, ValueError, ValueLimits, Wanted, begin_count, end_count,
};
use crate::codec::xprotocol::hessian2::put_string;
use crate::config::Limits;
use crate::proxy::convert::Refused;

/// What a body says of a call beside its arguments, and where they are.
pub(super) struct Arguments {
    types: Option<Vec<String>>,
    pub(super) attachments: Vec<(String, String)>,
    /// Under `args` of an object; else the body is the array itself.
    is_wrapped: bool,
}

impl Arguments {
    /// Those of a body; empty: there are none. `types` is what a field says of them.
    pub(super) fn of(types: Option<&[u8]>, body: &Bytes, limits: &Limits) -> Result<Self, Refused> {
        let is_wrapped = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        let mut found = Self { types: None, attachments: Vec::new(), is_wrapped };
        if is_wrapped {
            let mut from = serde_json::Deserializer::from_slice(body);
            let attachments_max = limits.head_fields_max;
            let read = from.deserialize_map(Outline { found: &mut found, attachments_max }).and_then(|()| from.end());
            read.map_err(|_| SHAPE)?;
        }
        if let Some(types) = types {
            if found.types.is_some() {
                return Err(Refused::Twice("x-dubbo-types"));
            }
            let text = std::str::from_utf8(types).map_err(|_| Refused::Field("x-dubbo-types"))?;
            let list = text.split(',').map(|one| one.trim().to_owned());
            found.types = Some(if text.trim().is_empty() { Vec::new() } else { list.collect() });
        }
        let are_types = |all: &Vec<String>| all.len() <= ARGUMENTS_MAX && all.iter().all(|one| is_type(one));
        if found.types.as_ref().is_some_and(|all| !are_types(all)) {
            return Err(Refused::Call);
        }
        Ok(found)
    }

    /// Writes the types, or null, and the arguments.
    pub(super) fn write(&self, body: &Bytes, limits: ValueLimits, out: &mut Vec<u8>) -> Result<(), Refused> {
        match &self.types {
            None => out.push(b'N'),
            Some(types) => {
                begin_list(b"[string", out);
                let at = begin_count(out);
                for one in types {
                    put_string(one.as_bytes(), out).map_err(|_| Refused::Call)?;
                }
                end_count(u32::try_from(types.len()).map_err(|_| Refused::Call)?, at, out);
            }
        }
        begin_list(b"[object", out);
        let at = begin_count(out);
        let mut count = 0;
        if !body.is_empty() {
            let budget = Budget::new(limits);
            let types = self.types.as_deref().unwrap_or_default();
            let list = List { out: &mut *out, budget: &budget, types };
            let mut from = serde_json::Deserializer::from_slice(body);
            let read = if self.is_wrapped {
                from.deserialize_map(Wrapped(list)).and_then(|count| from.end().map(|()| count))
            } else {
                from.deserialize_seq(list).and_then(|count| from.end().map(|()| count))
            };
            count = read.map_err(|error| match budget.hit() {
                Some(hit) => hit.into(),
                None if error.is_data() => SHAPE,
                None => ValueError::Broken.into(),
            })?;
        }
        end_count(count, at, out);
        match &self.types {
            Some(types) if types.len() != count as usize => Err(Refused::Shape("as many arguments as it has types")),
            _ => Ok(()),
        }
    }
}

fn begin_list(kind: &[u8], out: &mut Vec<u8>) {
    out.push(b'V');
    out.push(u8::try_from(kind.len()).expect("a short name"));
    out.extend_from_slice(kind);
}

/// A walk over an object for all but its arguments.
struct Outline<'f> {
    found: &'f mut Arguments,
    attachments_max: usize,
}

impl<'de> Visitor<'de> for Outline<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut has_arguments = false;
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Args if !has_arguments => {
                    has_arguments = true;
                    map.next_value::<IgnoredAny>()?;
                }
                Key::Types if self.found.types.is_none() => {
                    self.found.types = Some(map.next_value_seed(Bounded::<String>::new(ARGUMENTS_MAX))?);
                }
                Key::Attachments if self.found.attachments.is_empty() => {
                    self.found.attachments =
                        map.next_value_seed(Bounded::<(String, String)>::new(self.attachments_max))?;
                }
                _ => return Err(serde::de::Error::custom("a key is there twice")),
            }
        }
        Ok(())
    }
}

/// The keys that an object may have.
#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Key {
    Args,
    Types,
    Attachments,
}

/// Strings, or pairs of them, up to a number.
struct Bounded<T> {
    max: usize,
    all: Vec<T>,
}

impl<T> Bounded<T> {
    fn new(max: usize) -> Self {
        Self { max, all: Vec::new() }
    }

    fn push<E: serde::de::Error>(&mut self, one: T) -> Result<(), E> {
        if self.all.len() >= self.max {
            return Err(E::custom("there are too many"));
        }
        self.all.push(one);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<String> {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Vec<String>, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Bounded<String> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Vec<String>, A::Error> {
        while let Some(one) = seq.next_element()? {
            self.push(one)?;
        }
        Ok(self.all)
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<(String, String)> {
    type Value = Vec<(String, String)>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Bounded<(String, String)> {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some(pair) = map.next_entry()? {
            self.push(pair)?;
        }
        Ok(self.all)
    }
}

/// A walk over an object for its arguments alone.
struct Wrapped<'o>(List<'o>);

impl<'de> Visitor<'de> for Wrapped<'_> {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u32, A::Error> {
        let (mut list, mut count) = (Some(self.0), 0);
        while let Some(key) = map.next_key::<Key>()? {
            match (key, list.take()) {
                (Key::Args, Some(list)) => count = map.next_value_seed(list)?,
                (_, kept) => {
                    list = kept;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(count)
    }
}

/// The array of the arguments; comes to how many there are.
struct List<'o> {
    out: &'o mut Vec<u8>,
    budget: &'o Budget,
    types: &'o [String],
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = u32;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<u32, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of arguments")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<u32, A::Error> {
        let Self { out, budget, types } = self;
        let mut count = 0;
        loop {
            let wanted = types.get(count as usize).map_or(Wanted::Any, |one| wanted(one));
            if seq.next_element_seed(FromJson { out: &mut *out, budget, depth: 1, wanted })?.is_none() {
                return Ok(count);
            }
            count += 1;
        }
    }
}

/// What a number becomes for this type.
fn wanted(kind: &str) -> Wanted {
    match kind {
        "long" | "java.lang.Long" => Wanted::Long,
        "double" | "java.lang.Double" | "float" | "java.lang.Float" => Wanted::Double,
        _ => Wanted::Any,
    }
}

/// Whether this is the name of a type: `int`, `java.lang.String`, `java.lang.String[]`, `[Ljava.lang.String;`.
fn is_type(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'$' | b'[' | b']' | b';');
    !text.is_empty() && text.bytes().all(is_plain)
}

/// What `$invoke` calls: its method, with the types and the arguments behind what is in the other two.
pub(super) fn unwrap(json: &mut ToJson<'_>, types: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Vec<u8>, Refused> {
    let (mut method, mut names) = (Vec::new(), Vec::new());
    json.value(&mut method)?;
    json.value(&mut names)?;
    let method: String = serde_json::from_slice(&method).map_err(|_| Refused::Call)?;
    let names: Option<Vec<String>> = serde_json::from_slice(&names).map_err(|_| Refused::Call)?;
    for (index, one) in names.iter().flatten().enumerate() {
        push_type(index, one, types)?;
    }
    json.value(out)?;
    match out.first() {
        Some(b'[') => Ok(method.into()),
        // No arguments may be no array of them.
        _ if out == b"null" => {
            *out = b"[]".to_vec();
            Ok(method.into())
        }
        _ => Err(SHAPE),
    }
}

/// The arguments of a call that names its types as the JVM does, as an array; and the types as Java writes them.
pub(super) fn list(
    descriptor: &[u8],
    json: &mut ToJson<'_>,
    types: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    out.push(b'[');
    let (mut rest, mut index) = (descriptor, 0);
    while !rest.is_empty() {
        let (name, after) = java_type(rest).ok_or(Refused::Call)?;
        push_type(index, &name, types)?;
        if index > 0 {
            out.push(b',');
        }
        json.value(out)?;
        (rest, index) = (after, index + 1);
    }
    out.push(b']');
    Ok(())
}

fn push_type(index: usize, name: &str, types: &mut Vec<u8>) -> Result<(), Refused> {
    if index >= ARGUMENTS_MAX || !is_type(name) {
        return Err(Refused::Call);
    }
    if index > 0 {
        types.push(b',');
    }
    types.extend_from_slice(name.as_bytes());
    Ok(())
}

/// The first type of a descriptor as Java writes it, and the rest: `[Ljava/lang/String;I` is `java.lang.String[]`, then `I`.
fn java_type(descriptor: &[u8]) -> Option<(String, &[u8])> {
    let dimensions = descriptor.iter().take_while(|byte| **byte == b'[').count();
    let (first, after) = descriptor[dimensions..].split_first()?;
    let (mut name, rest) = match first {
        b'Z' => ("boolean".to_owned(), after),
        b'B' => ("byte".to_owned(), after),
        b'C' => ("char".to_owned(), after),
        b'S' => ("short".to_owned(), after),
        b'I' => ("int".to_owned(), after),
        b'J' => ("long".to_owned(), after),
        b'F' => ("float".to_owned(), after),
        b'D' => ("double".to_owned(), after),
        b'L' => {
            let end = memchr::memchr(b';', after)?;
            (std::str::from_utf8(&after[..end]).ok()?.replace('/', "."), &after[end + 1..])
        }
        _ => return None,
    };
    if dimensions > DIMENSIONS_MAX {
        return None;
    }
    name.push_str(&"[]".repeat(dimensions));
    Some((name, rest))
}

pub(super) const SHAPE: Refused =
    Refused::Shape("an array of arguments, or an object of `args`, `types` and `attachments`");

/// Arguments of a method, at most: those of the JVM.
const ARGUMENTS_MAX: usize = 255;

/// Of an array, at most: those of the JVM.
const DIMENSIONS_MAX: usize = 255;
