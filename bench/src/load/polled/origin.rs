//! The origin of a polled load, on the same core as its clients: what comes back through the gateway is answered here.
//!
//! **Invariant:** answers lie ready; a request costs the search for its end and one copy.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use ferrogate_core::net::{Address, Conn, ListenOptions, Listener, ROOM_BYTES_MAX, Transport};
use tokio::task::spawn_local;

use crate::origin::{Answer, Answers, Asked};

/// Listens, and answers in tasks of its own.
pub(super) async fn start<T: Transport>(transport: &T, at: &Address) -> io::Result<()> {
    let mut listener = transport.listen(at, &ListenOptions::default()).await?;
    let answers = Rc::new(Answers::new());
    spawn_local(async move {
        while let Ok(conn) = listener.accept().await {
            let answers = Rc::clone(&answers);
            spawn_local(async move {
                // A peer that goes away ends its own connection only.
                let _ = serve(conn, &answers).await;
            });
        }
    });
    Ok(())
}

async fn serve<C: Conn>(mut conn: C, answers: &Answers) -> io::Result<()> {
    let mut room = Vec::new();
    loop {
        let Some(asked) = head(&mut conn).await? else {
            return poll_fn(|cx| conn.poll_shutdown(cx)).await;
        };
        drain(&mut conn, asked).await?;
        send(&mut conn, answers.head(asked.answer, &mut room)).await?;
        fill(&mut conn, answers, asked.answer).await?;
        poll_fn(|cx| conn.poll_flush(cx)).await?;
        if asked.close {
            return poll_fn(|cx| conn.poll_shutdown(cx)).await;
        }
    }
}

/// Reads a request's head; `None` when the peer has closed.
async fn head<C: Conn>(conn: &mut C) -> io::Result<Option<Asked>> {
    let mut known = 0;
    loop {
        let seen = known;
        let read = poll_fn(|cx| {
            conn.poll_read_with(cx, seen, |bytes| match Asked::read(bytes) {
                Ok(Some((asked, length))) => (length, Ok((Some(asked), bytes.len()))),
                Ok(None) => (0, Ok((None, bytes.len()))),
                Err(error) => (0, Err(error)),
            })
        });
        match read.await? {
            Ok((Some(asked), _)) => return Ok(Some(asked)),
            Ok((None, length)) if length <= known => return Ok(None),
            Ok((None, length)) => known = length,
            Err(_) => return Err(ErrorKind::InvalidData.into()),
        }
    }
}

/// Reads the body of a request and forgets it.
async fn drain<C: Conn>(conn: &mut C, asked: Asked) -> io::Result<()> {
    if asked.expects {
        send(conn, b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let body = Cell::new(asked.body);
    let mut whole = asked.has_no_body();
    while !whole {
        let read = poll_fn(|cx| {
            conn.poll_read_with(cx, 0, |bytes| {
                let mut rest = body.get();
                let skipped = rest.skip(bytes);
                body.set(rest);
                (skipped.as_ref().map_or(0, |(taken, _)| *taken), (skipped, bytes.is_empty()))
            })
        });
        let (skipped, ended) = read.await?;
        whole = skipped.map_err(|_| ErrorKind::InvalidData)?.1;
        if ended && !whole {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

async fn send<C: Conn>(conn: &mut C, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let wish = bytes.len().min(ROOM_BYTES_MAX);
        let put = poll_fn(|cx| {
            conn.poll_write_with(cx, wish, |room| {
                let count = room.len().min(bytes.len());
                room[..count].copy_from_slice(&bytes[..count]);
                (count, count)
            })
        });
        bytes = &bytes[put.await?..];
    }
    Ok(())
}

async fn fill<C: Conn>(conn: &mut C, answers: &Answers, answer: Answer) -> io::Result<()> {
    let mut left = answer.filling();
    while left > 0 {
        let page = answers.filling(left);
        send(conn, page).await?;
        left -= page.len() as u64;
    }
    Ok(())
}
