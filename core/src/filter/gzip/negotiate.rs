//! Which coding a client takes (RFC 9110, 12.5.3).
//!
//! **Invariant:** a coding that the client did not name, or gave no weight, is never chosen; what can't be read weighs nothing.

use crate::config::schema::Coding;

/// The coding for an answer: of those that are offered the one that weighs most, of equals the one that is offered first. None: the answer
/// goes as it is. `accept` are the values of the request's Accept-Encoding fields.
pub(super) fn choose<'a>(accept: impl Iterator<Item = &'a [u8]>, offered: &[Coding]) -> Option<Coding> {
    let mut weights = Weights::default();
    for value in accept {
        for item in value.split(|b| *b == b',') {
            weights.take(item.trim_ascii());
        }
    }
    let mut best = None;
    for coding in offered {
        let weight = weights.of(*coding);
        // What is not compressed has a say only where the client gives it one.
        if weight > 0 && weight >= weights.identity.unwrap_or(0) && best.is_none_or(|(most, _)| weight > most) {
            best = Some((weight, *coding));
        }
    }
    best.map(|(_, coding)| coding)
}

/// Weights in thousandths, as far as the client said.
#[derive(Default)]
struct Weights {
    gzip: Option<u16>,
    brotli: Option<u16>,
    zstd: Option<u16>,
    identity: Option<u16>,
    others: Option<u16>,
}

impl Weights {
    fn take(&mut self, item: &[u8]) {
        let mut parts = item.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let weight = parts.next().map_or(1000, |parameter| thousandths(parameter).unwrap_or(0));
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let place = match name {
            b"*" => &mut self.others,
            _ if is("gzip") || is("x-gzip") => &mut self.gzip,
            _ if is("br") => &mut self.brotli,
            _ if is("zstd") => &mut self.zstd,
            _ if is("identity") => &mut self.identity,
            _ => return,
        };
        // Named twice: the client's first word counts.
        place.get_or_insert(weight);
    }

    fn of(&self, coding: Coding) -> u16 {
        let named = match coding {
            Coding::Gzip => self.gzip,
            Coding::Brotli => self.brotli,
            Coding::Zstd => self.zstd,
        };
        named.or(self.others).unwrap_or(0)
    }
}

/// `q=0.5` as 500.
fn thousandths(parameter: &[u8]) -> Option<u16> {
    let (b'q' | b'Q', rest) = parameter.split_first()? else { return None };
    let (b'=', value) = rest.trim_ascii_start().split_first()? else { return None };
    let (whole, fraction) = match value.trim_ascii_start() {
        [whole] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut value = 0;
    for n in 0..3 {
        value = value * 10 + fraction.get(n).map_or(0, |digit| u16::from(digit - b'0'));
    }
    match (whole, value) {
        (b'0', value) => Some(value),
        (b'1', 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever a client writes: no panic, and nothing that it did not name.
        #[test]
        fn nothing_is_chosen_that_was_not_named(accept in "[a-z*;,=q0-9. \\-]{0,60}|(gzip|br|zstd|identity|\\*|;q=[01](\\.[0-9]{0,4})?|,| ){0,12}") {
            if let Some(coding) = choose(std::iter::once(accept.as_bytes()), &Coding::ALL) {
                prop_assert!(accept.contains(coding.name()) || accept.contains('*'), "{accept:?} gave {coding:?}");
            }
            let any = accept.bytes().map(|b| b.wrapping_mul(7)).collect::<Vec<_>>();
            let _ = choose(std::iter::once(&any[..]), &Coding::ALL);
        }
    }

    #[test]
    fn the_heaviest_coding_is_chosen_and_of_equals_the_first_offered() {
        use Coding::{Brotli, Gzip, Zstd};
        let all = [Zstd, Brotli, Gzip];
        for (accept, offered, chosen) in [
            (&["gzip"][..], &all[..], Some(Gzip)),
            (&["gzip, deflate, br, zstd"], &all, Some(Zstd)),
            (&["gzip, br;q=0.9"], &all, Some(Gzip)),
            (&["gzip;q=0.5, br ; q=0.51"], &all, Some(Brotli)),
            (&["gzip;q=0"], &all, None),
            (&["gzip;q=0.000, *"], &[Gzip], None),
            (&["*"], &all, Some(Zstd)),
            (&["*;q=0.1, gzip;q=0.2"], &all, Some(Gzip)),
            (&["*;q=0"], &all, None),
            (&["identity"], &all, None),
            (&["identity, gzip;q=0.5"], &all, None),
            (&["identity;q=0.5, gzip"], &all, Some(Gzip)),
            (&["identity;q=0, gzip;q=0.1"], &all, Some(Gzip)),
            (&["deflate"], &all, None),
            (&[""], &all, None),
            (&[], &all, None),
            (&["deflate", "GZIP"], &all, Some(Gzip)),
            (&["x-gzip"], &all, Some(Gzip)),
            (&["gzip;q=1.1"], &all, None),
            (&["gzip;q=0.1234"], &all, None),
            (&["gzip;level=9"], &all, None),
            (&["gzip;q="], &all, None),
            (&["gzipped"], &all, None),
            (&["br"], &[Gzip], None),
        ] {
            assert_eq!(choose(accept.iter().map(|a| a.as_bytes()), offered), chosen, "{accept:?}");
        }
    }
}
