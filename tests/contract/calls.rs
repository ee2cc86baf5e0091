//! The calls of a connection as futures, and a connected pair.

use std::future::poll_fn;
use std::io;

use ferrogate_core::net::{Address, Conn, ListenOptions, Listener, ROOM_BYTES_MAX, Transport};

use crate::harness::Harness;

/// The server's kind of connection.
pub type ServerConn<H> = <<H as Harness>::Server as Transport>::Conn;

/// The client's kind of connection.
pub type ClientConn<H> = <<H as Harness>::Client as Transport>::Conn;

/// A listener, and where clients find it.
pub async fn listen<H: Harness>(plane: &H) -> (<H::Server as Transport>::Listener, Address) {
    let listener = plane.server().listen(&plane.listen_address(), &ListenOptions::default()).await.expect("it listens");
    let address = listener.local_addr().clone();
    (listener, address)
}

/// Both ends of a new connection: the server's and the client's.
pub async fn pair<H: Harness>(plane: &H) -> (ServerConn<H>, ClientConn<H>) {
    let (mut listener, address) = listen(plane).await;
    pair_at(plane, &mut listener, &address).await
}

/// Both ends of a new connection to this listener.
pub async fn pair_at<H: Harness>(
    plane: &H,
    listener: &mut <H::Server as Transport>::Listener,
    address: &Address,
) -> (ServerConn<H>, ClientConn<H>) {
    let (accepted, connected) = tokio::join!(listener.accept(), plane.client().connect(address));
    (accepted.expect("accepted"), connected.expect("connected"))
}

/// What is readable, all of it used; empty at the end of the stream.
pub async fn read<C: Conn>(conn: &mut C) -> io::Result<Vec<u8>> {
    poll_fn(|cx| conn.poll_read_with(cx, 0, |bytes| (bytes.len(), bytes.to_vec()))).await
}

/// Looks for more than `known` bytes and uses none.
pub async fn look<C: Conn>(conn: &mut C, known: usize) -> io::Result<Vec<u8>> {
    poll_fn(|cx| conn.poll_read_with(cx, known, |bytes| (0, bytes.to_vec()))).await
}

/// Exactly `n` bytes, seen in one piece before any is used. `UnexpectedEof` when the stream ends before.
pub async fn read_message<C: Conn>(conn: &mut C, n: usize) -> io::Result<Vec<u8>> {
    let mut known = 0;
    loop {
        let seen = poll_fn(|cx| {
            conn.poll_read_with(cx, known, |bytes| match bytes.get(..n) {
                Some(whole) => (n, Ok(whole.to_vec())),
                None => (0, Err(bytes.len())),
            })
        });
        match seen.await? {
            Ok(whole) => return Ok(whole),
            Err(seen) if seen <= known => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(seen) => known = seen,
        }
    }
}

/// Everything up to the end of the stream.
pub async fn read_all<C: Conn>(conn: &mut C) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let part = read(conn).await?;
        if part.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&part);
    }
}

/// Writes once: as much of `bytes` as there is room for; says how much.
pub async fn write<C: Conn>(conn: &mut C, bytes: &[u8]) -> io::Result<usize> {
    let wish = bytes.len().clamp(1, ROOM_BYTES_MAX);
    poll_fn(|cx| {
        conn.poll_write_with(cx, wish, |room| {
            let n = room.len().min(bytes.len());
            room[..n].copy_from_slice(&bytes[..n]);
            (n, n)
        })
    })
    .await
}

/// Writes all of it, without a flush.
pub async fn write_all<C: Conn>(conn: &mut C, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = write(conn, bytes).await?;
        assert!(n > 0, "room was asked for");
        bytes = &bytes[n..];
    }
    Ok(())
}

/// Writes all of it and flushes.
pub async fn send<C: Conn>(conn: &mut C, bytes: &[u8]) -> io::Result<()> {
    write_all(conn, bytes).await?;
    flush(conn).await
}

/// Flushes.
pub async fn flush<C: Conn>(conn: &mut C) -> io::Result<()> {
    poll_fn(|cx| conn.poll_flush(cx)).await
}

/// Ends our direction.
pub async fn shutdown<C: Conn>(conn: &mut C) -> io::Result<()> {
    poll_fn(|cx| conn.poll_shutdown(cx)).await
}

/// Moves bytes once.
pub async fn relay<C: Conn>(from: &mut C, to: &mut C, limit: usize) -> io::Result<usize> {
    poll_fn(|cx| from.poll_relay(to, cx, limit)).await
}

/// Moves everything up to the end.
pub async fn relay_to_end<C: Conn>(from: &mut C, to: &mut C) -> io::Result<usize> {
    let mut moved = 0;
    loop {
        match relay(from, to, usize::MAX).await? {
            0 => return Ok(moved),
            n => moved += n,
        }
    }
}

/// Moves everything, and then the end.
pub async fn relay_all<C: Conn>(from: &mut C, to: &mut C) -> io::Result<usize> {
    let moved = relay_to_end(from, to).await?;
    shutdown(to).await?;
    Ok(moved)
}
