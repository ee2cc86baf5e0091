//! TLS sessions: what a handshake costs, full and resumed, and what records cost.
//!
//! `both` is the whole handshake with both ends on this core; `server` is the server's share of it, which is what a gateway pays
//! downstream. A resumed handshake includes the client's reading of the tickets for the next one. Records are sealed into and opened from
//! memory, as a connection lends it; `in_place` is the same record by an AEAD over the session's exported keys, where it lies, and with the one
//! copy that a connection can't do without: from what is to be sent, and to who reads.

mod counting;

use std::hint::black_box;
use std::task::{Context, Poll, Waker};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use test_support::record_layer::{DATA, RecordLayer};
use tls_offload::{
    Algorithms, ClientOptions, ClientTls, Identity, Pem, RECORD_BYTES_MAX, Roots, ServerOptions, ServerTls, Session,
    Step, Version, Versions, self_signed,
};

use self::counting::Meter;

fn handshakes(c: &mut Criterion) {
    let mut group = c.benchmark_group("handshake");
    for version in [Version::Tls13, Version::Tls12] {
        for resumed in [false, true] {
            let mut ends = Ends::new(version, resumed);
            let name = format!("{version}_{}", if resumed { "resumed" } else { "full" });
            counting::bench_part(&mut group, BenchmarkId::new("both", &name), |meter| {
                meter.of(|| black_box(ends.shake(&mut Meter::default())));
            });
            counting::bench_part(&mut group, BenchmarkId::new("server", &name), |meter| {
                black_box(ends.shake(meter));
            });
        }
    }
    group.finish();
}

fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("record");
    let (mut client, mut server) = Ends::new(Version::Tls13, false).shake(&mut Meter::default());
    // A short request, a reply with a small page, and a full record of a long body.
    for len in [200, 4096, 16 * 1024] {
        let plain: Vec<u8> = (0..len).map(|i: usize| i.to_le_bytes()[0]).collect();
        let (mut wire, mut opened) = (vec![0; 2 * RECORD_BYTES_MAX], Vec::with_capacity(2 * RECORD_BYTES_MAX));
        group.throughput(Throughput::Bytes(len as u64));
        let mut seal = |plain: &[u8], wire: &mut [u8]| {
            let mut rest = black_box(plain);
            let sealed = server.seal(&mut rest, wire).expect("there is room");
            assert!(rest.is_empty());
            sealed
        };
        let mut open = |wire: &[u8]| {
            opened.clear();
            let mut rest = black_box(wire);
            client.open(&mut rest, &mut opened).expect("the record is good");
            assert_eq!(opened.len(), plain.len());
        };
        // What is sealed must be opened, in order: a session numbers its records.
        counting::bench_part(&mut group, BenchmarkId::new("seal", len), |meter| {
            let sealed = meter.of(|| seal(&plain, &mut wire));
            open(&wire[..sealed]);
        });
        counting::bench_part(&mut group, BenchmarkId::new("open", len), |meter| {
            let sealed = seal(&plain, &mut wire);
            meter.of(|| open(&wire[..sealed]));
        });
    }
    let (near, far) = Ends::new(Version::Tls13, false).shake(&mut Meter::default());
    let (mut near, mut far) = (layer(near), layer(far));
    for len in [200, 4096, 16 * 1024] {
        let mut room = vec![0; RECORD_BYTES_MAX];
        group.throughput(Throughput::Bytes(len as u64));
        counting::bench_part(&mut group, BenchmarkId::new("seal_in_place", len), |meter| {
            let sealed = meter.of(|| far.seal(DATA, black_box(&mut room), len));
            assert_eq!(near.open(&mut room[..sealed]).map(|opened| opened.plain.len()), Some(len));
        });
        counting::bench_part(&mut group, BenchmarkId::new("open_in_place", len), |meter| {
            let sealed = far.seal(DATA, &mut room, len);
            let opened = meter.of(|| near.open(black_box(&mut room[..sealed])).map(|opened| opened.plain.len()));
            assert_eq!(opened, Some(len));
        });
    }
    group.finish();
}

/// The library's records beside our own, over the same keys: 1 MiB in records of full length.
fn bulk(c: &mut Criterion) {
    let mut group = c.benchmark_group("bulk_1MiB");
    let plain: Vec<u8> = (0..1 << 20).map(|i: usize| (i / 7).to_le_bytes()[0]).collect();
    group.throughput(Throughput::Bytes(plain.len() as u64));
    for suite in [(Version::Tls13, "TLS_AES_128_GCM_SHA256"), (Version::Tls13, "TLS_AES_256_GCM_SHA384")] {
        let name = suite.1;
        let mut ends = Ends::with(suite.0, false, name);
        let (mut client, mut server) = ends.shake(&mut Meter::default());
        let (mut wire, mut opened) = (vec![0; RECORD_BYTES_MAX], Vec::with_capacity(2 * RECORD_BYTES_MAX));
        let mut library = |meter: &mut Meter, seals: bool| {
            for fragment in plain.chunks(FRAGMENT_BYTES) {
                let mut seal = || server.seal(&mut black_box(fragment), &mut wire).expect("there is room");
                let sealed = if seals { meter.of(seal) } else { seal() };
                opened.clear();
                let mut open = || client.open(&mut black_box(&wire[..sealed]), &mut opened).expect("it is good");
                if seals {
                    open()
                } else {
                    meter.of(open)
                };
                assert_eq!(opened.len(), fragment.len());
            }
        };
        counting::bench_part(&mut group, BenchmarkId::new("seal_library", name), |meter| library(meter, true));
        counting::bench_part(&mut group, BenchmarkId::new("open_library", name), |meter| library(meter, false));

        let (client, server) = ends.shake(&mut Meter::default());
        let (mut near, mut far) = (layer(client), layer(server));
        let front = far.front();
        let (mut room, mut read) = (vec![0; RECORD_BYTES_MAX], vec![0; FRAGMENT_BYTES]);
        let mut ours = |meter: &mut Meter, seals: bool, copies: bool| {
            for fragment in plain.chunks(FRAGMENT_BYTES) {
                let mut seal = |room: &mut [u8]| {
                    if copies {
                        room[front..front + fragment.len()].copy_from_slice(black_box(fragment));
                    }
                    far.seal(DATA, room, fragment.len())
                };
                let sealed = if seals { meter.of(|| seal(&mut room)) } else { seal(&mut room) };
                let mut open = |wire: &mut [u8]| {
                    let opened = near.open(black_box(wire)).expect("it is whole");
                    if copies {
                        read[..opened.plain.len()].copy_from_slice(opened.plain);
                    }
                    opened.plain.len()
                };
                let len = if seals { open(&mut room[..sealed]) } else { meter.of(|| open(&mut room[..sealed])) };
                assert_eq!(len, fragment.len());
            }
        };
        for (way, copies) in [("in_place", false), ("in_place_copied", true)] {
            counting::bench_part(&mut group, BenchmarkId::new(format!("seal_{way}"), name), |meter| {
                ours(meter, true, copies)
            });
            counting::bench_part(&mut group, BenchmarkId::new(format!("open_{way}"), name), |meter| {
                ours(meter, false, copies)
            });
        }
    }
    group.finish();
}

/// Our own records in a session's place.
fn layer(session: Session) -> RecordLayer {
    RecordLayer::new(session.export().expect("its keys may leave").keys)
}

/// Two configurations that trust each other, and the bytes between their sessions.
struct Ends {
    server: ServerTls,
    client: ClientTls,
    resumed: bool,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

impl Ends {
    /// With an ECDSA P-256 certificate; resuming or not.
    fn new(version: Version, resumed: bool) -> Self {
        Self::with(version, resumed, "")
    }

    /// The same with these suites, by OpenSSL's names.
    fn with(version: Version, resumed: bool, suites: &str) -> Self {
        let (certificate, key) = self_signed(["www.shop.example"]).expect("a certificate");
        let identity = Identity { certificates: certificate.as_str().into(), key: key.as_str().into(), staple: None };
        let mut options = ServerOptions::new(vec![identity]);
        options.tickets = resumed;
        options.export = true;
        options.algorithms = Algorithms::from_lists(suites, "").expect("suites of ours");
        let server = ServerTls::new(options).expect("a configuration");
        let options = ClientOptions {
            roots: Roots::Pem(Pem::from(certificate.as_str())),
            versions: Versions::only(version),
            export: true,
            ..ClientOptions::default()
        };
        let client = ClientTls::new(options).expect("a configuration");
        let mut ends = Self { server, client, resumed, to_server: Vec::new(), to_client: Vec::new() };
        if resumed {
            // The first brings the tickets.
            ends.resumed = false;
            ends.shake(&mut Meter::default());
            ends.resumed = true;
        }
        ends
    }

    /// One handshake; the server's part goes through the meter.
    fn shake(&mut self, meter: &mut Meter) -> (Session, Session) {
        self.to_server.clear();
        self.to_client.clear();
        let mut client = self.client.session("www.shop.example").expect("a name");
        let mut server = meter.of(|| self.server.session());
        let mut done = (false, false);
        while done != (true, true) {
            done.0 |= step(&mut client, &mut self.to_client, &mut self.to_server);
            done.1 |= meter.of(|| step(&mut server, &mut self.to_server, &mut self.to_client));
        }
        // Tickets of TLS 1.3 come behind the handshake.
        meter.of(|| server.drain(&mut self.to_client));
        let mut plain = Vec::new();
        client.open(&mut &self.to_client[..], &mut plain).expect("tickets");
        assert_eq!((client.info().resumed, server.info().resumed), (self.resumed, self.resumed));
        (client, server)
    }
}

/// Shows a session what arrived. Whether it is done.
fn step(session: &mut Session, wire: &mut Vec<u8>, out: &mut Vec<u8>) -> bool {
    let mut rest = &wire[..];
    let Poll::Ready(step) = session.handshake(&mut Context::from_waker(Waker::noop()), &mut rest, out) else {
        panic!("software never waits");
    };
    let used = wire.len() - rest.len();
    wire.drain(..used);
    step.expect("the handshake succeeds") == Step::Done
}

/// What a record carries, at most.
const FRAGMENT_BYTES: usize = 16 * 1024;

criterion_group!(benches, handshakes, records, bulk);
criterion_main!(benches);
