//! SOFA Bolt, version 1, as far as a load test needs it: one call and its answer, both made before, and where a message ends.
//!
//! **Invariant:** a message is told from one of HTTP by its first byte.

use super::body::Body;
use super::head::{Head, Malformed};

/// Whether these are a message's first bytes.
pub(crate) fn is_bolt(bytes: &[u8]) -> bool {
    bytes.first() == Some(&VERSION)
}

/// A call with so many bytes of content.
pub(crate) fn call(content_bytes: usize) -> Vec<u8> {
    message(&[CALL, REQUEST], 1, &TIMEOUT_MS.to_be_bytes(), REQUEST_CLASS, &[("service", "app:1.0")], content_bytes)
}

/// The answer to call `id`, with so many bytes of content.
pub(crate) fn answer(id: u32, content_bytes: usize) -> Vec<u8> {
    message(&[ANSWER, RESPONSE], id, &0_u16.to_be_bytes(), RESPONSE_CLASS, &[], content_bytes)
}

/// What a call's head says: its id, and the head, which ends where the class begins. `None` while it is not whole.
pub(crate) fn read_call(bytes: &[u8]) -> Result<Option<(u32, Head)>, Malformed> {
    let Some(head) = bytes.first_chunk::<CALL_HEAD_BYTES>() else { return Ok(None) };
    if head[1] != CALL || number(&head[2..4]) != u64::from(REQUEST) {
        return Err(Malformed);
    }
    let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Ok(Some((id, head_of(CALL_HEAD_BYTES, &head[14..]))))
}

/// What an answer's head says, and its status in HTTP's words: 200 for a success. `None` while it is not whole.
pub(crate) fn read_answer(bytes: &[u8]) -> Result<Option<(Head, u16)>, Malformed> {
    let Some(head) = bytes.first_chunk::<ANSWER_HEAD_BYTES>() else { return Ok(None) };
    if head[1] != ANSWER || number(&head[2..4]) != u64::from(RESPONSE) {
        return Err(Malformed);
    }
    let status = if head[10..12] == [0, 0] { 200 } else { 500 };
    Ok(Some((head_of(ANSWER_HEAD_BYTES, &head[12..]), status)))
}

/// The head of a message with these lengths of class, headers and content at its end.
fn head_of(len: usize, lengths: &[u8]) -> Head {
    let rest = number(&lengths[..2]) + number(&lengths[2..4]) + number(&lengths[4..8]);
    Head { len, framing: Some(Body::Length(rest)), close: false, expects: false }
}

fn message(
    [kind, command]: &[u8; 2],
    id: u32,
    own: &[u8],
    class: &str,
    headers: &[(&str, &str)],
    content_bytes: usize,
) -> Vec<u8> {
    let mut block = Vec::new();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        block.extend_from_slice(&u32::try_from(text.len()).expect("a short text").to_be_bytes());
        block.extend_from_slice(text.as_bytes());
    }
    let short = |len: usize| u16::try_from(len).expect("a short text").to_be_bytes();
    let content = u32::try_from(content_bytes).expect("less than 4 GiB").to_be_bytes();
    let mut message = [&[VERSION, *kind, 0, *command, 1][..], &id.to_be_bytes(), &[HESSIAN], own].concat();
    for part in [&short(class.len())[..], &short(block.len()), &content, class.as_bytes(), &block] {
        message.extend_from_slice(part);
    }
    message.resize(message.len() + content_bytes, b'x');
    message
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Where the id of a call or an answer lies.
pub(crate) const ID: std::ops::Range<usize> = 5..9;
const VERSION: u8 = 1;
const CALL: u8 = 1;
const ANSWER: u8 = 0;
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
const HESSIAN: u8 = 1;
const TIMEOUT_MS: u32 = 10_000;
const CALL_HEAD_BYTES: usize = 22;
const ANSWER_HEAD_BYTES: usize = 20;
const REQUEST_CLASS: &str = "com.alipay.sofa.rpc.core.request.SofaRequest";
const RESPONSE_CLASS: &str = "com.alipay.sofa.rpc.core.response.SofaResponse";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let call = call(1024);
        let (id, head) = read_call(&call).unwrap().unwrap();
        let rest = 44 + 4 + 7 + 4 + 7 + 1024;
        assert_eq!((id, head.len, head.framing), (1, 22, Some(Body::Length(rest))));
        assert_eq!(call.len() as u64, 22 + rest);
        let mut answer = answer(0x0102_0304, 5);
        let (head, status) = read_answer(&answer).unwrap().unwrap();
        assert_eq!((head.len, head.framing, status), (20, Some(Body::Length(46 + 5)), 200));
        assert_eq!((answer.len(), &answer[ID]), (20 + 46 + 5, &[1, 2, 3, 4][..]));
        answer[11] = 7;
        assert_eq!(read_answer(&answer).unwrap().unwrap().1, 500);
        assert_eq!(read_answer(&answer[..19]), Ok(None));
        assert_eq!(read_call(&call[..21]), Ok(None));
        assert_eq!((read_call(&answer[..]), read_answer(&call)), (Err(Malformed), Err(Malformed)));
    }
}
