//! What an idle session costs. A binary for each backend: it reads the resident memory of the whole process.
//!
//! **Invariant:** the bound is loose enough for every allocator and tight enough to notice a buffer kept per connection.

use std::task::{Context, Poll, Waker};

use tls_offload::{
    Backend, ClientOptions, ClientTls, Identity, RECORD_BYTES_MAX, Roots, ServerOptions, ServerTls, Session, Version,
    Versions, self_signed,
};

/// Measures, and fails where an idle session takes more than its side may: the server's, the client's.
pub(crate) fn idle_sessions_are_small(backend: Backend, [server_bytes_max, client_bytes_max]: [usize; 2]) {
    let (certificate, key) = self_signed(["a.example"]).unwrap();
    let identity = Identity { certificates: certificate.as_str().into(), key: key.as_str().into(), staple: None };
    let mut options = ServerOptions::new(vec![identity]);
    options.backend = backend;
    let server = ServerTls::new(options).unwrap();
    println!("size_of::<Session>() = {}", size_of::<Session>());
    // All are kept to the end: memory that was freed would hide what the next ones take.
    let mut all: Vec<Vec<Box<Session>>> = Vec::new();
    for version in [Version::Tls12, Version::Tls13] {
        let roots = Roots::Pem(certificate.as_str().into());
        let options = ClientOptions { roots, backend, versions: Versions::only(version), ..ClientOptions::default() };
        let client = ClientTls::new(options).unwrap();
        let pair = || connected(client.session("a.example").unwrap(), Box::new(server.session()));
        // What the process needs once, and what the allocator keeps.
        drop((0..100).map(|_| pair()).collect::<Vec<_>>());
        for (side, bytes_max) in [("server", server_bytes_max), ("client", client_bytes_max)] {
            let before = resident_bytes();
            let kept: Vec<Box<Session>> = (0..SESSIONS)
                .map(|_| {
                    let (client, server) = pair();
                    if side == "server" { server } else { client }
                })
                .collect();
            assert!(kept.iter().all(|s| s.held_bytes() == 0));
            let each = resident_bytes().saturating_sub(before) / SESSIONS;
            println!("{version} {side}: {each} bytes per idle session");
            all.push(kept);
            assert!(each < bytes_max, "{version} {side}: {each} bytes");
        }
    }
}

/// Two sessions after a handshake and a record each way.
fn connected(client: Session, mut server: Box<Session>) -> (Box<Session>, Box<Session>) {
    let mut client = Box::new(client);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        step(&mut client, &mut down, &mut up);
        step(&mut server, &mut up, &mut down);
    }
    let mut room = vec![0; RECORD_BYTES_MAX];
    let written = client.seal(&mut &[7; 9000][..], &mut room).unwrap();
    let mut plain = Vec::new();
    server.open(&mut &room[..written], &mut plain).unwrap();
    let written = server.seal(&mut &plain[..], &mut room).unwrap();
    down.extend_from_slice(&room[..written]);
    client.open(&mut &down[..], &mut plain).unwrap();
    assert_eq!(plain, [7; 18_000]);
    (client, server)
}

fn step(session: &mut Session, wire: &mut Vec<u8>, out: &mut Vec<u8>) {
    let mut rest = &wire[..];
    let step = session.handshake(&mut Context::from_waker(Waker::noop()), &mut rest, out);
    assert!(matches!(step, Poll::Ready(Ok(_))), "{step:?}");
    let used = wire.len() - rest.len();
    wire.drain(..used);
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

const SESSIONS: usize = 3000;
