//! Probes over HTTP/2: a page, or the health service of gRPC (`grpc.health.v1.Health/Check`).
//!
//! **Invariant:** a probe has a connection of its own that ends with it; of an answer no more than a limit is held.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tls_offload::Alpn;
use tokio::time::timeout;

use super::{Failure, failure};
use crate::config::Limits;
use crate::config::schema::GrpcProbe;
use crate::message::{Body, BodySource, Chunk, HttpHead, Request, Response};
use crate::net::Conn;
use crate::stream::client::{Answer, SendOptions};
use crate::stream::http2::{OriginConn, StreamHome, connect};
use crate::tls::MaybeTls;

/// What TLS offers for a probe over HTTP/2.
pub(super) fn alpn() -> Alpn {
    Alpn::new(["h2"]).expect("a name that ALPN can carry")
}

/// Asks over a connection that is to speak HTTP/2, and has the answer judged.
pub(super) async fn ask<C: Conn>(
    conn: MaybeTls<C>,
    limits: Rc<Limits>,
    mut request: Request,
    within: Duration,
    judge: impl AsyncFnOnce(Response) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let scheme = if matches!(conn, MaybeTls::Tls(_)) { "https" } else { "http" };
    let (origin, driver) = connect(conn, scheme, limits).await.map_err(|_| Failure::Network)?;
    let mut driven = pin!(driver.run(|| ()));
    let asked = async {
        let lease = origin.lease(Rc::new(Nobody)).ok_or(Failure::Network)?;
        let options = SendOptions { timeout: Some(within), upgrade: false, te_trailers: true };
        let mut flight = lease.send(&mut request, options).await.map_err(failure)?;
        loop {
            match flight.answer().await.map_err(failure)? {
                Answer::Interim(_) => {}
                Answer::None => return Err(Failure::Answer),
                Answer::Response(response) | Answer::Upgraded(response, _) => return judge(response).await,
            }
        }
    };
    let result = tokio::select! {
        result = asked => result,
        _ = &mut driven => return Err(Failure::Network),
    };
    // It says that it goes, if the host takes that at once.
    origin.retire();
    let _ = timeout(GOODBYE_TIMEOUT, driven).await;
    result
}

/// What asks the health service of gRPC.
pub(super) fn check_request(probe: &GrpcProbe, authority: &str) -> Request {
    let mut head = HttpHead::request("POST", b"/grpc.health.v1.Health/Check");
    let authority = if probe.authority.is_empty() { authority } else { &probe.authority };
    head.append("host", authority.as_bytes());
    head.append("content-type", b"application/grpc");
    head.append("user-agent", super::USER_AGENT);
    Request { head: crate::message::Head::Http(head), body: Body::Full(question(&probe.service).into()) }
}

/// Good is what serves: the call has succeeded, and says so.
pub(super) async fn judge_check(response: Response) -> Result<(), Failure> {
    let Some(head) = response.head.fields().filter(|head| head.status() == 200) else { return Err(Failure::Answer) };
    let mut status = head.get("grpc-status").map(<[u8]>::to_vec);
    let mut message = Vec::new();
    match response.body {
        Body::Empty => {}
        Body::Full(bytes) => message.extend_from_slice(&bytes),
        Body::Streaming(mut source) => {
            while let Some(chunk) = next(&mut *source).await? {
                match chunk {
                    Chunk::Data(data) if message.len() + data.len() > ANSWER_BYTES_MAX => return Err(Failure::Answer),
                    Chunk::Data(data) => message.extend_from_slice(&data),
                    Chunk::Trailers(trailers) => status = trailers.get("grpc-status").map(<[u8]>::to_vec),
                }
            }
        }
    }
    if status.as_deref() == Some(b"0") && is_serving(&message) { Ok(()) } else { Err(Failure::Answer) }
}

async fn next(source: &mut dyn BodySource) -> Result<Option<Chunk>, Failure> {
    poll_fn(|cx| source.poll_chunk(cx)).await.map_err(|_| Failure::Answer)
}

/// `HealthCheckRequest { string service = 1 }` as a message of gRPC: not compressed, its length in four bytes, and then itself.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        put_varint(service.len(), &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let len = u32::try_from(message.len()).expect("a name from the configuration");
    [&[0][..], &len.to_be_bytes(), &message].concat()
}

fn put_varint(mut n: usize, out: &mut Vec<u8>) {
    while n > 0x7f {
        out.push(n.to_le_bytes()[0] | 0x80);
        n >>= 7;
    }
    out.push(n.to_le_bytes()[0]);
}

/// Whether this is `HealthCheckResponse { ServingStatus status = 1 }` with SERVING, 1. Fields that it may have besides are not known.
fn is_serving(message: &[u8]) -> bool {
    let [0, a, b, c, d, fields @ ..] = message else { return false };
    if u32::from_be_bytes([*a, *b, *c, *d]) as usize != fields.len() {
        return false;
    }
    let (mut rest, mut status) = (fields, 0);
    while !rest.is_empty() {
        let Some(tag) = take_varint(&mut rest) else { return false };
        let len = match tag & 7 {
            0 => {
                let Some(value) = take_varint(&mut rest) else { return false };
                if tag == STATUS_TAG {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => match take_varint(&mut rest) {
                Some(len) => len,
                None => return false,
            },
            5 => 4,
            _ => return false,
        };
        let Some(after) = usize::try_from(len).ok().and_then(|len| rest.get(len..)) else { return false };
        rest = after;
    }
    status == SERVING
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Where the stream of a probe goes when it is over: nowhere.
struct Nobody;

impl StreamHome for Nobody {
    fn stream_ended(&self, _: &Rc<OriginConn>) {}
}

/// Field 1, a varint.
const STATUS_TAG: u64 = 1 << 3;

/// `ServingStatus::SERVING`.
const SERVING: u64 = 1;

/// The longest answer of a health service that is looked at, in bytes.
const ANSWER_BYTES_MAX: usize = 1024;

/// How long the end of a probe's connection is waited for.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_of_the_protocol() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        assert_eq!(question(&"x".repeat(200))[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
        for (what, message, serving) in [
            ("SERVING", &[0, 0, 0, 0, 2, 8, 1][..], true),
            ("NOT_SERVING", &[0, 0, 0, 0, 2, 8, 2], false),
            ("SERVICE_UNKNOWN", &[0, 0, 0, 0, 2, 8, 3], false),
            ("nothing said, which is UNKNOWN", &[0, 0, 0, 0, 0], false),
            ("the last word counts", &[0, 0, 0, 0, 4, 8, 1, 8, 2], false),
            ("fields that are not known", &[0, 0, 0, 0, 7, 0x12, 1, 7, 8, 1, 0x18, 5], true),
            ("compressed", &[1, 0, 0, 0, 2, 8, 1], false),
            ("cut short", &[0, 0, 0, 0, 2, 8], false),
            ("a length that lies", &[0, 0, 0, 0, 9, 8, 1], false),
            ("a field that lies", &[0, 0, 0, 0, 4, 8, 1, 0x12, 9], false),
            (
                "a number without end",
                &[0, 0, 0, 0, 12, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                false,
            ),
            ("nothing", &[], false),
        ] {
            assert_eq!(is_serving(message), serving, "{what}");
        }
    }
}
