//! JSON to Hessian.
//!
//! **Invariant:** each value is looked at against the limits before it is written.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{ValueError, ValueLimits};
use crate::codec::xprotocol::hessian2::{Broken, END, put_string};

/// What a value of JSON is to become where its type is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// What it looks like.
    #[default]
    Any,
    /// Whole numbers: a long.
    Long,
    /// Numbers: a double.
    Double,
}

/// How far a walk over JSON has come.
#[derive(Debug)]
pub struct Budget {
    limits: ValueLimits,
    values: Cell<usize>,
    hit: Cell<Option<ValueError>>,
}

impl Budget {
    /// Nothing of these limits is used.
    #[must_use]
    pub fn new(limits: ValueLimits) -> Self {
        Self { limits, values: Cell::new(0), hit: Cell::new(None) }
    }

    /// The limit that a walk has come to, if that is how it has failed.
    #[must_use]
    pub fn hit(&self) -> Option<ValueError> {
        self.hit.get()
    }

    fn refuse<E: de::Error>(&self, reason: ValueError) -> E {
        self.hit.set(Some(reason));
        E::custom(reason)
    }
}

/// Writes a value of JSON as one of Hessian behind what is in `out`.
#[derive(Debug)]
pub struct FromJson<'o> {
    /// Where to.
    pub out: &'o mut Vec<u8>,
    /// What is left to use.
    pub budget: &'o Budget,
    /// Values around it.
    pub depth: usize,
    /// What it is to be.
    pub wanted: Wanted,
}

impl FromJson<'_> {
    fn enter<E: de::Error>(&self) -> Result<(), E> {
        let Budget { limits, values, .. } = self.budget;
        values.set(values.get() + 1);
        if self.depth >= limits.depth_max {
            return Err(self.budget.refuse(ValueError::Depth));
        }
        if values.get() > limits.values_max {
            return Err(self.budget.refuse(ValueError::Values));
        }
        if self.out.len() > limits.bytes_max {
            return Err(self.budget.refuse(ValueError::Bytes));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for FromJson<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.enter()?;
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FromJson<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.out.push(if value { b'T' } else { b'F' });
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        match self.wanted {
            Wanted::Any => put_number(value, self.out),
            Wanted::Long => put_long(value, self.out),
            #[expect(clippy::cast_precision_loss, reason = "what a double of Java is made of as well")]
            Wanted::Double => put_double(value as f64, self.out),
        }
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            #[expect(clippy::cast_precision_loss, reason = "no whole number of Hessian is that large")]
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        put_double(value, self.out);
        Ok(())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        put_string(value.as_bytes(), self.out).map_err(|Broken| self.budget.refuse(ValueError::Broken))
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.out.push(b'N');
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { out, budget, depth, .. } = self;
        out.push(b'X');
        let count_at = begin_count(out);
        let mut count = 0u32;
        while seq
            .next_element_seed(FromJson { out: &mut *out, budget, depth: depth + 1, wanted: Wanted::Any })?
            .is_some()
        {
            count += 1;
        }
        end_count(count, count_at, out);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { out, budget, depth, .. } = self;
        out.push(b'H');
        while map.next_key_seed(FromJson { out: &mut *out, budget, depth: depth + 1, wanted: Wanted::Any })?.is_some() {
            map.next_value_seed(FromJson { out: &mut *out, budget, depth: depth + 1, wanted: Wanted::Any })?;
        }
        out.push(END);
        Ok(())
    }
}

/// Leaves room for a number that is known later; says where.
pub(crate) fn begin_count(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[b'I', 0, 0, 0, 0]);
    out.len() - 4
}

/// Writes the number.
pub(crate) fn end_count(count: u32, at: usize, out: &mut [u8]) {
    out[at..at + 4].copy_from_slice(&count.to_be_bytes());
}

/// Writes an int, where it is one, or a long.
fn put_number(value: i64, out: &mut Vec<u8>) {
    let Ok(int) = i32::try_from(value) else { return put_long(value, out) };
    let [high, mid, low, lowest] = int.to_be_bytes();
    match int {
        -16..=47 => out.push(lowest.wrapping_add(0x90)),
        -2048..=2047 => out.extend_from_slice(&[low.wrapping_add(0xC8), lowest]),
        -262_144..=262_143 => out.extend_from_slice(&[mid.wrapping_add(0xD4), low, lowest]),
        _ => out.extend_from_slice(&[b'I', high, mid, low, lowest]),
    }
}

fn put_long(value: i64, out: &mut Vec<u8>) {
    let bytes = value.to_be_bytes();
    match value {
        -8..=15 => out.push(bytes[7].wrapping_add(0xE0)),
        -2048..=2047 => out.extend_from_slice(&[bytes[6].wrapping_add(0xF8), bytes[7]]),
        _ => {
            out.push(b'L');
            out.extend_from_slice(&bytes);
        }
    }
}

fn put_double(value: f64, out: &mut Vec<u8>) {
    out.push(b'D');
    out.extend_from_slice(&value.to_bits().to_be_bytes());
}
