//! The protocols that clients may speak, and those of RPC.
//!
//! **Invariant:** a protocol has one name, MOSN's, wherever the file, a log or a metric names it.

/// A protocol of RPC: frames that carry a request or its answer and the number that joins the two.
///
/// A new one is a row here and in [`ALL`](Self::ALL), and its codec in `codec::xprotocol`: docs/writing-a-codec.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RpcProtocol {
    /// SOFA Bolt, version 1.
    Bolt,
    /// SOFA Bolt, version 2, whose frames may carry a checksum.
    BoltV2,
    /// Dubbo 2.
    Dubbo,
    /// Tars, and TUP.
    Tars,
    /// Dubbo's Thrift.
    DubboThrift,
    /// That of docs/writing-a-codec.md.
    #[cfg(test)]
    Parcel,
}

impl RpcProtocol {
    /// All of them, in the order in which the first bytes of a connection are looked at.
    pub const ALL: &'static [Self] = &[
        Self::Bolt,
        Self::BoltV2,
        Self::Dubbo,
        Self::Tars,
        Self::DubboThrift,
        #[cfg(test)]
        Self::Parcel,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its place among [`ALL`](Self::ALL).
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bolt => "bolt",
            Self::BoltV2 => "boltv2",
            Self::Dubbo => "dubbo",
            Self::Tars => "tars",
            Self::DubboThrift => "dubbo-thrift",
            #[cfg(test)]
            Self::Parcel => "parcel",
        }
    }

    /// The protocol of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|protocol| protocol.name() == name)
    }
}

/// What clients of a listener may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols(u16);

impl Protocols {
    /// HTTP/1.
    pub const HTTP1: Self = Self(1);
    /// HTTP/2, by prior knowledge or by ALPN.
    pub const HTTP2: Self = Self(1 << 1);
    /// Either: by ALPN, else by the first bytes.
    pub const HTTP: Self = Self(Self::HTTP1.0 | Self::HTTP2.0);
    /// None at all.
    pub const NONE: Self = Self(0);

    /// One protocol of RPC.
    #[must_use]
    pub const fn rpc(protocol: RpcProtocol) -> Self {
        Self(1 << (2 + protocol as u16))
    }

    /// Every protocol there is.
    #[must_use]
    pub fn all() -> Self {
        RpcProtocol::ALL.iter().fold(Self::HTTP, |all, protocol| all.and(Self::rpc(*protocol)))
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is just one.
    #[must_use]
    pub const fn is_one(self) -> bool {
        self.0.count_ones() == 1
    }

    /// Those of RPC among them.
    pub fn rpcs(self) -> impl Iterator<Item = RpcProtocol> {
        RpcProtocol::ALL.iter().copied().filter(move |protocol| self.has(Self::rpc(*protocol)))
    }
}

impl Default for Protocols {
    fn default() -> Self {
        Self::HTTP1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let bolt = Protocols::rpc(RpcProtocol::Bolt);
        let both = bolt.and(Protocols::HTTP1);
        assert!(both.has(bolt) && both.has(Protocols::HTTP1) && !both.has(Protocols::HTTP) && !both.is_one());
        assert_eq!(both.rpcs().collect::<Vec<_>>(), [RpcProtocol::Bolt]);
        assert!(bolt.is_one() && !Protocols::HTTP.is_one() && !Protocols::NONE.is_one());
        assert_eq!(Protocols::all().rpcs().count(), RpcProtocol::ALL.len());
        for protocol in RpcProtocol::ALL {
            assert_eq!(RpcProtocol::of_name(protocol.name()), Some(*protocol));
            assert_eq!(RpcProtocol::ALL[protocol.index()], *protocol);
        }
    }
}
