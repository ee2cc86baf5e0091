//! Futures that drive a connection the simple way.
//!
//! **Invariant:** nothing here knows which plane the connection is of.

use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};

use ferrogate_core::net::{Conn, ROOM_BYTES_MAX};

/// Reads what there is, at least one byte; empty at the end.
///
/// # Errors
/// Those of the connection.
pub async fn read_some<C: Conn>(conn: &mut C) -> io::Result<Vec<u8>> {
    poll_fn(|cx| conn.poll_read_with(cx, 0, |bytes| (bytes.len(), bytes.to_vec()))).await
}

/// Reads `len` bytes.
///
/// # Errors
/// Those of the connection, and `UnexpectedEof` when it ends before.
pub async fn read_exact<C: Conn>(conn: &mut C, len: usize) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    while read.len() < len {
        let missing = len - read.len();
        let piece = poll_fn(|cx| {
            conn.poll_read_with(cx, 0, |bytes| {
                let used = bytes.len().min(missing);
                (used, bytes[..used].to_vec())
            })
        });
        let piece = piece.await?;
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read.extend(piece);
    }
    Ok(read)
}

/// Reads to the end.
///
/// # Errors
/// Those of the connection.
pub async fn read_to_end<C: Conn>(conn: &mut C) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let piece = read_some(conn).await?;
        if piece.is_empty() {
            return Ok(all);
        }
        all.extend(piece);
    }
}

/// Writes and flushes.
///
/// # Errors
/// Those of the connection.
pub async fn write_all<C: Conn>(conn: &mut C, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let wish = bytes.len().min(ROOM_BYTES_MAX);
        let written = poll_fn(|cx| conn.poll_write_with(cx, wish, |room| put(bytes, room))).await?;
        bytes = &bytes[written..];
    }
    poll_fn(|cx| conn.poll_flush(cx)).await
}

/// Ends our direction.
///
/// # Errors
/// Those of the connection.
pub async fn shutdown<C: Conn>(conn: &mut C) -> io::Result<()> {
    poll_fn(|cx| conn.poll_shutdown(cx)).await
}

/// Sends `bytes`, ends our direction, and reads to the end all the while.
///
/// # Errors
/// Those of the connection.
pub async fn exchange<C: Conn>(conn: &mut C, mut bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    let (mut sent, mut ended) = (false, false);
    poll_fn(|cx| {
        while !bytes.is_empty() {
            let wish = bytes.len().min(ROOM_BYTES_MAX);
            match conn.poll_write_with(cx, wish, |room| put(bytes, room))? {
                Poll::Ready(written) => bytes = &bytes[written..],
                Poll::Pending => break,
            }
        }
        if !bytes.is_empty() {
            let _ = conn.poll_flush(cx)?;
        } else if !sent {
            sent = conn.poll_shutdown(cx)?.is_ready();
        }
        while !ended {
            let piece = ready!(conn.poll_read_with(cx, 0, |b| (b.len(), b.to_vec())))?;
            ended = piece.is_empty();
            read.extend(piece);
        }
        if sent { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
    .map(|()| read)
}

/// Relays from one connection to the other until the end, then ends the other's direction. Says how many bytes.
///
/// # Errors
/// Those of the connections.
pub async fn relay<C: Conn>(from: &mut C, to: &mut C, limit: usize) -> io::Result<usize> {
    let mut total = 0;
    loop {
        let moved = poll_fn(|cx| {
            let moved = from.poll_relay(to, cx, limit)?;
            if moved.is_pending() {
                // Nothing more comes for now: what was relayed must not wait for it.
                let _ = to.poll_flush(cx)?;
            }
            moved.map(Ok::<_, io::Error>)
        });
        let moved = moved.await?;
        if moved == 0 {
            shutdown(to).await?;
            return Ok(total);
        }
        total += moved;
    }
}

fn put(bytes: &[u8], room: &mut [u8]) -> (usize, usize) {
    let len = bytes.len().min(room.len());
    room[..len].copy_from_slice(&bytes[..len]);
    (len, len)
}
