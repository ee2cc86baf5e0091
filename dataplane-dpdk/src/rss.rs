//! Which lcore a flow belongs to, where several share a port: the hash of RSS, and source ports whose answers come home.
//!
//! A port with RSS hashes addresses and ports of what it receives by Toeplitz and a key, and a table says to which queue the hash goes. The same is
//! computed here. With a key that repeats itself every two bytes (Woo and Park's) both directions of a flow have one hash, and because the hash is
//! linear it is the hash of one word: of all words of the addresses and ports, added without carry. A connection of our own takes a source port that
//! makes this word one of its lcore's; there is nothing to be remembered for a destination but the sum of its addresses.
//!
//! **Invariant:** a function of the bytes alone: the same on every lcore, for every frame of a flow, in either direction.

use std::net::IpAddr;
use std::sync::Arc;

/// The hash of RSS: Toeplitz, by `key`, of `input`.
///
/// # Panics
/// When the key is not at least four bytes longer than the input.
#[must_use]
pub fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    assert!(key.len() >= input.len() + 4, "a window of 32 bits for each bit of the input");
    let mut hash = 0;
    for (at, byte) in input.iter().enumerate() {
        let window = key[at..at + 5].iter().fold(0_u64, |window, byte| window << 8 | u64::from(*byte));
        for bit in 0..8 {
            if byte & 0x80 >> bit != 0 {
                let [_, _, _, _, word @ ..] = (window >> (8 - bit)).to_be_bytes();
                hash ^= u32::from_be_bytes(word);
            }
        }
    }
    hash
}

/// The words of addresses and ports, added without carry: all that the hash of a flow depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words(u16);

impl Words {
    /// Of bytes, two at a time.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let words = bytes.chunks_exact(2).map(|word| u16::from_ne_bytes([word[0], word[1]]));
        Self(u16::from_be(words.fold(0, |sum, word| sum ^ word)))
    }

    /// Of two addresses.
    #[must_use]
    pub fn of_addresses(peer: IpAddr, local: IpAddr) -> Self {
        let words = |ip| match ip {
            IpAddr::V4(ip) => Self::of(&ip.octets()),
            IpAddr::V6(ip) => Self::of(&ip.octets()),
        };
        words(peer).and(words(local))
    }

    /// With others.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }

    /// With a port.
    #[must_use]
    pub fn and_port(self, port: u16) -> Self {
        Self(self.0 ^ port)
    }
}

/// How flows are spread over the lcores of a port.
#[derive(Debug)]
pub struct Steering {
    /// The hashes of the first byte of a word, and of the second.
    hashes: [[u32; 256]; 2],
    /// By the last bits of a hash.
    table: Box<[u16]>,
}

impl Steering {
    /// Over so many lcores, by a table of so many entries, which is a power of two: as the port has it, or [`SOFTWARE_ENTRIES`].
    ///
    /// # Panics
    /// When it is not, or there is no lcore.
    #[must_use]
    pub fn new(lcores: u16, entries: u16) -> Self {
        assert!(lcores > 0 && entries.is_power_of_two(), "a table is chosen from by bits");
        let byte = |at: usize| {
            std::array::from_fn(|byte| {
                let mut word = [0; 2];
                word[at] = u8::try_from(byte).expect("below 256");
                toeplitz(&SYMMETRIC_KEY, &word)
            })
        };
        Self { hashes: [byte(0), byte(1)], table: (0..entries).map(|entry| entry % lcores).collect() }
    }

    /// The lcore of these.
    #[must_use]
    pub fn lcore(&self, words: Words) -> usize {
        let [first, second] = words.0.to_be_bytes();
        let hash = self.hashes[0][usize::from(first)] ^ self.hashes[1][usize::from(second)];
        usize::from(self.table[hash as usize & (self.table.len() - 1)])
    }
}

/// The place of a stack among the lcores that share its port.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Which lcore it is, from 0.
    pub index: usize,
    /// Whose is what.
    pub steering: Arc<Steering>,
}

impl Seat {
    /// Whether what has these comes here.
    #[must_use]
    pub fn is_home(&self, words: Words) -> bool {
        self.steering.lcore(words) == self.index
    }
}

/// The ports of one destination that bring its answers home. Without a seat all of them do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HomePorts<'a>(pub(crate) Option<(&'a Seat, Words)>);

impl HomePorts<'_> {
    /// Whether this port does.
    pub(crate) fn has(self, port: u16) -> bool {
        self.0.is_none_or(|(seat, words)| seat.is_home(words.and_port(port)))
    }
}

/// The key that is the same for both directions of a flow, as long as any flow needs it.
pub const SYMMETRIC_KEY: [u8; 40] = {
    let mut key = [0x6d; 40];
    let mut at = 1;
    while at < key.len() {
        key[at] = 0x5a;
        at += 2;
    }
    key
};

/// Entries of a table where no port has one.
pub const SOFTWARE_ENTRIES: u16 = 128;

/// Lcores that share a port, at most: those of DPDK as Debian builds it (RTE_MAX_LCORE), but for its own.
pub const LCORES_MAX: usize = 127;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// Of Microsoft's "Verifying the RSS hash calculation".
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca,
        0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b,
        0xbe, 0xac, 0x01, 0xfa,
    ];

    /// Destination, source, the hash of the addresses, and with the ports.
    const ANSWERS: [(&str, &str, u32, u32); 8] = [
        ("161.142.100.80:1766", "66.9.149.187:2794", 0x323e_8fc2, 0x51cc_c178),
        ("65.69.140.83:4739", "199.92.111.2:14230", 0xd718_262a, 0xc626_b0ea),
        ("12.22.207.184:38024", "24.19.198.95:12898", 0xd2d0_a5de, 0x5c2b_394a),
        ("209.142.163.6:2217", "38.27.205.30:48228", 0x8298_9176, 0xafc7_327f),
        ("202.188.127.2:1303", "153.39.163.191:44251", 0x5d18_09c5, 0x10e8_28a2),
        ("[3ffe:2501:200:3::1]:1766", "[3ffe:2501:200:1fff::7]:2794", 0x2cc1_8cd5, 0x4020_7d3d),
        ("[ff02::1]:4739", "[3ffe:501:8::260:97ff:fe40:efab]:14230", 0x0f0c_461c, 0xdde5_1bbf),
        ("[fe80::200:f8ff:fe21:67cf]:38024", "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251", 0x4b61_e985, 0x02d1_feef),
    ];

    fn input(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
        let octets = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
        [octets(source), octets(destination), ports].concat()
    }

    #[test]
    fn the_hash_is_that_of_the_specification() {
        for (destination, source, of_addresses, of_all) in ANSWERS {
            let input = input(source.parse().unwrap(), destination.parse().unwrap());
            assert_eq!(toeplitz(&KEY, &input[..input.len() - 4]), of_addresses, "{source} to {destination}");
            assert_eq!(toeplitz(&KEY, &input), of_all, "{source} to {destination}");
        }
    }

    #[test]
    fn the_hash_of_one_word_is_that_of_all_and_of_both_directions() {
        for entries in [1, 64, 128, 512] {
            let steering = Steering::new(3, entries);
            for (destination, source, ..) in ANSWERS {
                let (to, from): (SocketAddr, SocketAddr) = (destination.parse().unwrap(), source.parse().unwrap());
                let words = Words::of_addresses(from.ip(), to.ip()).and_port(from.port()).and_port(to.port());
                for input in [input(from, to), input(to, from)] {
                    assert_eq!(Words::of(&input), words);
                    let hash = toeplitz(&SYMMETRIC_KEY, &input);
                    let lcore = hash % u32::from(entries) % 3;
                    assert_eq!(steering.lcore(words), lcore as usize);
                }
            }
        }
    }

    #[test]
    fn every_lcore_has_its_share_of_flows_and_of_the_ports_to_a_host() {
        for lcores in [2, 3, 7, 16] {
            let steering = Steering::new(lcores, SOFTWARE_ENTRIES);
            let to = Words::of(&[10, 0, 0, 1, 10, 0, 0, 2]).and_port(80);
            let mut ports = vec![0_u32; lcores.into()];
            (32_768..=u16::MAX).for_each(|port| ports[steering.lcore(to.and_port(port))] += 1);
            let fair = 32_768 / u32::from(lcores);
            assert!(ports.iter().all(|&n| n > fair * 3 / 4 && n < fair * 5 / 4), "{ports:?}");
        }
    }
}
