//! Descriptors over a unix socket: how the listening sockets of an old process reach the new one (unix(7), SCM_RIGHTS).
//!
//! **Invariant:** a descriptor that was received is owned at once, so that a message which breaks off leaks none.

use std::env;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ferrogate_core::handover::{MANIFEST_BYTES_MAX, Manifest, READY, VARIABLE};
use ferrogate_core::net::Address;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::sockets::Sockets;

/// The process that we take over from.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

/// What an old process hands to this one, when it was started to take over.
///
/// # Errors
/// When it was, and the sockets do not come.
pub fn take_over() -> io::Result<Option<(Sockets, Predecessor)>> {
    if env::var_os(VARIABLE).is_none() {
        return Ok(None);
    }
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_read_timeout(Some(RECEIVE_TIMEOUT))?;
    let sockets = receive(&stream)?;
    Ok(Some((Sockets::inherited(sockets), Predecessor(stream))))
}

impl Predecessor {
    /// Tells it that we serve: it may go.
    pub fn ready(mut self) {
        // When it is gone already there is nobody to tell.
        let _ = self.0.write_all(format!("{READY}\n").as_bytes());
    }
}

/// Starts `program` with our arguments, hands it our sockets and waits until it serves.
///
/// # Errors
/// When it does not; it has ended then, and nothing has changed here.
pub async fn start_successor(program: &Path, sockets: &Sockets) -> io::Result<u32> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut child =
        Command::new(program).args(env::args_os().skip(1)).env(VARIABLE, "1").stdin(OwnedFd::from(theirs)).spawn()?;
    let handed = async {
        // The pair's buffer holds what is small; what is large needs the other side to read.
        let exported = sockets.export()?;
        let writer = ours.try_clone()?;
        tokio::task::spawn_blocking(move || send(&writer, &exported)).await??;
        ours.set_nonblocking(true)?;
        let mut answer = String::new();
        BufReader::new(tokio::net::UnixStream::from_std(ours)?).take(ANSWER_BYTES_MAX).read_line(&mut answer).await?;
        match answer.trim() {
            READY => Ok(()),
            "" => Err(io::Error::other("the new process ended before it served; its own output says why")),
            reason => Err(io::Error::other(format!("the new process does not serve: {reason}"))),
        }
    };
    let served = tokio::time::timeout(READY_TIMEOUT, handed).await;
    let served = served.unwrap_or_else(|_| Err(io::Error::other("the new process does not serve in time")));
    let id = child.id();
    match served {
        Ok(()) => {
            sockets.hand_over();
            Ok(id)
        }
        Err(e) => {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
            Err(e)
        }
    }
}

/// Sends listening sockets.
///
/// # Errors
/// Those of the socket.
pub fn send(mut to: &UnixStream, sockets: &[(Address, OwnedFd)]) -> io::Result<()> {
    let manifest = Manifest { sockets: sockets.iter().map(|(address, _)| address.clone()).collect() }.encode();
    let length = u32::try_from(manifest.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(&manifest)?;
    for batch in sockets.chunks(FDS_PER_MESSAGE) {
        let fds: Vec<BorrowedFd<'_>> = batch.iter().map(|(_, fd)| fd.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::other("the descriptors do not fit into a message"));
        }
        // One byte for each message: descriptors can't travel alone.
        sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Receives what [`send`] sent.
///
/// # Errors
/// Those of the socket; `InvalidData` when the other side sent something else.
pub fn receive(mut from: &UnixStream) -> io::Result<Vec<(Address, OwnedFd)>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MANIFEST_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut manifest = vec![0; length];
    from.read_exact(&mut manifest)?;
    let manifest = Manifest::decode(&manifest).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    let mut fds = Vec::with_capacity(manifest.sockets.len());
    while fds.len() < manifest.sockets.len() {
        let before = fds.len();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if fds.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(manifest.sockets.into_iter().zip(fds).collect())
}

/// How long the new process waits for the sockets.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the old process waits for the new one to serve.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of the new process's answer, at most.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Descriptors of one message; the kernel takes 253.
const FDS_PER_MESSAGE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_arrive_and_are_the_same_sockets() {
        let (old, new) = UnixStream::pair().unwrap();
        let listeners: Vec<_> = (0..200).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let sockets: Vec<(Address, OwnedFd)> =
            listeners.iter().map(|l| (l.local_addr().unwrap().into(), l.try_clone().unwrap().into())).collect();
        send(&old, &sockets).unwrap();
        let received = receive(&new).unwrap();
        assert_eq!(received.len(), 200);
        for ((address, fd), listener) in received.into_iter().zip(&listeners) {
            assert_eq!(address, listener.local_addr().unwrap().into());
            assert_eq!(std::net::TcpListener::from(fd).local_addr().unwrap(), listener.local_addr().unwrap());
        }
    }

    #[test]
    fn what_breaks_off_is_an_error() {
        let (mut old, new) = UnixStream::pair().unwrap();
        old.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert_eq!(receive(&new).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (mut old, new) = UnixStream::pair().unwrap();
        let manifest = Manifest { sockets: vec!["127.0.0.1:1".parse().unwrap()] }.encode();
        old.write_all(&u32::try_from(manifest.len()).unwrap().to_be_bytes()).unwrap();
        old.write_all(&manifest).unwrap();
        drop(old);
        assert_eq!(receive(&new).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
