//! Asking the admin API of a running gateway, for the verbs.
//!
//! **Invariant:** an answer is bounded, or handed on as it comes; and every failure says who was asked what.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use tokio::time::timeout;

use crate::config::Address;
use crate::net::{Conn, Transport};

/// The body of the answer to a GET of `path`, of at most 128 MiB.
///
/// # Errors
/// Why there is none, in words: with those of the gateway where it refuses.
pub async fn get<T: Transport>(transport: &T, address: &Address, path: &str) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let collect = |bytes: &[u8]| {
        body.extend_from_slice(bytes);
        if body.len() > ANSWER_BYTES_MAX { Err(io::Error::other("the answer is too large")) } else { Ok(()) }
    };
    match timeout(ASK_TIMEOUT, stream(transport, address, path, collect)).await {
        Ok(done) => done.map(|()| body),
        Err(_) => Err(format!("the admin API at {address} does not answer")),
    }
}

/// The same for an answer that comes in pieces: `take` gets each as it comes, until it fails.
///
/// # Errors
/// As [`get`], and those of `take`.
pub async fn stream<T: Transport>(
    transport: &T,
    address: &Address,
    path: &str,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), String> {
    let failed = |e: io::Error| format!("the admin API at {address} can't be asked: {e}");
    let mut conn = timeout(ASK_TIMEOUT, ask(transport, address, path))
        .await
        .map_err(|_| format!("the admin API at {address} does not answer"))?
        .map_err(failed)?;
    let (mut head, mut status) = (Vec::new(), None);
    while let Some(bytes) = read(&mut conn).await.map_err(failed)? {
        if status.is_some() {
            take(&bytes).map_err(failed)?;
            continue;
        }
        head.extend_from_slice(&bytes);
        let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") else {
            if head.len() > HEAD_BYTES_MAX {
                return Err(failed(io::ErrorKind::InvalidData.into()));
            }
            continue;
        };
        let found = String::from_utf8_lossy(&head[..end]).split(' ').nth(1).unwrap_or_default().to_owned();
        if found != "200" {
            let why = rest(&mut conn, head.split_off(end + 4)).await;
            return Err(format!("the admin API at {address} answers {path} with {found}: {}", why.trim_end()));
        }
        status = Some(found);
        take(&head[end + 4..]).map_err(failed)?;
    }
    if status.is_some() { Ok(()) } else { Err(failed(io::ErrorKind::UnexpectedEof.into())) }
}

/// Connects and asks. By HTTP/1.0, so that the answer's end is the end of the connection.
async fn ask<T: Transport>(transport: &T, address: &Address, path: &str) -> io::Result<T::Conn> {
    let mut conn = transport.connect(address).await?;
    // A path is no host.
    let host = address.inet().map_or_else(|| "localhost".to_owned(), |inet| inet.to_string());
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    poll_fn(|cx| {
        conn.poll_write_with(cx, request.len(), |room| {
            room[..request.len()].copy_from_slice(request.as_bytes());
            (request.len(), ())
        })
    })
    .await?;
    poll_fn(|cx| conn.poll_flush(cx)).await?;
    Ok(conn)
}

/// The next bytes; None at the end.
async fn read(conn: &mut impl Conn) -> io::Result<Option<Vec<u8>>> {
    let bytes = poll_fn(|cx| conn.poll_read_with(cx, 0, |bytes| (bytes.len(), bytes.to_vec()))).await?;
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

/// What a refusal says.
async fn rest(conn: &mut impl Conn, mut text: Vec<u8>) -> String {
    while let Ok(Some(bytes)) = read(conn).await {
        text.extend(bytes);
        if text.len() > HEAD_BYTES_MAX {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// How long the admin API may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer, in bytes: a file that is printed may grow.
const ANSWER_BYTES_MAX: usize = 128 << 20;

/// The largest head of an answer, and the largest refusal, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
