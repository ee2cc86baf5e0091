//! Which certificate a server wants of its clients, and what is doubtful about what is loaded.
//!
//! **Invariant:** a client's certificate counts as verified only where [`ClientAuth::Verified`] says that it was to be.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::der::{Moment, next_update, validity};
use crate::error::Place;
use crate::pem::Pem;

/// What a server asks its clients for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate.
    #[default]
    None,
    /// A certificate, and whatever comes, or nothing, is good. Its key is proven, and nothing else of it.
    Asked,
    /// A certificate that one of `roots` vouches for.
    Verified {
        /// Whom to trust, and whom clients are told that we trust.
        roots: Pem,
        /// What these have revoked: where there is a list, each authority of a chain must have one that has not expired.
        revoked: Option<Pem>,
        /// Whether a client without a certificate is refused. One with a certificate that is not good is in any case.
        required: bool,
    },
}

/// Something in a configuration that works, though perhaps not as it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caveat {
    /// A certificate that clients will refuse.
    Expired {
        /// Where it is.
        place: Place,
        /// Since when.
        at: Moment,
    },
    /// A cipher suite or a group that is named and not offered.
    NotOffered {
        /// Its name.
        name: Box<str>,
    },
    /// Whoever reads this file reads the traffic.
    KeysLogged {
        /// Where it is.
        place: Place,
    },
    /// An OCSP response that is not shown.
    NotStapled {
        /// Where it is.
        place: Place,
        /// Why.
        why: NoStaple,
    },
    /// A revocation list that vouches for nobody any more.
    RevocationListExpired {
        /// Where it is.
        place: Place,
        /// Since when.
        at: Moment,
    },
}

/// Why an OCSP response is not stapled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoStaple {
    /// The file can't be read.
    Unreadable,
    /// It is no successful OCSP response.
    NoResponse,
    /// It says nothing of this certificate.
    OfAnother,
    /// Its time is over.
    Expired,
    /// It says that the certificate is revoked, or not known.
    NotGood,
}

impl fmt::Display for NoStaple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "can't be read",
            Self::NoResponse => "is no successful OCSP response in DER",
            Self::OfAnother => "is for another certificate",
            Self::Expired => "has expired",
            Self::NotGood => "says that the certificate is revoked or not known",
        })
    }
}

impl fmt::Display for Caveat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { place, at } => {
                write!(f, "the certificate in {place} has expired, at {at}: clients refuse it; renew it")
            }
            Self::NotOffered { name } => {
                write!(
                    f,
                    "`{name}` is not offered: it is not known, or lacks forward secrecy or authenticated encryption"
                )
            }
            Self::KeysLogged { place } => {
                write!(f, "the keys of all sessions are written to {place}: who reads it reads the traffic")
            }
            Self::NotStapled { place, why } => {
                write!(f, "{place} {why}: nothing is stapled; fetch a new one with `openssl ocsp -respout FILE`")
            }
            Self::RevocationListExpired { place, at } => write!(
                f,
                "a revocation list in {place} has expired, at {at}: who its authority has issued a certificate to is refused; renew it"
            ),
        }
    }
}

/// What is doubtful about certificates and revocation lists. What can't be read is not: making the configuration says so.
pub(crate) fn caveats(ends: &[(Place, Moment)], revoked: Option<&Pem>) -> Vec<Caveat> {
    let now = SystemTime::now();
    let over = ends.iter().filter(|(_, at)| at.is_before(now));
    let mut caveats: Vec<_> = over.map(|(place, at)| Caveat::Expired { place: place.clone(), at: *at }).collect();
    if let Some(pem) = revoked {
        let lists = pem.revocation_lists().unwrap_or_default();
        let expired = lists.iter().filter_map(|list| next_update(list)).find(|at| at.is_before(now));
        caveats.extend(expired.map(|at| Caveat::RevocationListExpired { place: pem.place(), at }));
    }
    caveats
}

/// Until when certificates are valid, and where they are.
pub(crate) fn ends<'a>(certificates: impl Iterator<Item = &'a Pem>) -> Vec<(Place, Moment)> {
    let end = |pem: &Pem| validity(pem.certificates().ok()?.first()?).map(|(_, at)| (pem.place(), at));
    certificates.filter_map(end).collect()
}

/// Certificates that are in use, as far as it takes to know them again: eight bytes each.
#[derive(Clone, Debug)]
pub(crate) struct InUse(Arc<[u64]>);

impl InUse {
    pub(crate) fn new(ends: &[(Place, Moment)]) -> Self {
        Self(ends.iter().map(|end| mark(&end.0, end.1)).collect())
    }

    /// Whether it is one of these that has expired.
    pub(crate) fn has(&self, caveat: &Caveat) -> bool {
        matches!(caveat, Caveat::Expired { place, at } if self.0.contains(&mark(place, *at)))
    }
}

fn mark(place: &Place, at: Moment) -> u64 {
    let mut hasher = DefaultHasher::new();
    (place, at).hash(&mut hasher);
    hasher.finish()
}

/// That keys are logged, if they are.
pub(crate) fn keys_logged(keylog: Option<&PathBuf>) -> Option<Caveat> {
    keylog.map(|path| Caveat::KeysLogged { place: Place::File(path.clone()) })
}

impl ClientAuth {
    /// What is doubtful is looked for in these.
    pub(crate) fn revoked(&self) -> Option<&Pem> {
        match self {
            Self::Verified { revoked, .. } => revoked.as_ref(),
            Self::None | Self::Asked => None,
        }
    }
}
