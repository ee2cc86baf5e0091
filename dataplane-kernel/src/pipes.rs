//! Pipes that bytes go through from one socket to another, so that they are never copied into this process (splice(2)).
//!
//! **Invariant:** a pipe in the free list is empty; their number is bounded, and where there is none bytes are copied as ever.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// The pipes of one worker.
#[derive(Default)]
pub(crate) struct Pipes {
    #[allow(clippy::vec_box, reason = "the box is what moves between this list and a connection")]
    free: RefCell<Vec<Box<Pipe>>>,
    counts: Rc<Counts>,
}

#[derive(Default)]
struct Counts {
    open: Cell<usize>,
    held_bytes: Cell<usize>,
}

/// Bytes on their way to a socket.
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    len: usize,
    counts: Rc<Counts>,
}

impl Pipes {
    /// An empty pipe. None: there are as many as there may be, or the process has no descriptors left.
    pub(crate) fn take(&self) -> Option<Box<Pipe>> {
        if let Some(pipe) = self.free.borrow_mut().pop() {
            return Some(pipe);
        }
        if self.counts.open.get() >= PIPES_MAX {
            return None;
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // Where a user may not have more, what Linux gives by itself has to do.
        let _ = fcntl_setpipe_size(&write, PIPE_BYTES);
        self.counts.open.set(self.counts.open.get() + 1);
        Some(Box::new(Pipe { read, write, len: 0, counts: Rc::clone(&self.counts) }))
    }

    /// Takes a pipe back; one with bytes in it is closed.
    pub(crate) fn give(&self, pipe: Box<Pipe>) {
        if pipe.len == 0 {
            self.free.borrow_mut().push(pipe);
        }
    }

    /// What lies in all pipes, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.counts.held_bytes.get()
    }
}

impl Pipe {
    /// Whether nothing lies in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes up to `limit` bytes from a socket, as far as the pipe goes. Says how many; 0 is the end of the stream.
    ///
    /// # Errors
    /// Those of splice(2); `WouldBlock`: the socket has none, or the pipe is full.
    pub(crate) fn fill(&mut self, from: impl AsFd, limit: usize) -> io::Result<usize> {
        let n = splice(from, None, &self.write, None, limit.min(PIPE_BYTES), SPLICE)?;
        self.set_len(self.len + n);
        Ok(n)
    }

    /// Gives a socket what it takes of what lies here. Says how many bytes.
    ///
    /// # Errors
    /// Those of splice(2); `WouldBlock`: the socket takes none.
    pub(crate) fn drain(&mut self, to: impl AsFd) -> io::Result<usize> {
        let n = splice(&self.read, None, to, None, self.len, SPLICE)?;
        self.set_len(self.len.saturating_sub(n));
        Ok(n)
    }

    fn set_len(&mut self, len: usize) {
        let held_bytes = &self.counts.held_bytes;
        held_bytes.set(held_bytes.get() - self.len + len);
        self.len = len;
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.set_len(0);
        self.counts.open.set(self.counts.open.get() - 1);
    }
}

const SPLICE: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// What is asked of a pipe, in bytes.
const PIPE_BYTES: usize = 512 * 1024;

/// Pipes of one worker, at most: two descriptors each. One is in use while bytes wait in it for a socket that takes no more.
const PIPES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn pipes_are_bounded_counted_and_used_again() {
        let pipes = Pipes::default();
        let all: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!(all.len(), PIPES_MAX);
        all.into_iter().for_each(|pipe| pipes.give(pipe));
        let mut pipe = pipes.take().unwrap();
        let (mut source, from) = UnixStream::pair().unwrap();
        let (to, mut sink) = UnixStream::pair().unwrap();
        source.write_all(b"across").unwrap();
        assert_eq!((pipe.fill(&from, 4).unwrap(), pipes.held_bytes()), (4, 4));
        assert_eq!(pipe.drain(&to).unwrap(), 4);
        assert_eq!((pipe.fill(&from, 4).unwrap(), pipes.held_bytes()), (2, 2));
        let mut read = [0; 4];
        sink.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"acro");
        pipes.give(pipe);
        assert_eq!(
            (pipes.held_bytes(), pipes.counts.open.get()),
            (0, PIPES_MAX - 1),
            "a pipe with bytes in it is nobody's"
        );
    }
}
