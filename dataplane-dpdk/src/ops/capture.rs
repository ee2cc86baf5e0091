//! `ferrogate capture`: frames of a running plane as pcapng, and what a flight recorder has left.
//!
//! **Invariant:** the file is whole up to where it ends, however that comes about.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrogate_core::control::ask;
use ferrogate_core::control::process::terminated;
use ferrogate_core::net::Transport;

use super::{Gateway, query, runtime, unless_closed};
use crate::trace::{Filter, Recording, pcapng};

/// Arguments of `capture`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    gateway: Gateway,
    /// Where to write; `-` is the standard output, for a pipe to `tshark -r -`.
    #[arg(short, long, default_value = "-", value_name = "FILE")]
    write: PathBuf,
    /// Read the flight recorder of a plane that runs or ran (dataplane.dpdk.recorder_file), and ask no gateway.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "admin"])]
    from: Option<PathBuf>,
    /// Bytes of the file, at most.
    #[arg(long, default_value_t = 100 << 20)]
    bytes: u64,
    /// Frames, at most.
    #[arg(short = 'n', long)]
    packets: Option<u64>,
    /// Seconds that it runs, at most.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Bytes of a frame that are kept.
    #[arg(long, default_value_t = 2048)]
    kept: u32,
    /// Which frames: `host 10.1.2.3 and tcp port 80`, with src, dst, net, portrange, udp, icmp, icmp6, arp, ip, ip6, not, or, ( ).
    filter: Vec<String>,
}

impl Args {
    pub(super) fn run<T: Transport>(&self, transport: impl FnOnce() -> T) -> Result<bool, String> {
        let expression = self.filter.join(" ");
        let filter: Filter = expression.parse().map_err(|e| format!("the filter {expression:?} is none: {e}"))?;
        let mut out = Blocks { out: self.open()?, rest: Vec::new() };
        if let Some(path) = &self.from {
            let recording =
                Recording::of(path).map_err(|e| format!("{} is no flight recorder's file: {e}", path.display()))?;
            unless_closed(write_recording(&mut out.out, &recording, &filter, self))?;
            return Ok(true);
        }
        let (admin, transport) = (self.gateway.admin()?, transport());
        let path = self.path(&expression);
        let mut closed = false;
        let captured = runtime()?.block_on(async {
            let stream = ask::stream(&transport, &admin, &path, |bytes| {
                let written = out.write(bytes);
                closed = matches!(&written, Err(e) if e.kind() == io::ErrorKind::BrokenPipe);
                written
            });
            tokio::select! {
                streamed = stream => streamed,
                () = terminated() => Ok(()),
            }
        });
        if closed { Ok(true) } else { captured.map(|()| true) }
    }

    fn path(&self, expression: &str) -> String {
        let time = Duration::try_from_secs_f64(self.seconds).unwrap_or(Duration::MAX).as_secs_f64();
        let mut pairs =
            vec![("bytes", self.bytes.to_string()), ("seconds", time.to_string()), ("kept", self.kept.to_string())];
        pairs.extend(self.packets.map(|n| ("packets", n.to_string())));
        if !expression.is_empty() {
            pairs.push(("filter", expression.to_owned()));
        }
        query("/api/v1/capture", pairs)
    }

    fn open(&self) -> Result<Box<dyn Write>, String> {
        if self.write == Path::new("-") {
            return Ok(Box::new(io::stdout().lock()));
        }
        let file = File::create(&self.write).map_err(|e| format!("{} can't be written: {e}", self.write.display()))?;
        Ok(Box::new(file))
    }
}

/// Writes whole blocks alone: who ends a capture cuts none in two.
struct Blocks {
    out: Box<dyn Write>,
    /// The beginning of the next one.
    rest: Vec<u8>,
}

impl Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.rest.extend_from_slice(bytes);
        let whole = pcapng::whole(&self.rest).ok_or(io::ErrorKind::InvalidData)?;
        self.out.write_all(&self.rest[..whole])?;
        self.rest.drain(..whole);
        self.out.flush()
    }
}

fn write_recording(out: &mut dyn Write, recording: &Recording, filter: &Filter, args: &Args) -> io::Result<()> {
    let mut file = pcapng::head(recording.ports.iter().map(String::as_str), recording.kept_bytes);
    let wanted = recording.records.iter().filter(|record| filter.takes(&record.bytes));
    let most = args.packets.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    for record in wanted.take(most) {
        let before = file.len();
        pcapng::packet(&mut file, record);
        if file.len() as u64 > args.bytes {
            file.truncate(before);
            break;
        }
    }
    out.write_all(&file)?;
    out.flush()
}
