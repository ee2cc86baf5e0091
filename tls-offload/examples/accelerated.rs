//! Handshakes of one server thread whose key is in the pretended card: standing still for each operation, and pausing.
//!
//! `cargo build -p card-simulator && cargo run --release -p tls-offload --features openssl --example accelerated -- target/debug/libcard.so 1000`
//! measures with 1000 us per operation and 256 clients, which have a thread of their own.
//!
//! **Invariant:** what is compared is measured in the same run, and each figure is the server's handshakes that came to their end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tls_offload::{
    Accelerator, AcceleratorOptions, ClientOptions, ClientTls, Identity, Key, Notify, Roots, ServerOptions, ServerTls,
    Session, Step, self_signed, turn,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [module, latency_us] = &arguments[..] else {
        println!("usage: accelerated MODULE LATENCY_US");
        return Ok(());
    };
    for (name, asynchronous, notify) in [
        ("synchronous", false, Notify::Callback),
        ("callback", true, Notify::Callback),
        ("poll", true, Notify::Poll),
        ("fd", true, Notify::Fd),
    ] {
        let completion = if asynchronous { name } else { "callback" };
        let mut options = AcceleratorOptions::new("card0", "card", clock);
        options.module = Some(module.into());
        options.parameters =
            vec![("latency_us".into(), latency_us.as_str().into()), ("completion".into(), completion.into())];
        options.asynchronous = asynchronous;
        options.notify = notify;
        let (certificate, key) = self_signed(["a.example"])?;
        let key = Key::Accelerated(key.as_str().into(), Accelerator::open(options)?);
        let identity = Identity { certificates: certificate.as_str().into(), key, staple: None };
        let mut options = ServerOptions::new(vec![identity]);
        options.tickets = false;
        let server = ServerTls::new(options)?;
        let figures: Vec<(u32, usize)> = (0..3).map(|_| measure(&server)).collect();
        println!("{name}: {figures:?} (handshakes/s, most at once)");
    }
    Ok(())
}

#[allow(clippy::disallowed_types, reason = "measures on the real clock")]
fn clock() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

/// Handshakes a second, and the most that were in the card.
fn measure(server: &ServerTls) -> (u32, usize) {
    let (to_server, from_clients) = channel();
    let (to_clients, from_server) = channel();
    let clients = std::thread::spawn(move || run_clients(&to_server, &from_server));
    let figures = run_server(server, &from_clients, to_clients);
    clients.join().expect("the clients end when the server does");
    figures
}

type Piece = (usize, Vec<u8>);

/// Each client makes one handshake after the other.
fn run_clients(to_server: &Sender<Piece>, from_server: &Receiver<Piece>) {
    let tls = ClientTls::new(ClientOptions { roots: Roots::Insecure, ..ClientOptions::default() }).expect("no files");
    let begin = |index: usize| {
        let mut session = tls.session("a.example").expect("a name");
        let mut hello = Vec::new();
        let _ = session.handshake(&mut Context::from_waker(Waker::noop()), &mut &[][..], &mut hello);
        let _ = to_server.send((index, hello));
        session
    };
    let mut sessions: Vec<Session> = (0..CLIENTS).map(begin).collect();
    while let Ok((index, flight)) = from_server.recv() {
        let mut out = Vec::new();
        let step = sessions[index].handshake(&mut Context::from_waker(Waker::noop()), &mut &flight[..], &mut out);
        assert!(matches!(step, Poll::Ready(Ok(_))), "{step:?}");
        if to_server.send((index, out)).is_err() {
            return;
        }
        if matches!(step, Poll::Ready(Ok(Step::Done))) {
            sessions[index] = begin(index);
        }
    }
}

/// Wakes by a message to the server's own queue.
struct Woken(usize, Sender<Piece>);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        let _ = self.1.send((self.0, Vec::new()));
    }
}

#[allow(clippy::disallowed_types, reason = "measures on the real clock")]
fn run_server(tls: &ServerTls, from_clients: &Receiver<Piece>, to_clients: Sender<Piece>) -> (u32, usize) {
    let (wake, woken) = channel();
    let wakers: Vec<Waker> = (0..CLIENTS).map(|i| Waker::from(Arc::new(Woken(i, wake.clone())))).collect();
    let mut sessions: Vec<Session> = (0..CLIENTS).map(|_| tls.session()).collect();
    let mut waits = vec![false; CLIENTS];
    let (mut done, mut most) = (0u32, 0);
    let mut turns: VecDeque<Piece> = VecDeque::new();
    let mut start = std::time::Instant::now();
    let mut is_warm = false;
    while !is_warm || start.elapsed() < MEASURED {
        if !is_warm && start.elapsed() > WARM_UP {
            // From here on it counts: until now most clients waited for their first answer.
            (is_warm, done, start) = (true, 0, std::time::Instant::now());
        }
        turns.extend(woken.try_iter());
        turns.extend(from_clients.try_iter());
        let wait = turn().unwrap_or(IDLE).min(IDLE);
        let Some((index, bytes)) = turns.pop_front() else {
            std::thread::sleep(wait);
            continue;
        };
        let mut out = Vec::new();
        let step = sessions[index].handshake(&mut Context::from_waker(&wakers[index]), &mut &bytes[..], &mut out);
        waits[index] = step.is_pending();
        most = most.max(waits.iter().filter(|w| **w).count());
        if !out.is_empty() {
            let _ = to_clients.send((index, out));
        }
        if matches!(step, Poll::Ready(Ok(Step::Done))) {
            done += 1;
            sessions[index] = tls.session();
        }
    }
    (u32::try_from(u128::from(done) * 1000 / start.elapsed().as_millis()).unwrap_or(0), most)
}

const CLIENTS: usize = 256;
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_micros(20);
