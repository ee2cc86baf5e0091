//! Sessions whose keys leave them, and peers that notice nothing.
//!
//! **Invariant:** the peer is a whole session of a backend, which refuses a record that is not the very next one.

use test_support::record_layer::{ALERT, DATA, HANDSHAKE, RecordLayer};
use tls_offload::{
    Algorithms, Alpn, Backend, Cipher, ClientOptions, ClientTls, ServerTls, SessionState, Step, Suite, Unsupported,
    Version, Versions,
};

use super::Backends;
use super::pair::{Authority, Pair, open_all, seal_all, server_options, trusting};

/// A pair that agreed on this suite, with its handshake done. rustls's keys may leave.
fn agreed(b: Backends, suite: Suite) -> Pair {
    let authority = Authority::new();
    let mut options = server_options(b, vec![authority.issue(&["a.example"])]);
    options.export = true;
    options.alpn = Alpn::from_list("h2").unwrap();
    options.algorithms = Algorithms::from_lists(names(suite), "").unwrap();
    let client = ClientOptions {
        versions: Versions::only(suite.version),
        alpn: Alpn::from_list("h2").unwrap(),
        export: true,
        ..trusting(b, &authority)
    };
    let server = ServerTls::new(options).unwrap();
    let mut pair = Pair::new(&server, &ClientTls::new(client).unwrap(), "a.example");
    pair.shake(usize::MAX / 2).unwrap();
    pair.exchange();
    pair
}

/// The suite, by OpenSSL's names.
fn names(suite: Suite) -> &'static str {
    match (suite.version, suite.cipher) {
        (Version::Tls13, Cipher::Aes128Gcm) => "TLS_AES_128_GCM_SHA256",
        (Version::Tls13, Cipher::Aes256Gcm) => "TLS_AES_256_GCM_SHA384",
        (Version::Tls13, Cipher::ChaCha20Poly1305) => "TLS_CHACHA20_POLY1305_SHA256",
        (Version::Tls12, Cipher::Aes128Gcm) => "ECDHE-ECDSA-AES128-GCM-SHA256",
        (Version::Tls12, Cipher::Aes256Gcm) => "ECDHE-ECDSA-AES256-GCM-SHA384",
        (Version::Tls12, Cipher::ChaCha20Poly1305) => "ECDHE-ECDSA-CHACHA20-POLY1305",
    }
}

/// Opens every record of the wire; gives what they carry, joined by kind of their neighbours.
fn open(layer: &mut RecordLayer, wire: &mut Vec<u8>) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some(opened) = layer.open(wire) {
        let (kind, plain, len) = (opened.kind, opened.plain.to_vec(), opened.len);
        wire.drain(..len);
        found.push((kind, plain));
    }
    found
}

fn data(found: Vec<(u8, Vec<u8>)>) -> Vec<u8> {
    found.into_iter().filter(|(kind, _)| *kind == DATA).flat_map(|(_, plain)| plain).collect()
}

/// The server's session goes, and the client's does not know.
pub(crate) fn a_servers_session_goes_on_outside_of_it(b: Backends) {
    for suite in Suite::ALL {
        let Pair { mut client, mut server, mut to_server, mut to_client } = agreed(b, suite);
        // The keys are not those of record 0.
        seal_all(&mut client, b"before", &mut to_server);
        assert_eq!(open_all(&mut server, &mut to_server), b"before");
        seal_all(&mut server, &[5; 40_000], &mut to_client);
        assert_eq!(open_all(&mut client, &mut to_client).len(), 40_000);
        if b.server == Backend::OpenSsl {
            assert_eq!(server.exportable(), Err(Unsupported::Backend));
            assert_eq!(server.export().err(), Some(Unsupported::Backend));
            continue;
        }
        assert_eq!(server.exportable(), Ok(suite));
        let SessionState { keys, agreed } = server.export().unwrap();
        assert_eq!((agreed.info().alpn, agreed.info().sni), (Some(&b"h2"[..]), Some("a.example")));
        assert_eq!((agreed.info().version, agreed.info().resumed), (Some(suite.version), false));
        assert!(agreed.peer_certificate().is_none());

        let mut layer = RecordLayer::new(keys);
        for len in [1, 5000, 16 * 1024] {
            seal_all(&mut client, &vec![7; len], &mut to_server);
            assert_eq!(data(open(&mut layer, &mut to_server)), vec![7; len], "{suite}");
            to_client.extend(layer.record(DATA, &vec![9; len]));
            assert_eq!(open_all(&mut client, &mut to_client), vec![9; len], "{suite}");
        }
        // Both ends are told.
        client.close_notify();
        client.drain(&mut to_server);
        assert_eq!(open(&mut layer, &mut to_server), [(ALERT, vec![1, 0])]);
        to_client.extend(layer.record(ALERT, &[1, 0]));
        assert_eq!(client.open(&mut &to_client[..], &mut Vec::new()).unwrap(), Step::Closed);
    }
}

/// The client's session goes, and the server's does not know.
pub(crate) fn a_clients_session_goes_on_outside_of_it(b: Backends) {
    for suite in Suite::ALL {
        let Pair { client, mut server, mut to_server, mut to_client } = agreed(b, suite);
        if b.client == Backend::OpenSsl {
            assert_eq!(client.export().err(), Some(Unsupported::Backend));
            continue;
        }
        let SessionState { keys, agreed } = client.export().unwrap();
        let shown = agreed.peer_certificate().expect("the server's");
        assert_eq!(shown.dns_names(), ["a.example"]);
        let mut layer = RecordLayer::new(keys);
        to_server.extend(layer.record(DATA, b"asked"));
        assert_eq!(open_all(&mut server, &mut to_server), b"asked");
        seal_all(&mut server, b"answered", &mut to_client);
        // A server of OpenSSL may have sent its tickets only now.
        assert_eq!(data(open(&mut layer, &mut to_client)), b"answered", "{suite}");
    }
}

/// RFC 8446 section 4.6.3: who has the keys of a session can follow its updates, and make some.
pub(crate) fn keys_are_renewed_outside_of_a_session(b: Backends) {
    if b.server == Backend::OpenSsl {
        return;
    }
    let suite = Suite { version: Version::Tls13, cipher: Cipher::Aes128Gcm };
    let Pair { mut client, server, mut to_server, mut to_client } = agreed(b, suite);
    let mut layer = RecordLayer::new(server.export().unwrap().keys);
    for round in 0..3 {
        // We renew ours, and ask the client to renew its own.
        to_client.extend(layer.record(HANDSHAKE, &KEY_UPDATE_REQUESTED));
        layer.renew_send();
        to_client.extend(layer.record(DATA, b"by new keys"));
        assert_eq!(open_all(&mut client, &mut to_client), b"by new keys");
        // Its answer comes in front of what it sends next.
        seal_all(&mut client, b"by new keys too", &mut to_server);
        let first = layer.open(&mut to_server).unwrap();
        assert_eq!((first.kind, first.plain), (HANDSHAKE, &KEY_UPDATE[..]), "round {round}");
        let len = first.len;
        to_server.drain(..len);
        layer.renew_receive();
        assert_eq!(data(open(&mut layer, &mut to_server)), b"by new keys too");
    }
}

/// A session says why it keeps its keys.
pub(crate) fn keys_stay_where_they_are_not_let_out(b: Backends) {
    let authority = Authority::new();
    let server = ServerTls::new(server_options(b, vec![authority.issue(&["a.example"])])).unwrap();
    let client = ClientTls::new(trusting(b, &authority)).unwrap();
    assert!(!server.exports());
    let mut pair = Pair::new(&server, &client, "a.example");
    let why = if b.server == Backend::OpenSsl { Unsupported::Backend } else { Unsupported::Forbidden };
    assert_eq!(pair.server.exportable(), Err(why));
    pair.shake(usize::MAX / 2).unwrap();
    assert_eq!(pair.server.exportable(), Err(why));
    assert_eq!(pair.server.export().err(), Some(why));
    assert!(!why.to_string().is_empty());
}

/// Half a handshake, an alert in the queue, an end: nothing of it is carried over.
pub(crate) fn keys_leave_only_between_two_records(b: Backends) {
    if b.server == Backend::OpenSsl {
        return;
    }
    let authority = Authority::new();
    let mut options = server_options(b, vec![authority.issue(&["a.example"])]);
    options.export = true;
    let server = ServerTls::new(options).unwrap();
    assert!(server.exports());
    assert_eq!(server.session().export().err(), Some(Unsupported::NotNow));

    let suite = Suite { version: Version::Tls13, cipher: Cipher::Aes256Gcm };
    let mut pair = agreed(b, suite);
    pair.server.close_notify();
    assert_eq!(pair.server.exportable(), Err(Unsupported::NotNow));

    let mut pair = agreed(b, suite);
    pair.client.close_notify();
    pair.exchange();
    assert_eq!(pair.server.exportable(), Err(Unsupported::NotNow));

    // A client asks for a key update: our answer lies in the queue until it is sent.
    if b.client == Backend::Rustls {
        let mut pair = agreed(b, suite);
        let mut layer = RecordLayer::new(pair.client.export().unwrap().keys);
        pair.to_server.extend(layer.record(HANDSHAKE, &KEY_UPDATE_REQUESTED[..3]));
        assert_eq!(open_all(&mut pair.server, &mut pair.to_server), b"");
        assert_eq!(pair.server.exportable(), Err(Unsupported::NotNow), "half of a message has come");
        pair.to_server.extend(layer.record(HANDSHAKE, &KEY_UPDATE_REQUESTED[3..]));
        layer.renew_send();
        pair.to_server.extend(layer.record(DATA, b"by new keys"));
        assert_eq!(open_all(&mut pair.server, &mut pair.to_server), b"by new keys");
        // The answer is made when we send next.
        assert_eq!(pair.server.exportable(), Err(Unsupported::NotNow), "the peer has not heard of our new keys");
        seal_all(&mut pair.server, b"an answer", &mut pair.to_client);
        assert_eq!(layer.open(&mut pair.to_client).unwrap().kind, HANDSHAKE);
        assert_eq!(pair.server.exportable(), Ok(suite));
    }
}

const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const KEY_UPDATE_REQUESTED: [u8; 5] = [24, 0, 0, 1, 1];
