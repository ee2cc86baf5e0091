//! Paths that take less than the port does: what ICMP says of them (RFC 1191), and a view of the port for each size.
//!
//! smoltcp asks for the MTU once, when an interface is made, and all flows of the interface have it. So there is an interface for each of a
//! few sizes, and a flow on a narrow path is shown the one that fits.
//!
//! **Invariant:** what ICMP says changes nothing unless it quotes bytes that are on their way; packets get shorter by it, never longer, and
//! never shorter than the last of [`SIZES`].

use smoltcp::iface::{Config, Interface};
use smoltcp::time::Instant;
use smoltcp::wire::HardwareAddress;

use super::flow_table::{FlowKey, Holder};
use super::nic::Nic;
use super::recovery::is_after;
use super::{Stack, StackConfig};
use crate::counters::DropReason;
use crate::device::Mac;

/// A router could not pass on a packet of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooBig {
    /// Whose packet it was.
    pub(super) key: FlowKey,
    /// Its sequence number.
    pub(super) seq: u32,
    /// The longest packet that it takes, in bytes; 0: it does not say.
    pub(super) mtu: u16,
}

/// smoltcp's interfaces: the port as it is, and for narrow paths.
pub(super) struct Interfaces {
    /// By falling MTU; the first is the port's own, or what `segment_bytes_max` leaves of it.
    all: Vec<(u16, Interface)>,
}

impl Interfaces {
    /// For a port.
    pub(super) fn new(nic: &mut Nic, config: &StackConfig, now: Instant) -> Self {
        let widest = config.segment_packet_bytes();
        let narrow = SIZES.into_iter().filter(|&size| size < widest);
        let all = std::iter::once(widest).chain(narrow).map(|mtu| (mtu, interface(nic, config, mtu, now)));
        Self { all: all.collect() }
    }

    /// The one for a flow's path, by its place.
    pub(super) fn of(&mut self, path: u8) -> &mut Interface {
        &mut self.all[usize::from(path)].1
    }

    /// The widest one for `mtu`, behind `path`: its place and its MTU. `mtu` 0: the next. None: there is none behind it.
    fn narrower(&self, path: u8, mtu: u16) -> Option<(u8, u16)> {
        let behind = self.all.iter().enumerate().skip(usize::from(path) + 1);
        let last = behind.clone().last();
        let fits = behind.clone().find(|(_, (size, _))| mtu == 0 || *size <= mtu).or(last)?;
        Some((u8::try_from(fits.0).expect("a few"), fits.1.0))
    }

    fn mtu(&self, path: u8) -> u16 {
        self.all[usize::from(path)].0
    }
}

fn interface(nic: &mut Nic, config: &StackConfig, mtu: u16, now: Instant) -> Interface {
    let mut settings = Config::new(HardwareAddress::Ip);
    settings.random_seed = config.seed;
    let mut link = nic.link(Mac::BROADCAST, None);
    link.mtu = usize::from(mtu);
    let mut iface = Interface::new(settings, &mut link, now);
    // Whose address it is was looked at before.
    iface.set_any_ip(true);
    iface
}

impl Stack {
    /// A packet of ours was too long for its path.
    pub(super) fn receive_too_big(&mut self, told: TooBig) {
        let Some(Holder::Flow(id)) = self.table.get(&told.key) else {
            return self.nic.counters.drop_frame(DropReason::Protocol);
        };
        let flow = &mut self.flows[id as usize];
        let sent = flow.sender.outstanding();
        // RFC 5927, 7: who is not on the path does not know the numbers.
        let is_ours = !is_after(sent.start, told.seq) && is_after(sent.end, told.seq);
        // No link of IPv6 takes less (RFC 8200, 5; RFC 8201, 4).
        let mtu = if told.key.peer.is_ipv6() { told.mtu.max(IPV6_MTU_MIN) } else { told.mtu };
        let narrower = (mtu < self.ifaces.mtu(flow.path)).then(|| self.ifaces.narrower(flow.path, mtu)).flatten();
        let (true, Some((path, mtu))) = (is_ours && flow.sender.is_open(), narrower) else {
            return self.nic.counters.drop_frame(DropReason::Protocol);
        };
        flow.path = path;
        flow.sender.narrow(mtu - told.key.header_bytes(), self.now);
        self.mark(id);
    }
}

/// What every link of IPv6 takes, in bytes.
pub(super) const IPV6_MTU_MIN: u16 = 1280;
/// MTUs of paths, in bytes: PPPoE, tunnels, IPv6's least, and what every host takes (RFC 1191, 7).
const SIZES: [u16; 5] = [1492, 1400, 1280, 1006, 576];

#[cfg(test)]
mod tests {
    use smoltcp::wire::{Icmpv4Packet, IpProtocol, Ipv4Packet, TcpControl};

    use crate::stack::Bind;
    use crate::stack::packet::{ETHER_IPV4, ETHERNET_BYTES};
    use crate::stack::tests::{Bench, OUR_MAC, OURS, PEER, PEER_MAC, read, tcp};

    /// What a router answers to our packet `frame`: that it takes `mtu` at most.
    fn too_big(frame: &[u8], mtu: u16) -> Vec<u8> {
        let mut icmp = [&[3, 4, 0, 0, 0, 0][..], &mtu.to_be_bytes(), &frame[ETHERNET_BYTES..][..28]].concat();
        Icmpv4Packet::new_unchecked(&mut icmp[..]).fill_checksum();
        let mut packet = [&[0x45][..], &[0; 19], &icmp].concat();
        let len = u16::try_from(packet.len()).unwrap();
        let mut ip = Ipv4Packet::new_unchecked(&mut packet[..]);
        ip.set_total_len(len);
        ip.set_hop_limit(60);
        ip.set_next_header(IpProtocol::Icmp);
        ip.set_src_addr(PEER);
        ip.set_dst_addr(OURS);
        ip.fill_checksum();
        [&OUR_MAC.0[..], &PEER_MAC.0, ETHER_IPV4, &packet].concat()
    }

    #[test]
    fn a_narrow_path_gets_shorter_segments_and_the_lost_ones_again() {
        let mut bench = Bench::new();
        let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
        let (peer, ours) = bench.establish(1000);
        let flow = bench.accept(listener);
        bench.stack.socket(flow).send_slice(&[7; 4000]).unwrap();
        bench.stack.touch(flow);
        let sent = bench.turn();
        assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [1514, 1514, 1134]);
        assert_eq!(sent[0][20] & 0x40, 0x40, "don't fragment");
        let sizes = |frames: Vec<Vec<u8>>| {
            frames.iter().map(|f| (read(f).seq - ours, read(f).payload.len())).collect::<Vec<_>>()
        };
        assert_eq!(sizes(bench.receive(too_big(&sent[1], 1450))), [(0, 1360), (1360, 1360), (2720, 1280)], "1400 fits");
        // The second router is narrower, and old.
        let again = bench.receive(too_big(&sent[0], 0));
        assert_eq!(sizes(again), [(0, 1240), (1240, 1240), (2480, 1240), (3720, 280)]);
        assert!(bench.answer(tcp(1000, TcpControl::None, peer, Some(ours + 4000))).is_none());
        assert_eq!(bench.stack.socket(flow).send_queue(), 0);
    }

    #[test]
    fn who_does_not_know_the_numbers_changes_nothing() {
        let mut bench = Bench::new();
        let (listener, _) = bench.stack.bind(Bind::Any, 80, 10).unwrap();
        let (peer, ours) = bench.establish(1000);
        let flow = bench.accept(listener);
        bench.stack.socket(flow).send_slice(&[7; 1000]).unwrap();
        bench.stack.touch(flow);
        let sent = bench.turn().remove(0);
        let cases: [fn(&mut Vec<u8>); 5] = [
            |f| f[ETHERNET_BYTES + 24] ^= 0x40, // The sequence number.
            |f| f[ETHERNET_BYTES + 23] = 9,     // The peer's port.
            |f| f[ETHERNET_BYTES + 12] = 9,     // Our address.
            |f| f[ETHERNET_BYTES + 9] = 17,     // TCP.
            |f| f[ETHERNET_BYTES] = 0x4f,       // The length of the header.
        ];
        for change in cases {
            let mut forged = sent.clone();
            change(&mut forged);
            assert!(bench.receive(too_big(&forged, 576)).is_empty());
        }
        assert!(bench.receive(too_big(&sent, 1500)).is_empty(), "it takes what we send");
        assert_eq!(bench.receive(too_big(&sent, 68)).len(), 2, "but never less than 576");
        assert!(bench.receive(too_big(&sent, 68)).is_empty());
        // Acknowledged, nothing of it is on its way.
        assert!(bench.answer(tcp(1000, TcpControl::None, peer, Some(ours + 1000))).is_none());
        assert!(bench.receive(too_big(&sent, 68)).is_empty());
    }
}
