//! Initial sequence numbers (RFC 6528): a clock, and a keyed hash of the addresses.
//!
//! A connection that follows another on the same four addresses then begins behind it. A peer that closed the one before is in TIME-WAIT
//! and takes the new SYN for that reason only (RFC 9293, 3.10.7.4); with random numbers every second one would be in vain for a minute.
//!
//! **Invariant:** nobody who does not know the key can tell the number of one pair of addresses from that of another.

use std::hash::{DefaultHasher, Hash, Hasher};

use smoltcp::iface::{Config, Interface};
use smoltcp::time::Instant;
use smoltcp::wire::HardwareAddress;

use super::flow_table::FlowKey;
use super::nic::Link;

/// The number that we begin a connection with.
pub(super) fn initial(secret: u64, key: &FlowKey, now: Instant) -> u32 {
    let mut hash = DefaultHasher::new();
    (secret, key).hash(&mut hash);
    // A tick each 4 microseconds. Both halves may wrap.
    let ticks = now.total_micros().cast_unsigned() / 4;
    let sum = hash.finish().wrapping_add(ticks).to_le_bytes();
    u32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]])
}

/// An interface whose next connection begins with `number`. smoltcp asks its generator for it, and can't be told.
pub(super) fn interface(number: u32, link: &mut Link<'_>, now: Instant) -> Interface {
    let mut settings = Config::new(HardwareAddress::Ip);
    settings.random_seed = seed(number);
    let mut iface = Interface::new(settings, link, now);
    // Whose address it is was looked at before.
    iface.set_any_ip(true);
    iface
}

/// The seed with which smoltcp's generator gives `number` second. The first draw is the interface's own, and may not be zero: it would be
/// drawn again.
fn seed(number: u32) -> u64 {
    let state = |low: u64| u64::from(number) << 29 | low;
    let before = |state: u64| state.wrapping_sub(INCREMENT).wrapping_mul(MULTIPLIER_INVERSE);
    let fits = (0..1 << 29).map(state).map(before).find(|&first| (draw(first) ^ (draw(first) >> 16)) & 0xffff != 0);
    before(fits.expect("one in 65536 draws is zero"))
}

/// What the generator gives in a state.
fn draw(state: u64) -> u32 {
    let bytes = (state >> (29 - (state >> 61))).to_le_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The generator is sPCG32: a state is the one before by these two.
const INCREMENT: u64 = 0x7590_ef39;
const MULTIPLIER: u64 = 0xbb2e_fcec_3c39_611d;
/// The multiplier's inverse modulo 2^64.
const MULTIPLIER_INVERSE: u64 = inverse(MULTIPLIER);

/// Newton's method: each step doubles the number of right bits, of which an odd number has three.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut step = 0;
    while step < 5 {
        x = x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x)));
        step += 1;
    }
    x
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_inverse_undoes_the_step() {
        assert_eq!(MULTIPLIER.wrapping_mul(MULTIPLIER_INVERSE), 1);
    }

    #[test]
    fn numbers_grow_with_time_and_differ_by_address_and_key() {
        let key = |port| FlowKey {
            peer: Ipv4Addr::LOCALHOST.into(),
            local: Ipv4Addr::LOCALHOST.into(),
            peer_port: 80,
            local_port: port,
        };
        let at = |micros| Instant::from_micros(micros);
        let first = initial(1, &key(1000), at(4_000));
        assert_eq!(initial(1, &key(1000), at(8_000)), first.wrapping_add(1_000));
        assert_ne!(initial(1, &key(1001), at(4_000)), first);
        assert_ne!(initial(2, &key(1000), at(4_000)), first);
    }
}
