//! DER (X.690), as far as certificates and what is said of them are looked into here: values, names and times.
//!
//! **Invariant:** reads what is there and nothing behind it; what can't be read is None, never a panic.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Takes one value (X.690 section 8.1) off the front: its tag and content.
pub(crate) fn next_value<'a>(der: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let len = match first {
        0..=0x7f => usize::from(first),
        0x81..=0x83 => {
            let (digits, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
            rest = behind;
            digits.iter().fold(0, |len, &digit| len << 8 | usize::from(digit))
        }
        _ => return None,
    };
    let (value, behind) = rest.split_at_checked(len)?;
    *der = behind;
    Some((tag, value))
}

/// Takes a value of this tag off the front; None, and nothing taken, when another one is there.
pub(crate) fn take<'a>(der: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let mut rest = *der;
    let (found, value) = next_value(&mut rest)?;
    (found == tag).then(|| {
        *der = rest;
        value
    })
}

/// When a certificate begins and ceases to be valid (RFC 5280 section 4.1.2.5).
pub(crate) fn validity(mut certificate: &[u8]) -> Option<(Moment, Moment)> {
    let mut signed = take(&mut take(&mut certificate, SEQUENCE)?, SEQUENCE)?;
    take(&mut signed, VERSION);
    // The serial number, the signature's algorithm, the issuer.
    (0..3).try_for_each(|_| next_value(&mut signed).map(|_| ()))?;
    let mut validity = take(&mut signed, SEQUENCE)?;
    Some((Moment::take(&mut validity)?, Moment::take(&mut validity)?))
}

/// When the next revocation list is to come, if this one says so (RFC 5280 section 5.1.2.5).
pub(crate) fn next_update(mut list: &[u8]) -> Option<Moment> {
    let mut signed = take(&mut take(&mut list, SEQUENCE)?, SEQUENCE)?;
    take(&mut signed, INTEGER);
    // The signature's algorithm, the issuer.
    (0..2).try_for_each(|_| next_value(&mut signed).map(|_| ()))?;
    Moment::take(&mut signed)?;
    Moment::take(&mut signed)
}

/// The kind of a public key, from its SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7, RFC 8017, RFC 5480, RFC 8410).
pub(crate) fn key_kind(mut info: &[u8]) -> Option<Box<str>> {
    let mut info = take(&mut info, SEQUENCE)?;
    let mut algorithm = take(&mut info, SEQUENCE)?;
    let id = take(&mut algorithm, OBJECT_IDENTIFIER)?;
    if id == RSA_ENCRYPTION {
        // Behind the count of unused bits a sequence of modulus and exponent.
        let mut key = take(&mut info, BIT_STRING)?.strip_prefix(&[0])?;
        let modulus = take(&mut take(&mut key, SEQUENCE)?, INTEGER)?;
        let digits = &modulus[modulus.iter().position(|&byte| byte != 0)?..];
        let bits = digits.len() * 8 - digits[0].leading_zeros() as usize;
        return Some(format!("RSA-{bits}").into());
    }
    let parameters = take(&mut algorithm, OBJECT_IDENTIFIER);
    let known = KEY_KINDS.iter().find(|(key, curve, _)| *key == id && *curve == parameters);
    known.map(|(_, _, name)| (*name).into())
}

/// A time as certificates have it, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moment {
    year: u32,
    /// From 1.
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
}

impl Moment {
    /// UTCTime or GeneralizedTime, in UTC and with seconds, as RFC 5280 has them.
    pub(crate) fn take(der: &mut &[u8]) -> Option<Self> {
        let mut rest = *der;
        let (tag, text) = next_value(&mut rest)?;
        let digits = text.strip_suffix(b"Z")?;
        let (year, of_year) = match tag {
            UTC_TIME => digits.split_at_checked(2)?,
            GENERALIZED_TIME => digits.split_at_checked(4)?,
            _ => return None,
        };
        let mut year = number(year)?;
        if tag == UTC_TIME {
            year += if year < 50 { 2000 } else { 1900 };
        }
        let mut parts = of_year.chunks(2).map(number);
        let mut part = || parts.next().flatten();
        let moment = Self { year, month: part()?, day: part()?, hour: part()?, minute: part()?, second: part()? };
        let is_date = (1..=12).contains(&moment.month) && (1..=31).contains(&moment.day) && of_year.len() == 10;
        *der = rest;
        is_date.then_some(moment)
    }

    /// Seconds since 1970, if it is not before.
    fn unix(self) -> Option<u64> {
        if self.year < 1970 {
            return None;
        }
        // Days by March years, so that the leap day is a year's last.
        let (year, month) = if self.month > 2 { (self.year, self.month - 3) } else { (self.year - 1, self.month + 9) };
        let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + self.day - 1;
        let days = u64::from(days).checked_sub(DAYS_BEFORE_1970)?;
        Some(((days * 24 + u64::from(self.hour)) * 60 + u64::from(self.minute)) * 60 + u64::from(self.second))
    }

    /// Whether it lies before `now`.
    pub(crate) fn is_before(self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.unix().is_none_or(|at| at < now)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second } = self;
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |n, digit| digit.is_ascii_digit().then(|| n * 10 + u32::from(digit - b'0')))
}

pub(crate) const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const T61_STRING: u8 = 0x14;
pub(crate) const IA5_STRING: u8 = 0x16;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const BMP_STRING: u8 = 0x1e;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// `[0]`, in front of a certificate's serial number.
const VERSION: u8 = 0xa0;

/// 1.2.840.113549.1.1.1
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.2.1
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// Key, curve, name.
type KeyKind = (&'static [u8], Option<&'static [u8]>, &'static str);
/// Kinds of keys whose size is in their name.
const KEY_KINDS: [KeyKind; 5] = [
    (EC_PUBLIC_KEY, Some(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]), "ECDSA P-256"),
    (EC_PUBLIC_KEY, Some(&[0x2b, 0x81, 0x04, 0x00, 0x22]), "ECDSA P-384"),
    (EC_PUBLIC_KEY, Some(&[0x2b, 0x81, 0x04, 0x00, 0x23]), "ECDSA P-521"),
    (&[0x2b, 0x65, 0x70], None, "Ed25519"),
    (&[0x2b, 0x65, 0x71], None, "Ed448"),
];

/// From the March that begins the year 0 to 1970.
const DAYS_BEFORE_1970: u64 = 719_468;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn moment(tag: u8, text: &str) -> Option<Moment> {
        let mut der = vec![tag, u8::try_from(text.len()).unwrap()];
        der.extend_from_slice(text.as_bytes());
        Moment::take(&mut &der[..])
    }

    #[test]
    fn a_time_before_our_count_is_in_the_past() {
        for text in ["00000101000000Z", "00000301000000Z", "19691231235959Z"] {
            assert!(moment(GENERALIZED_TIME, text).unwrap().is_before(SystemTime::UNIX_EPOCH), "{text}");
        }
    }

    #[test]
    fn times_are_read_and_counted() {
        for (tag, text, unix, shown) in [
            (UTC_TIME, "700101000000Z", 0, "1970-01-01 00:00:00 UTC"),
            (UTC_TIME, "000229235959Z", 951_868_799, "2000-02-29 23:59:59 UTC"),
            (UTC_TIME, "491231235959Z", 2_524_607_999, "2049-12-31 23:59:59 UTC"),
            (GENERALIZED_TIME, "20500101000000Z", 2_524_608_000, "2050-01-01 00:00:00 UTC"),
            (GENERALIZED_TIME, "21000301000000Z", 4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            let moment = moment(tag, text).unwrap();
            assert_eq!((moment.unix(), moment.to_string().as_str()), (Some(unix), shown));
            let at = UNIX_EPOCH + Duration::from_secs(unix);
            assert!(!moment.is_before(at) && moment.is_before(at + Duration::from_secs(1)), "{shown}");
        }
        for (tag, text) in [
            (UTC_TIME, "7001010000Z"),
            (UTC_TIME, "700101000000+0100"),
            (UTC_TIME, "701301000000Z"),
            (UTC_TIME, "7001x1000000Z"),
            (UTC_TIME, "70010100000000Z"),
            (GENERALIZED_TIME, "20500101Z"),
            (UTF8_STRING, "700101000000Z"),
        ] {
            assert_eq!(moment(tag, text), None, "{text}");
        }
    }

    #[test]
    fn a_certificate_tells_the_kind_of_its_key() {
        let of = |key: rcgen::KeyPair| {
            let made = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
            let info = webpki::EndEntityCert::try_from(made.der()).unwrap().subject_public_key_info().to_vec();
            assert!((0..info.len() - 1).all(|len| key_kind(&info[..len]).is_none()));
            key_kind(&info).unwrap()
        };
        for (algorithm, kind) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, "ECDSA P-256"),
            (&rcgen::PKCS_ECDSA_P384_SHA384, "ECDSA P-384"),
            (&rcgen::PKCS_ED25519, "Ed25519"),
        ] {
            assert_eq!(&*of(rcgen::KeyPair::generate_for(algorithm).unwrap()), kind);
        }
        let rsa = |size| rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
        assert_eq!(&*of(rsa(rcgen::RsaKeySize::_2048)), "RSA-2048");
        assert_eq!(&*of(rsa(rcgen::RsaKeySize::_3072)), "RSA-3072");
    }

    #[test]
    fn a_certificate_tells_its_time() {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 2, 3);
        params.not_after = rcgen::date_time_ymd(2051, 4, 5);
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let (from, to) = validity(made.der()).unwrap();
        assert_eq!(from.to_string(), "2001-02-03 00:00:00 UTC");
        assert_eq!(to.to_string(), "2051-04-05 00:00:00 UTC");
        for len in 0..60 {
            assert!(validity(&made.der()[..len]).is_none());
        }
    }
}
