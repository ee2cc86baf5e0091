//! Frames of Dubbo that no peer has sent, and the parts of one that a message of another protocol is made of.
//!
//! **Invariant:** looks at bodies in Hessian 2 alone; of any other serialization nothing is said.

use std::ops::Range;

use super::{FIXED_BYTES, HESSIAN2, MAGIC, REQUEST, SERIALIZATION, STATUS_OK, TWO_WAY, put_reply};
use crate::codec::xprotocol::hessian2::Reader;
use crate::config::schema::RpcProtocol;
use crate::message::{HttpHead, RpcHead, RpcKind};

/// The head of a request whose body is in Hessian 2.
#[must_use]
pub fn dubbo_request(kind: RpcKind) -> RpcHead {
    let two_way = if kind == RpcKind::OneWay { 0 } else { TWO_WAY };
    head(kind, REQUEST | two_way | HESSIAN2, 0, 0)
}

/// The head of an answer whose body is in Hessian 2, with a status of Dubbo; 20: it is a result. `shown` is what HTTP would say.
#[must_use]
pub fn dubbo_response(status: u8, shown: u16) -> RpcHead {
    head(RpcKind::Response, HESSIAN2, status, shown)
}

fn head(kind: RpcKind, flag: u8, status: u8, shown: u16) -> RpcHead {
    let mut raw = [0; FIXED_BYTES];
    raw[..2].copy_from_slice(&MAGIC);
    (raw[2], raw[3]) = (flag, status);
    RpcHead::new((RpcProtocol::Dubbo, kind, 0), HttpHead::empty(), (&raw, FIXED_BYTES), shown)
}

/// The status that a frame of Dubbo has where its answer is a result.
pub const DUBBO_OK: u8 = STATUS_OK;

/// The status of Dubbo that says what one of HTTP, or a code of MOSN, does.
#[must_use]
pub fn dubbo_status(code: u16) -> u8 {
    let mut reply = Vec::new();
    put_reply(0, code, &mut reply);
    reply[3]
}

/// The status of an answer in Dubbo. None: it is a frame of another protocol, or its body is not in Hessian 2.
#[must_use]
pub fn dubbo_parts(head: &RpcHead) -> Option<u8> {
    let raw = head.raw();
    (head.protocol == RpcProtocol::Dubbo && raw[2] & SERIALIZATION == HESSIAN2).then(|| raw[3])
}

/// What a request in Hessian 2 calls, as its body says it.
#[derive(Debug)]
pub struct Call {
    /// The method.
    pub method: Vec<u8>,
    /// The types of the arguments, as the JVM writes them.
    pub types: Vec<u8>,
    /// The arguments and what follows them.
    pub rest: Range<usize>,
}

impl Call {
    /// That of a body. None: it is not what Dubbo writes.
    #[must_use]
    pub fn of(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let (mut skipped, mut method, mut types) = (Vec::new(), Vec::new(), Vec::new());
        // The version of Dubbo, the path and the version of the service.
        for _ in 0..3 {
            reader.string(&mut skipped).ok()?;
        }
        reader.string(&mut method).ok()??;
        reader.string(&mut types).ok()?;
        Some(Self { method, types, rest: reader.at()..body.len() })
    }
}
