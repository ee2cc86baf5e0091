//! What a request wishes of its host, and why there is none for it.
//!
//! **Invariant:** plain data that borrows from the request; making a wish costs nothing.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::Address;
use crate::config::schema::MetadataMatch;

/// What a request wishes of its host. `Wish::default()` is a request without wishes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// The route's hash policy applied to the request; consistent balancers go by it. None: they choose at random.
    pub hash: Option<u64>,
    /// What the host's metadata must say; subset balancers go by it.
    pub metadata: Option<&'a MetadataMatch>,
    /// Hosts that this request has tried, the first one first. Avoided while there are others.
    pub tried: &'a [HostId],
    /// Where the client wanted to go; a cluster of type ORIGINAL_DST goes by it. See [`Cluster::original_dst`](super::Cluster::original_dst).
    pub destination: Option<&'a Address>,
}

/// A host's identity in the life of the process. An address that leaves its cluster and comes back is another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(u64);

impl HostId {
    /// One that nothing else has.
    #[must_use]
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Why no host can take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHost {
    /// The cluster has none.
    Empty,
    /// It has some, but none is healthy, and it is not to panic.
    Unhealthy,
    /// None has the metadata that the request asks for, and the fall-back policy allows no other.
    SubsetEmpty,
    /// The cluster goes to where the client wanted to go, and that is not known.
    NoDestination,
    /// It goes there, and requests to as many other destinations as there may be (`limits.original_dst_hosts_max`) are in progress.
    TooMany,
}

impl fmt::Display for NoHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the cluster has no host",
            Self::Unhealthy => "no host of the cluster is healthy",
            Self::SubsetEmpty => "no host of the cluster has the metadata that the request asks for",
            Self::NoDestination => {
                "the cluster needs the client's original destination, which is not known or is this gateway itself"
            }
            Self::TooMany => "requests to original_dst_hosts_max other destinations are in progress",
        })
    }
}

impl std::error::Error for NoHost {}

/// What became of a request at a host, for its statistics, its speed and its outlier detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered with this status, the head of which came after this time.
    Answered {
        /// The status.
        status: u16,
        /// From the request sent to the answer's head.
        took: Duration,
    },
    /// A connection of its own could be opened in this time, which is all that is known where bytes are relayed. Reported by
    /// [`HostPool::dial`](super::HostPool::dial) itself.
    Connected {
        /// To open it.
        took: Duration,
    },
    /// No connection to it could be had. Reported by [`HostPool::checkout`](super::HostPool::checkout) itself.
    Unreachable,
    /// It did not answer in time.
    Timeout,
    /// The connection broke, or the answer was malformed.
    Reset,
    /// The client left, or its body broke off: says nothing about the host.
    Abandoned,
}
