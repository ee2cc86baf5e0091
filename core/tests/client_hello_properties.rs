//! What holds of every first message of a TLS client, and of every other bytes.

use ferrogate_core::codec::client_hello::{Opening, decode};
use proptest::collection::vec;
use proptest::prelude::*;

const BYTES_MAX: usize = 2048;

fn with_u16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A message for this name, in records of at most this length.
fn hello(name: &str, padding: usize, record: usize) -> Vec<u8> {
    let entry = [&[0][..], &with_u16(name.as_bytes())].concat();
    let extensions = [&[0, 21][..], &with_u16(&vec![0; padding]), &[0, 0], &with_u16(&with_u16(&entry))].concat();
    let body = [&[3, 3][..], &[7; 32], &[0], &with_u16(&[0x13, 1]), &[1, 0], &with_u16(&extensions)].concat();
    let message = [&[1, 0][..], &with_u16(&body)].concat();
    message.chunks(record).flat_map(|part| [&[22, 3, 1][..], &with_u16(part)].concat()).collect()
}

/// A message, one with a few bytes changed, or any bytes.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let whole =
        ("[a-z.]{0,20}", 0_usize..600, 1_usize..700).prop_map(|(name, padding, record)| hello(&name, padding, record));
    let changed = (whole, vec((any::<prop::sample::Index>(), any::<u8>()), 0..5)).prop_map(|(mut bytes, changes)| {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    });
    prop_oneof![changed, vec(any::<u8>(), 0..300)]
}

proptest! {
    /// However the bytes come in, the verdict is the same, and it is never waited for beyond the limit.
    #[test]
    fn more_bytes_change_no_verdict(bytes in bytes()) {
        let whole = decode(&bytes, BYTES_MAX);
        prop_assert!(whole.is_some() || bytes.len() < BYTES_MAX);
        for n in 0..bytes.len() {
            if let Some(verdict) = decode(&bytes[..n], BYTES_MAX) {
                prop_assert_eq!(Some(verdict), whole, "at {} bytes", n);
                break;
            }
        }
    }

    #[test]
    fn a_name_is_read_however_the_message_is_cut(name in "[a-zA-Z0-9-]{1,30}\\.[a-z]{2,8}", padding in 0_usize..900, record in 5_usize..1000) {
        let Some(Opening::Tls(hello)) = decode(&hello(&name, padding, record), 16 * 1024) else { panic!("it is TLS") };
        prop_assert_eq!(hello.server_name, Some(name.to_ascii_lowercase()));
    }
}
