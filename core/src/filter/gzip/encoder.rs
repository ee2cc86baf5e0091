//! One compressed stream, in whichever coding: bytes in, bytes out.
//!
//! **Invariant:** does no more at a call than its input asks for, and holds a bounded window: no body makes it grow.

use std::cell::RefCell;
use std::fmt;
use std::io::Write;

use brotli::CompressorWriter;
use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::stream::raw::{CParameter, Encoder as Zstd, InBuffer, Operation, OutBuffer};

use crate::config::schema::{Coding, Gzip};

/// A stream that is being compressed.
pub(super) struct Encoder(Kind);

enum Kind {
    Gzip(u8, Box<Compress>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(Box<Zstd<'static>>),
}

/// A compressor refused: out of memory, or a defect.
#[derive(Debug)]
pub(super) struct Broken;

impl Encoder {
    /// A new stream. None: the compressor can't be had.
    pub(super) fn new(coding: Coding, config: &Gzip) -> Option<Self> {
        Some(Self(match coding {
            Coding::Gzip => Kind::Gzip(config.gzip_level, compressor(config.gzip_level)),
            Coding::Brotli => {
                let level = u32::from(config.brotli_level);
                Kind::Brotli(Box::new(CompressorWriter::new(Vec::new(), PIECE_BYTES_MAX, level, WINDOW_BITS)))
            }
            Coding::Zstd => {
                let mut zstd = Zstd::new(i32::from(config.zstd_level)).ok()?;
                zstd.set_parameter(CParameter::WindowLog(WINDOW_BITS)).ok()?;
                Kind::Zstd(Box::new(zstd))
            }
        }))
    }

    /// Takes `input`; what comes out of it by itself goes to `out`.
    pub(super) fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        match &mut self.0 {
            Kind::Gzip(_, compress) => deflate(compress, input, FlushCompress::None, out),
            Kind::Brotli(brotli) => {
                brotli.write_all(input).map_err(|_| Broken)?;
                out.append(brotli.get_mut());
                Ok(())
            }
            Kind::Zstd(zstd) => {
                let mut input = InBuffer::around(input);
                while input.pos() < input.src.len() {
                    grow(out);
                    let at = out.len();
                    zstd.run(&mut input, &mut OutBuffer::around_pos(out, at)).map_err(|_| Broken)?;
                }
                Ok(())
            }
        }
    }

    /// Brings out everything that was taken, so that its receiver can read it: what has been sent must not wait for what has not come.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        match &mut self.0 {
            Kind::Gzip(_, compress) => deflate(compress, &[], FlushCompress::Sync, out),
            Kind::Brotli(brotli) => {
                brotli.flush().map_err(|_| Broken)?;
                out.append(brotli.get_mut());
                Ok(())
            }
            Kind::Zstd(zstd) => drain(out, |out| zstd.flush(out)),
        }
    }

    /// Ends the stream.
    pub(super) fn finish(self, out: &mut Vec<u8>) -> Result<(), Broken> {
        match self.0 {
            Kind::Gzip(level, mut compress) => {
                deflate(&mut compress, &[], FlushCompress::Finish, out)?;
                give_back(level, compress);
                Ok(())
            }
            Kind::Brotli(brotli) => {
                out.append(&mut brotli.into_inner());
                Ok(())
            }
            Kind::Zstd(mut zstd) => drain(out, |out| zstd.finish(out, true)),
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Gzip(..) => "Gzip",
            Kind::Brotli(_) => "Brotli",
            Kind::Zstd(_) => "Zstd",
        })
    }
}

fn deflate(compress: &mut Compress, input: &[u8], flush: FlushCompress, out: &mut Vec<u8>) -> Result<(), Broken> {
    let begun = compress.total_in();
    loop {
        grow(out);
        let used = usize::try_from(compress.total_in() - begun).unwrap_or(usize::MAX);
        let rest = input.get(used..).unwrap_or_default();
        let status = compress.compress_vec(rest, out, flush).map_err(|_| Broken)?;
        let all_in = compress.total_in() - begun == input.len() as u64;
        // Room that is left says that everything is out.
        let done = match flush {
            FlushCompress::Finish => status == Status::StreamEnd,
            _ => all_in && out.len() < out.capacity(),
        };
        if done {
            return Ok(());
        }
    }
}

/// Calls `step` until it has nothing left.
fn drain(
    out: &mut Vec<u8>,
    mut step: impl FnMut(&mut OutBuffer<'_, Vec<u8>>) -> std::io::Result<usize>,
) -> Result<(), Broken> {
    loop {
        grow(out);
        let at = out.len();
        if step(&mut OutBuffer::around_pos(out, at)).map_err(|_| Broken)? == 0 {
            return Ok(());
        }
    }
}

/// Sees to it that there is room.
fn grow(out: &mut Vec<u8>) {
    if out.capacity() - out.len() < OUT_ROOM_BYTES_MIN {
        out.reserve(OUT_BYTES);
    }
}

/// A gzip compressor: one of those that this worker has used before, which saves making its tables.
fn compressor(level: u8) -> Box<Compress> {
    let used = FREE.with_borrow_mut(|free| {
        let at = free.iter().position(|(l, _)| *l == level)?;
        Some(free.swap_remove(at).1)
    });
    used.unwrap_or_else(|| Box::new(Compress::new_gzip(Compression::new(u32::from(level)), GZIP_WINDOW_BITS)))
}

fn give_back(level: u8, mut compress: Box<Compress>) {
    compress.reset();
    // At thread exit the list may be gone already; then the compressor is simply freed.
    let _ = FREE.try_with(|free| {
        let mut free = free.borrow_mut();
        if free.len() < FREE_MAX {
            free.push((level, compress));
        }
    });
}

thread_local! {
    static FREE: RefCell<Vec<(u8, Box<Compress>)>> = const { RefCell::new(Vec::new()) };
}

/// What is compressed at a call, at most, in bytes.
pub(super) const PIECE_BYTES_MAX: usize = 16 * 1024;
/// Compressors that a worker keeps for later answers, at most; each holds a quarter of a MiB.
const FREE_MAX: usize = 16;
/// Room that is made at a time.
const OUT_BYTES: usize = 8 * 1024;
/// With less room than this it is not worth calling.
const OUT_ROOM_BYTES_MIN: usize = 64;
/// How far brotli and zstd look back: 128 KiB, which bounds what they hold to about 1 MiB.
const WINDOW_BITS: u32 = 17;
/// Gzip looks back 32 KiB.
const GZIP_WINDOW_BITS: u8 = 15;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut plain),
        }
        .unwrap();
        plain
    }

    #[test]
    fn what_went_in_comes_out_and_a_flush_brings_all_of_it() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 7 * 31 % 1009).to_le_bytes()).collect();
        for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
            // Twice: the second gzip stream comes from a used compressor.
            for _ in 0..2 {
                let mut encoder = Encoder::new(coding, &Gzip::default()).unwrap();
                let mut out = Vec::new();
                for (n, piece) in text.chunks(PIECE_BYTES_MAX).enumerate() {
                    encoder.write(piece, &mut out).unwrap();
                    if n % 5 == 0 {
                        encoder.flush(&mut out).unwrap();
                        if coding == Coding::Gzip {
                            let mut half = flate2::Decompress::new_gzip(15);
                            let mut plain = Vec::with_capacity(text.len() + 1);
                            half.decompress_vec(&out, &mut plain, flate2::FlushDecompress::None).unwrap();
                            assert_eq!(plain.len(), (n * PIECE_BYTES_MAX) + piece.len());
                        }
                    }
                }
                encoder.flush(&mut out).unwrap();
                encoder.flush(&mut out).unwrap();
                encoder.finish(&mut out).unwrap();
                assert!(decoded(coding, &out) == text, "{coding:?}");
                assert!(out.len() < text.len() / 4, "{coding:?}: {}", out.len());
            }
        }
    }

    #[test]
    fn nothing_at_all_is_a_stream_too() {
        for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
            let mut out = Vec::new();
            Encoder::new(coding, &Gzip::default()).unwrap().finish(&mut out).unwrap();
            assert_eq!(decoded(coding, &out), b"", "{coding:?}");
        }
    }
}
