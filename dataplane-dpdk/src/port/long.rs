//! Long TCP segments: what stands in a burst one behind the other leaves as one, and the port cuts it apart again (TSO).
//!
//! smoltcp builds each segment as it is to be on the wire, and windows, losses, captures and counters are all of those. Only here, at the very end,
//! segments of one flow that follow each other become a chain of mbufs under the headers of the first; no byte is copied.
//!
//! **Invariant:** what the port cuts off is what would have left without it: a segment is joined only to a whole one that it continues, and whose
//! headers say the same. Nothing but TCP over IPv4 without a tag in the frame is joined.

use dpdk_sys as sys;

/// What a port that cuts long segments takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Long {
    /// Frames of one long segment, at most.
    frames_max: usize,
    /// Bytes of a frame that is joined, at most.
    frame_bytes_max: usize,
    /// Whether the port fills in the checksum of the IPv4 header.
    pub(super) port_fills_in_ip: bool,
}

impl Long {
    /// By what the shim says of a port.
    pub(super) fn of(info: &sys::PortInfo) -> Self {
        Self {
            frames_max: usize::from(info.tso_mbufs_max).min(FRAMES_MAX),
            frame_bytes_max: usize::from(info.tso_frame_max),
            port_fills_in_ip: info.able & sys::ABLE_TX_IP_CSUM != 0,
        }
    }

    /// Marks the frames of a burst that go on where the one before ends. Answers how many.
    pub(super) fn join<'a>(&self, raw: &mut [sys::Frame], mut bytes: impl FnMut(usize) -> &'a [u8]) -> usize {
        let (mut run, mut joined) = (None::<Run<'a>>, 0);
        for (at, raw) in raw.iter_mut().enumerate() {
            raw.flags &= !sys::FLAG_JOINED;
            let segment = Segment::of(bytes(at)).filter(|segment| segment.frame.len() <= self.frame_bytes_max);
            let vlan = (raw.flags & sys::FLAG_VLAN != 0).then_some(raw.vlan);
            run = match (run, segment) {
                (Some(run), Some(segment)) if run.frames < self.frames_max && run.goes_on_with(&segment, vlan) => {
                    raw.flags |= sys::FLAG_JOINED;
                    joined += 1;
                    Some(run.with(segment))
                }
                (_, Some(segment)) => {
                    Some(Run { first: segment, vlan, frames: 1, bytes: segment.frame.len(), last: segment })
                }
                (_, None) => None,
            };
        }
        joined
    }
}

/// Segments that are to be one.
struct Run<'a> {
    first: Segment<'a>,
    last: Segment<'a>,
    vlan: Option<u16>,
    frames: usize,
    /// Of the long segment so far, headers included.
    bytes: usize,
}

impl<'a> Run<'a> {
    fn goes_on_with(&self, next: &Segment<'_>, vlan: Option<u16>) -> bool {
        let (first, last) = (&self.first, &self.last);
        // All but the last are as long as the first, and say nothing but ACK.
        last.payload == first.payload
            && last.flags == ACK
            && next.flags & !PSH == ACK
            && next.payload <= first.payload
            && next.seq == last.seq.wrapping_add(last.payload)
            && vlan == self.vlan
            && self.bytes + next.frame.len() <= BYTES_MAX
            && first.says_the_same(next)
    }

    fn with(self, next: Segment<'a>) -> Self {
        let bytes = self.bytes + next.frame.len() - next.headers;
        Self { last: next, frames: self.frames + 1, bytes, ..self }
    }
}

/// A TCP segment with data in a frame, over IPv4 without options.
#[derive(Clone, Copy)]
struct Segment<'a> {
    frame: &'a [u8],
    /// Bytes of all headers.
    headers: usize,
    payload: u32,
    seq: u32,
    flags: u8,
}

impl<'a> Segment<'a> {
    /// None: it is something else, or so short that joining is no gain.
    fn of(frame: &'a [u8]) -> Option<Self> {
        let head = frame.first_chunk::<HEADERS_MIN>().filter(|_| frame.len() >= FRAME_BYTES_MIN)?;
        let is_tcp = head[12..15] == [8, 0, 0x45] && head[IP + 9] == 6;
        let length = usize::from(u16::from_be_bytes([head[IP + 2], head[IP + 3]]));
        // Not to be fragmented, and no fragment: its number means nothing (RFC 6864).
        if !is_tcp || head[IP + 6..IP + 8] != [0x40, 0] || IP + length != frame.len() {
            return None;
        }
        let headers = TCP + usize::from(head[TCP + 12] >> 4) * 4;
        let payload = frame.len().checked_sub(headers).filter(|_| headers >= HEADERS_MIN)?;
        let seq = u32::from_be_bytes([head[TCP + 4], head[TCP + 5], head[TCP + 6], head[TCP + 7]]);
        Some(Self { frame, headers, payload: u32::try_from(payload).ok()?, seq, flags: head[TCP + 13] })
    }

    /// Whether the headers of both are the same, but for lengths, numbers, flags and checksums.
    fn says_the_same(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.frame, other.frame);
        let same = |from: usize, to: usize| ours[from..to] == theirs[from..to];
        self.headers == other.headers
            && same(0, IP + 2)
            && same(IP + 6, IP + 10)
            && same(IP + 12, TCP + 4)
            && same(TCP + 8, TCP + 13)
            && same(TCP + 14, TCP + 16)
            && same(TCP + 18, self.headers)
    }
}

/// Frames of a long segment: hypervisors take what Linux makes, and a packet of Linux has 17 pieces.
const FRAMES_MAX: usize = 16;
/// Bytes of a long segment: an IP packet's, so that with its Ethernet header it has no more either.
const BYTES_MAX: usize = 65_535;
/// Frames that are shorter are not joined; some cards cut off nothing so short, and the shim keeps the first 94 bytes.
const FRAME_BYTES_MIN: usize = 512;
/// Where the headers of IPv4 and TCP begin, and the least that all headers take.
const IP: usize = 14;
const TCP: usize = IP + 20;
const HEADERS_MIN: usize = TCP + 20;
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Long = Long { frames_max: 4, frame_bytes_max: 1500, port_fills_in_ip: true };

    /// `payload` bytes at `seq` of a flow, with 12 bytes of options.
    fn segment(seq: u32, payload: usize, flags: u8) -> Vec<u8> {
        let len = u16::try_from(52 + payload).unwrap().to_be_bytes();
        let ip = [&[0x45, 0][..], &len, &[0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]].concat();
        let tcp = [&[0, 80, 0x80, 0][..], &seq.to_be_bytes(), &[0, 0, 0, 9, 0x80, flags, 1, 0, 0, 0, 0, 0], &[1; 12]]
            .concat();
        [&[2; 12][..], &[8, 0], &ip, &tcp, &vec![7; payload]].concat()
    }

    fn raw() -> sys::Frame {
        let nowhere = std::ptr::null_mut::<u8>();
        sys::Frame {
            mbuf: nowhere.cast(),
            data: nowhere,
            rss: 0,
            len: 0,
            room: 0,
            flags: 0,
            vlan: 0,
            head: 0,
            unused: 0,
        }
    }

    /// Which of the frames are joined to the one before.
    fn joined(port: Long, frames: &[Vec<u8>]) -> Vec<bool> {
        let mut raws = vec![raw(); frames.len()];
        // Of the turn before.
        raws[0].flags = sys::FLAG_JOINED;
        let count = port.join(&mut raws, |at| &frames[at]);
        let joined: Vec<_> = raws.iter().map(|raw| raw.flags & sys::FLAG_JOINED != 0).collect();
        assert_eq!(joined.iter().filter(|joined| **joined).count(), count);
        joined
    }

    #[test]
    fn a_run_of_whole_segments_is_one_and_ends_with_a_short_one() {
        let start = u32::MAX - 1000;
        let at = |n: u32| start.wrapping_add(1000 * n);
        let mut frames: Vec<_> = (0..3).map(|n| segment(at(n), 1000, ACK)).collect();
        frames.push(segment(at(3), 600, ACK | PSH));
        frames.push(segment(at(3) + 600, 1000, ACK));
        assert_eq!(joined(PORT, &frames), [false, true, true, true, false]);
        let one = Long { frames_max: 1, ..PORT };
        assert_eq!(joined(one, &frames), [false; 5], "a port of single buffers");
        let narrow = Long { frame_bytes_max: 1065, ..PORT };
        assert_eq!(joined(narrow, &frames), [false; 5], "nothing so long is cut off");
    }

    #[test]
    fn a_long_segment_is_bounded() {
        let frames: Vec<_> = (0..6).map(|n| segment(1000 * n, 1000, ACK)).collect();
        assert_eq!(joined(PORT, &frames), [false, true, true, true, false, true], "in frames");
        let jumbo: Vec<_> = (0..8).map(|n| segment(8948 * n, 8948, ACK)).collect();
        let long = joined(Long { frames_max: 16, frame_bytes_max: 65_535, ..PORT }, &jumbo);
        assert_eq!(long, [false, true, true, true, true, true, true, false], "in bytes");
    }

    #[test]
    fn what_does_not_go_on_is_not_joined() {
        let pair = |change: fn(&mut Vec<u8>)| {
            let mut second = segment(1000, 1000, ACK);
            change(&mut second);
            joined(PORT, &[segment(0, 1000, ACK), second])[1]
        };
        assert!(pair(|_| ()));
        let cases: [fn(&mut Vec<u8>); 16] = [
            |f| f[0] = 9,                    // Another station.
            |f| f[12] = 0x81,                // No IPv4.
            |f| f[IP] = 0x46,                // Options of IPv4.
            |f| f[IP + 1] = 1,               // Another class.
            |f| f[IP + 6] = 0,               // May be fragmented.
            |f| f[IP + 8] = 63,              // Another hop limit.
            |f| f[IP + 9] = 17,              // UDP.
            |f| f[IP + 15] = 9,              // Another address.
            |f| f[TCP + 1] = 81,             // Another port.
            |f| f[TCP + 7] = 1,              // Another number.
            |f| f[TCP + 11] = 10,            // Another acknowledgement.
            |f| f[TCP + 13] = ACK | 1,       // FIN.
            |f| f[TCP + 15] = 1,             // Another window.
            |f| f[HEADERS_MIN] = 9,          // Other options.
            |f| f[TCP + 12] = 0x90,          // More of them.
            |f| f.truncate(FRAME_BYTES_MIN), // Cut.
        ];
        for (n, change) in cases.into_iter().enumerate() {
            assert!(!pair(change), "case {n}");
        }
        let two = |first: Vec<u8>, second: Vec<u8>| joined(PORT, &[first, second])[1];
        assert!(!two(segment(0, 1000, ACK | PSH), segment(1000, 1000, ACK)), "nothing follows a push");
        assert!(!two(segment(0, 999, ACK), segment(999, 1000, ACK)), "longer than the first");
        assert!(!two(segment(0, 1000, ACK), segment(1000, 400, ACK)), "too short to be a gain");
        assert!(!two(vec![0; 10], segment(0, 1000, ACK)));
        let mut raws = [raw(), raw()];
        (raws[1].flags, raws[1].vlan) = (sys::FLAG_VLAN, 100);
        let frames = [segment(0, 1000, ACK), segment(1000, 1000, ACK)];
        assert_eq!(PORT.join(&mut raws, |at| &frames[at]), 0, "another VLAN");
    }
}
