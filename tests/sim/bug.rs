//! Bugs to plant: what a gateway sends that has them. A simulation that does not find these finds nothing.

use dataplane_dpdk::Frame;

use crate::scene::CLIENT;

/// A bug of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A byte of an answer is wrong under a right checksum, as from a ring that was read at the wrong place.
    Byte,
    /// A flow sends nothing any more, as after a timer that was lost.
    Silence,
    /// A connection is forgotten, and never closed.
    Leak,
}

impl Bug {
    /// By its name, as in `FERROGATE_SIM_BUG`.
    pub fn parse(name: &str) -> Option<Self> {
        ALL.into_iter().find(|bug| format!("{bug:?}").eq_ignore_ascii_case(name))
    }
}

/// All there are.
pub const ALL: [Bug; 3] = [Bug::Byte, Bug::Silence, Bug::Leak];

/// A bug at work on the frames that the gateway sends.
#[derive(Debug)]
pub struct Planted {
    bug: Option<Bug>,
    /// Segments with data that it has seen.
    seen: u32,
    /// Addresses and ports of the flow that has fallen silent.
    silent: Option<[u8; 12]>,
}

impl Planted {
    pub fn new(bug: Option<Bug>) -> Self {
        Self { bug, seen: 0, silent: None }
    }

    /// What becomes of a frame. Answers whether it is sent at all.
    pub fn pass(&mut self, frame: &mut Frame) -> bool {
        let Some(bug) = self.bug else { return true };
        let bytes = frame.bytes_mut();
        let Some((tcp, data)) = segment_to_client(bytes) else { return true };
        let flow: [u8; 12] = bytes[IP + 12..IP + 24].try_into().expect("two addresses and two ports");
        self.seen += u32::from(bytes.len() >= data + DATA_BYTES_MIN);
        let is_it = self.seen == AT_SEGMENT && bytes.len() >= data + DATA_BYTES_MIN;
        match bug {
            Bug::Byte if is_it => change_byte(bytes, tcp),
            Bug::Silence if is_it => self.silent = Some(flow),
            _ => {}
        }
        self.silent != Some(flow)
    }
}

/// Where the TCP header of a segment to the client begins, and where its data.
fn segment_to_client(frame: &[u8]) -> Option<(usize, usize)> {
    let is_one = frame.len() >= IP + 40 && frame[12..14] == [8, 0] && frame[IP + 9] == 6 && frame[IP + 19] == CLIENT;
    is_one.then(|| (IP + 20, IP + 20 + usize::from(frame[IP + 32] >> 4) * 4))
}

/// Changes a byte near the end, and the checksum with it (RFC 1624).
fn change_byte(frame: &mut [u8], tcp: usize) {
    let at = tcp + (frame.len() - tcp) / 2 * 2 - 2;
    let word = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let before = word(frame, at);
    frame[at] ^= 1;
    let sum = u32::from(!word(frame, tcp + 16)) + u32::from(!before) + u32::from(word(frame, at));
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded");
    frame[tcp + 16..tcp + 18].copy_from_slice(&(!folded).to_be_bytes());
}

/// Where the IP header begins.
const IP: usize = 14;
/// The segment that it happens to, and the data that one has at least.
const AT_SEGMENT: u32 = 2;
const DATA_BYTES_MIN: usize = 100;
