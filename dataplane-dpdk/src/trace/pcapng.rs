//! The file format of captures: pcapng (draft-ietf-opsawg-pcapng), in this machine's byte order.
//!
//! **Invariant:** each block that is written is whole, so that a file that ends early can be read up to there.

use super::ring::Record;

/// The head of a file: one section, and an interface for each port by its name.
pub(crate) fn head<'a>(ports: impl IntoIterator<Item = &'a str>, kept_bytes: u32) -> Vec<u8> {
    let mut out = Vec::new();
    block(&mut out, SECTION_HEADER, |body| {
        body.extend(BYTE_ORDER.to_ne_bytes());
        body.extend(1_u16.to_ne_bytes());
        body.extend(0_u16.to_ne_bytes());
        body.extend((-1_i64).to_ne_bytes());
        option(body, USER_APPLICATION, concat!("ferrogate ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(body, END_OF_OPTIONS, &[]);
    });
    for port in ports {
        block(&mut out, INTERFACE, |body| {
            body.extend(ETHERNET.to_ne_bytes());
            body.extend(0_u16.to_ne_bytes());
            body.extend(kept_bytes.to_ne_bytes());
            option(body, INTERFACE_NAME, port.as_bytes());
            option(body, TIME_RESOLUTION, &[NANOSECONDS]);
            option(body, END_OF_OPTIONS, &[]);
        });
    }
    out
}

/// Adds a frame.
pub(crate) fn packet(out: &mut Vec<u8>, record: &Record) {
    block(out, ENHANCED_PACKET, |body| {
        body.extend(u32::from(record.port).to_ne_bytes());
        time(body, record.at);
        let kept = u32::try_from(record.bytes.len()).unwrap_or(u32::MAX);
        body.extend(kept.to_ne_bytes());
        body.extend(record.len.to_ne_bytes());
        padded(body, &record.bytes);
        let direction: u32 = if record.sent { OUTBOUND } else { INBOUND };
        option(body, PACKET_FLAGS, &direction.to_ne_bytes());
        option(body, END_OF_OPTIONS, &[]);
    });
}

/// Adds what was captured at a port and what was lost, at the end.
pub(crate) fn statistics(out: &mut Vec<u8>, port: u16, at: u64, taken: u64, lost: u64) {
    block(out, INTERFACE_STATISTICS, |body| {
        body.extend(u32::from(port).to_ne_bytes());
        time(body, at);
        option(body, RECEIVED, &(taken + lost).to_ne_bytes());
        option(body, DROPPED, &lost.to_ne_bytes());
        option(body, END_OF_OPTIONS, &[]);
    });
}

/// How many bytes of `bytes` are whole blocks. None: what is there is no block.
pub(crate) fn whole(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let len = usize::try_from(u32::from_ne_bytes([head[4], head[5], head[6], head[7]])).ok()?;
        if len < BLOCK_BYTES_MIN || !len.is_multiple_of(4) {
            return None;
        }
        if bytes.len() - at < len {
            break;
        }
        at += len;
    }
    Some(at)
}

fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_ne_bytes());
    out.extend([0; 4]);
    body(out);
    let len = u32::try_from(out.len() - start + 4).unwrap_or(u32::MAX);
    out[start + 4..start + 8].copy_from_slice(&len.to_ne_bytes());
    out.extend(len.to_ne_bytes());
}

/// In two halves, the upper one first.
fn time(body: &mut Vec<u8>, at: u64) {
    for half in [at >> 32, at & 0xffff_ffff] {
        body.extend(u32::try_from(half).unwrap_or(u32::MAX).to_ne_bytes());
    }
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    // Names of devices are the longest.
    let value = &value[..value.len().min(1024)];
    body.extend(code.to_ne_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_ne_bytes());
    padded(body, value);
}

fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend_from_slice(bytes);
    body.extend(&[0; 3][..bytes.len().next_multiple_of(4) - bytes.len()]);
}

/// A block without a body: kind, length, and length again.
const BLOCK_BYTES_MIN: usize = 12;
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;
const NANOSECONDS: u8 = 9;
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;
// Options.
const END_OF_OPTIONS: u16 = 0;
const USER_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const TIME_RESOLUTION: u16 = 9;
const PACKET_FLAGS: u16 = 2;
const RECEIVED: u16 = 4;
const DROPPED: u16 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_padded_and_say_their_length_twice() {
        let mut file = head(["net_ring0", "net_tap1,iface=x"], 96);
        for len in 0..9 {
            packet(&mut file, &Record { at: 1 << 40, bytes: vec![7; len], len: 100, port: 1, sent: len > 4 });
        }
        statistics(&mut file, 0, 5, 9, 1);
        let (mut at, mut kinds) = (0, Vec::new());
        let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().unwrap());
        while at < file.len() {
            let len = word(at + 4) as usize;
            assert!(len.is_multiple_of(4) && word(at + len - 4) as usize == len, "block at {at}");
            kinds.push(word(at));
            at += len;
        }
        assert_eq!(kinds, [vec![SECTION_HEADER, 1, 1], vec![6; 9], vec![5]].concat());
        assert_eq!(
            (whole(&file), whole(&file[..file.len() - 1]), whole(&[0; 8])),
            (Some(file.len()), Some(file.len() - 52), None)
        );
    }
}
