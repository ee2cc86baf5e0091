//! What every session does: handshakes, records, closing, and what is refused.
//!
//! **Invariant:** no sockets; what is refused is refused for the reason the test names.

use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair};
use tls_offload::{
    Alpn, Backend, ClientOptions, ClientTls, ConfigError, Identity, Roots, ServerTls, Session, SessionError, Step,
    TlsError, Version, Versions, self_signed,
};

use super::Backends;
use super::pair::{
    Authority, Pair, client_options, connected, open_all, seal_all, server, server_options, step, trusting,
};

pub(crate) fn both_versions_agree_and_carry_both_ways(b: Backends) {
    for version in [Version::Tls12, Version::Tls13] {
        let mut pair = connected(b, version);
        for session in [&pair.client, &pair.server] {
            let info = session.info();
            assert_eq!(info.version, Some(version));
            assert_eq!(info.sni, Some("a.example"));
            assert_eq!(info.alpn, None);
            assert!(!info.resumed);
            let prefix = if version == Version::Tls13 { "TLS_AES_" } else { "TLS_ECDHE_ECDSA_WITH_AES_" };
            assert!(info.cipher.unwrap().starts_with(prefix), "{info:?}");
        }
        let up: Vec<u8> = (0..100_000u32).map(|i| i.to_le_bytes()[1]).collect();
        seal_all(&mut pair.client, &up, &mut pair.to_server);
        seal_all(&mut pair.server, b"down", &mut pair.to_client);
        assert_eq!(pair.exchange(), (b"down".to_vec(), up));
    }
}

pub(crate) fn fed_byte_by_byte(b: Backends) {
    for version in [Version::Tls12, Version::Tls13] {
        let authority = Authority::new();
        let options = ClientOptions { versions: Versions::only(version), ..trusting(b, &authority) };
        let client = ClientTls::new(options).unwrap();
        let mut pair = Pair::new(&server(b, authority.issue(&["a.example"])), &client, "a.example");
        pair.shake(1).unwrap();
        seal_all(&mut pair.server, b"hello", &mut pair.to_client);
        let mut plain = Vec::new();
        for len in 0..=pair.to_client.len() {
            let mut rest = &pair.to_client[..len];
            let step = pair.client.open(&mut rest, &mut plain).unwrap();
            assert_eq!(step, Step::NeedsWire);
            if rest.len() != len {
                assert_eq!(rest.len(), 0);
                pair.to_client.drain(..len);
                break;
            }
        }
        plain.extend(open_all(&mut pair.client, &mut pair.to_client));
        assert_eq!(plain, b"hello");
    }
}

pub(crate) fn handshake_messages_split_over_records(b: Backends) {
    // A client hello cut into records of 50 bytes, as some clients do on purpose.
    let authority = Authority::new();
    let mut pair = Pair::new(
        &server(b, authority.issue(&["a.example"])),
        &ClientTls::new(trusting(b, &authority)).unwrap(),
        "a.example",
    );
    let mut done = false;
    let mut hello = Vec::new();
    assert!(step(&mut pair.client, &mut Vec::new(), &mut 0, &mut hello, &mut done).is_none());
    let message = &hello[5..];
    assert_eq!(usize::from(u16::from_be_bytes([hello[3], hello[4]])), message.len());
    for piece in message.chunks(50) {
        pair.to_server.extend_from_slice(&[hello[0], hello[1], hello[2], 0, u8::try_from(piece.len()).unwrap()]);
        pair.to_server.extend_from_slice(piece);
    }
    pair.shake(7).unwrap();
    assert_eq!(pair.server.info().sni, Some("a.example"));
}

pub(crate) fn a_name_never_passes_to_another_session(b: Backends) {
    let authority = Authority::new();
    let mut options = server_options(b, vec![authority.issue(&["a.example", "10.0.0.1"])]);
    options.alpn = Alpn::from_list("h2").unwrap();
    let server = ServerTls::new(options).unwrap();
    // The first fails after its certificate was chosen.
    let stranger = ClientOptions { alpn: Alpn::from_list("http/1.1").unwrap(), ..trusting(b, &authority) };
    let mut pair = Pair::new(&server, &ClientTls::new(stranger).unwrap(), "a.example");
    pair.shake(usize::MAX / 2).unwrap_err();
    assert_eq!(pair.server.info().sni, Some("a.example"), "a failed one tells its name too");
    // The second asks for no name, in a hello of two records.
    let mut pair = Pair::new(&server, &ClientTls::new(trusting(b, &authority)).unwrap(), "10.0.0.1");
    let mut hello = Vec::new();
    assert!(step(&mut pair.client, &mut Vec::new(), &mut 0, &mut hello, &mut false).is_none());
    for piece in [&hello[5..50], &hello[50..]] {
        pair.to_server.extend_from_slice(&[22, 3, 1]);
        pair.to_server.extend_from_slice(&u16::try_from(piece.len()).unwrap().to_be_bytes());
        pair.to_server.extend_from_slice(piece);
    }
    pair.shake(1).unwrap();
    assert_eq!(pair.server.info().sni, None);
}

pub(crate) fn alpn_is_agreed_by_the_servers_preference(b: Backends) {
    let authority = Authority::new();
    let identity = authority.issue(&["a.example"]);
    for (server_list, client_list, expected) in [
        ("h2,http/1.1", "http/1.1,h2", Some(&b"h2"[..])),
        ("http/1.1", "h2,http/1.1", Some(b"http/1.1")),
        ("", "h2", None),
        ("h2", "", None),
    ] {
        let mut options = server_options(b, vec![identity.clone()]);
        options.alpn = Alpn::from_list(server_list).unwrap();
        let client = ClientOptions { alpn: Alpn::from_list(client_list).unwrap(), ..trusting(b, &authority) };
        let mut pair = Pair::new(&ServerTls::new(options).unwrap(), &ClientTls::new(client).unwrap(), "a.example");
        pair.shake(usize::MAX / 2).unwrap();
        assert_eq!(pair.server.info().alpn, expected);
        assert_eq!(pair.client.info().alpn, expected);
    }
    let mut options = server_options(b, vec![identity]);
    options.alpn = Alpn::from_list("h2").unwrap();
    let client = ClientOptions { alpn: Alpn::from_list("http/1.1").unwrap(), ..trusting(b, &authority) };
    let mut pair = Pair::new(&ServerTls::new(options).unwrap(), &ClientTls::new(client).unwrap(), "a.example");
    let (client_error, server_error) = pair.shake(usize::MAX / 2).unwrap_err();
    assert!(matches!(server_error, Some(TlsError::NoAgreement(_))), "{server_error:?}");
    assert!(matches!(client_error, Some(TlsError::Alert(_))), "{client_error:?}");
}

/// One configuration, and sessions that ask for different protocols, resumed ones among them.
pub(crate) fn a_session_may_offer_its_own_protocols(b: Backends) {
    let authority = Authority::new();
    let mut options = server_options(b, vec![authority.issue(&["a.example"])]);
    options.alpn = Alpn::from_list("h2,http/1.1").unwrap();
    let server = ServerTls::new(options).unwrap();
    let (alpn, h2) = (Alpn::from_list("http/1.1").unwrap(), Alpn::from_list("h2").unwrap());
    let client = ClientTls::new(ClientOptions { alpn, ..trusting(b, &authority) }).unwrap();
    for own in [Some(&h2), None, Some(&h2), None] {
        let mut pair = Pair::new(&server, &client, "a.example");
        own.inspect(|own| pair.client = client.session_offering("a.example", own).unwrap());
        pair.shake(usize::MAX / 2).unwrap();
        let expected = Some(if own.is_some() { &b"h2"[..] } else { b"http/1.1" });
        assert_eq!((pair.client.info().alpn, pair.server.info().alpn), (expected, expected));
    }
}

pub(crate) fn the_certificate_is_chosen_by_name(b: Backends) {
    let authority = Authority::new();
    let identities = [&["first.example"][..], &["*.wild.example", "wild.example"], &["x.wild.example"]];
    let server = ServerTls::new(server_options(b, identities.iter().map(|n| authority.issue(n)).collect())).unwrap();
    let client = ClientTls::new(trusting(b, &authority)).unwrap();
    // (asked, whether one of ours has it)
    for (asked, found) in [
        ("first.example", true),
        ("FIRST.example", true),
        ("wild.example", true),
        ("y.wild.example", true),
        ("x.wild.example", true),
        ("a.b.wild.example", false),
        ("other.example", false),
        ("example", false),
    ] {
        let mut pair = Pair::new(&server, &client, asked);
        match pair.shake(usize::MAX / 2) {
            Ok(()) => assert!(found, "{asked}"),
            Err((error, _)) => {
                assert!(!found, "{asked}: {error:?}");
                let text = error.unwrap().to_string();
                assert!(text.contains("first.example"), "shown the first: {text}");
            }
        }
        assert_eq!(pair.server.info().sni, Some(asked.to_ascii_lowercase().as_str()));
    }
    // The exact name wins over the wildcard.
    let only_exact = ClientOptions { server_name: Some("x.wild.example".into()), ..trusting(b, &authority) };
    let mut pair = Pair::new(&server, &ClientTls::new(only_exact).unwrap(), "ignored");
    pair.shake(usize::MAX / 2).unwrap();
    assert_eq!(pair.server.info().sni, Some("x.wild.example"));
}

pub(crate) fn of_two_certificates_for_a_name_the_usable_one_is_shown(b: Backends) {
    let (ec, ec_key) = self_signed(["a.example"]).unwrap();
    let ed25519_key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let ed25519 = CertificateParams::new(vec!["a.example".into()]).unwrap().self_signed(&ed25519_key).unwrap();
    // Its first version of PKCS#8 (RFC 8410 section 7): OpenSSL 3.0 does not read the second.
    let mut first_version = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    first_version.extend_from_slice(&ed25519_key.serialize_der()[16..48]);
    let ed25519_key = KeyPair::try_from(first_version).unwrap();
    let first = Identity {
        certificates: ed25519.pem().as_str().into(),
        key: ed25519_key.serialize_pem().as_str().into(),
        staple: None,
    };
    let second = Identity { certificates: ec.as_str().into(), key: ec_key.as_str().into(), staple: None };
    let server = ServerTls::new(server_options(b, vec![first, second])).unwrap();
    // A hello that offers no Ed25519: the code point 0x0807 replaced by an unused one.
    let client = ClientTls::new(ClientOptions {
        roots: Roots::Insecure,
        versions: Versions::only(Version::Tls12),
        ..client_options(b)
    })
    .unwrap();
    let mut hello = Vec::new();
    let mut session = client.session("a.example").unwrap();
    assert!(step(&mut session, &mut Vec::new(), &mut 0, &mut hello, &mut false).is_none());
    let at = hello.windows(2).position(|w| w == [0x08, 0x07]).expect("the client offers Ed25519");
    for (patched, algorithm) in [(false, &[0x2b, 0x65, 0x70][..]), (true, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01])]
    {
        let mut wire = hello.clone();
        if patched {
            wire[at..at + 2].copy_from_slice(&[0xfe, 0x07]);
        }
        let mut flight = Vec::new();
        let mut shown = wire.len();
        assert!(step(&mut server.session(), &mut wire, &mut shown, &mut flight, &mut false).is_none());
        // In TLS 1.2 the certificate travels in the open: its key's algorithm is seen.
        assert!(flight.windows(algorithm.len()).any(|w| w == algorithm), "patched: {patched}");
    }
}

pub(crate) fn strangers_are_refused(b: Backends) {
    let authority = Authority::new();
    let yesterday = SystemTime::now() - Duration::from_secs(86400);
    let good = authority.issue(&["a.example", "10.0.0.1"]);
    let expired = authority.issue_until(&["a.example"], yesterday);
    let own = || trusting(b, &authority);
    // Each backend has its own words for the same refusal.
    let [unknown, other_name, other_address] = match b.client {
        Backend::OpenSsl => ["unable to get local issuer certificate", "hostname mismatch", "IP address mismatch"],
        _ => ["invalid peer certificate: UnknownIssuer", "not valid for name", "not valid for name"],
    };
    // (identity, options, name, words of the refusal)
    let table = [
        (&good, own(), "a.example", None),
        (&good, own(), "10.0.0.1", None),
        (&good, trusting(b, &Authority::named("another")), "a.example", Some(unknown)),
        (&good, client_options(b), "a.example", Some(unknown)),
        (&good, own(), "b.example", Some(other_name)),
        (&good, own(), "10.0.0.2", Some(other_address)),
        (&expired, own(), "a.example", Some("expired")),
        (&expired, ClientOptions { roots: Roots::Insecure, ..own() }, "b.example", None),
    ];
    for (identity, options, name, refusal) in table {
        let Ok(client) = ClientTls::new(options) else {
            // A system without roots can't trust by them; that it says so is what counts there.
            assert_eq!(refusal, Some(unknown));
            continue;
        };
        let mut pair = Pair::new(&server(b, identity.clone()), &client, name);
        match (pair.shake(usize::MAX / 2), refusal) {
            (Ok(()), None) => {}
            (Err((Some(TlsError::Certificate(cause)), server_error)), Some(words)) => {
                assert!(cause.to_string().contains(words), "{cause}");
                assert!(matches!(server_error, Some(TlsError::Alert(_))), "the server is told: {server_error:?}");
            }
            (result, _) => panic!("{name} {refusal:?}: {result:?}"),
        }
    }
    let error = ClientTls::new(own()).unwrap().session("no name").err().unwrap();
    assert!(matches!(error, SessionError::BadServerName { .. }));
}

pub(crate) fn no_common_version_is_no_agreement(b: Backends) {
    let authority = Authority::new();
    let mut options = server_options(b, vec![authority.issue(&["a.example"])]);
    options.versions = Versions::only(Version::Tls13);
    let client = ClientOptions { versions: Versions::only(Version::Tls12), ..trusting(b, &authority) };
    let mut pair = Pair::new(&ServerTls::new(options).unwrap(), &ClientTls::new(client).unwrap(), "a.example");
    let (_, server_error) = pair.shake(usize::MAX / 2).unwrap_err();
    assert!(matches!(server_error, Some(TlsError::NoAgreement(_))), "{server_error:?}");
}

pub(crate) fn sessions_are_resumed_by_ticket(b: Backends) {
    let authority = Authority::new();
    for version in [Version::Tls12, Version::Tls13] {
        for tickets in [true, false] {
            let mut options = server_options(b, vec![authority.issue(&["a.example"])]);
            options.tickets = tickets;
            let server = ServerTls::new(options).unwrap();
            let client = ClientOptions { versions: Versions::only(version), ..trusting(b, &authority) };
            let client = ClientTls::new(client).unwrap();
            for round in 0..6 {
                let mut pair = Pair::new(&server.clone(), &client, "a.example");
                pair.shake(usize::MAX / 2).unwrap();
                // TLS 1.3 sends its tickets after the handshake: opening them yields no plaintext. Each is used once, so new ones must come.
                assert_eq!(pair.exchange(), (vec![], vec![]));
                assert_eq!(pair.server.info().resumed, tickets && round > 0, "{version} {tickets} {round}");
                assert_eq!(pair.client.info().resumed, tickets && round > 0);
                assert_eq!(pair.server.info().sni, Some("a.example"));
            }
        }
    }
}

/// Who has used a ticket gets another in its place, not two.
pub(crate) fn a_resumed_session_gets_one_ticket(b: Backends) {
    let authority = Authority::new();
    let server = ServerTls::new(server_options(b, vec![authority.issue(&["a.example"])])).unwrap();
    let client = ClientTls::new(ClientOptions { versions: Versions::only(Version::Tls13), ..trusting(b, &authority) });
    let client = client.unwrap();
    let tickets_bytes: Vec<_> = (0..6)
        .map(|round| {
            let mut pair = Pair::new(&server, &client, "a.example");
            pair.shake(usize::MAX / 2).unwrap();
            assert_eq!(pair.server.info().resumed, round > 0);
            pair.server.drain(&mut pair.to_client);
            let bytes = pair.to_client.len();
            pair.exchange();
            bytes
        })
        .collect();
    let (two, ones) = tickets_bytes.split_first().unwrap();
    assert!(ones.iter().all(|&one| one > 0 && one < two * 3 / 4), "{tickets_bytes:?}");
}

pub(crate) fn closing_is_told_and_half_closed_sessions_still_carry(b: Backends) {
    for version in [Version::Tls12, Version::Tls13] {
        let mut pair = connected(b, version);
        pair.exchange();
        seal_all(&mut pair.client, b"last", &mut pair.to_server);
        pair.client.close_notify();
        pair.client.close_notify();
        assert!(pair.client.has_output());
        pair.client.drain(&mut pair.to_server);
        pair.to_server.extend_from_slice(b"what comes after is ignored");
        let mut plain = Vec::new();
        let mut rest = &pair.to_server[..];
        assert_eq!(pair.server.open(&mut rest, &mut plain).unwrap(), Step::Closed);
        assert_eq!(plain, b"last");
        assert_eq!(pair.server.open(&mut &b"more"[..], &mut plain).unwrap(), Step::Closed);
        assert!(matches!(pair.client.seal(&mut &b"x"[..], &mut [0; 999]), Err(TlsError::NotReady)));
        seal_all(&mut pair.server, b"the other way", &mut pair.to_client);
        assert_eq!(open_all(&mut pair.client, &mut pair.to_client), b"the other way");
        pair.server.close_notify();
        pair.server.drain(&mut pair.to_client);
        assert_eq!(pair.client.open(&mut &pair.to_client[..], &mut plain).unwrap(), Step::Closed);
    }
}

pub(crate) fn garbage_is_an_error_at_once(b: Backends) {
    let authority = Authority::new();
    let server = server(b, authority.issue(&["a.example"]));
    let shake = |session: &mut Session, wire: &[u8]| {
        let mut out = Vec::new();
        let mut rest = wire;
        match session.handshake(&mut Context::from_waker(Waker::noop()), &mut rest, &mut out) {
            Poll::Ready(result) => (result, out),
            Poll::Pending => panic!("software never waits"),
        }
    };
    // Plain HTTP, SSH and a record that is too large need not be complete to be refused.
    for garbage in [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-x", &[22, 3, 1, 0xff, 0xff], &[22, 9, 9, 0, 1]] {
        let mut session = server.session();
        let (result, _) = shake(&mut session, garbage);
        assert!(matches!(result, Err(TlsError::NotTls)), "{result:?}");
        assert!(matches!(shake(&mut session, b"again").0, Err(TlsError::NotReady)));
    }
    // A handshake record with nonsense in it.
    let (result, alert) = shake(&mut server.session(), &[22, 3, 1, 0, 4, 1, 0, 0, 0]);
    assert!(matches!(result, Err(TlsError::Protocol(_))), "{result:?}");
    assert_eq!(alert[0], 21, "an alert goes out");
    // Plaintext calls before the handshake are the caller's fault.
    assert!(matches!(server.session().open(&mut &[][..], &mut Vec::new()), Err(TlsError::NotReady)));
    assert!(matches!(server.session().seal(&mut &b"x"[..], &mut [0; 999]), Err(TlsError::NotReady)));
}

pub(crate) fn a_changed_record_kills_the_session(b: Backends) {
    let mut pair = connected(b, Version::Tls13);
    pair.exchange();
    seal_all(&mut pair.client, b"one", &mut pair.to_server);
    let end_of_first = pair.to_server.len();
    seal_all(&mut pair.client, b"two", &mut pair.to_server);
    pair.to_server[end_of_first + 7] ^= 1;
    let mut plain = Vec::new();
    let error = pair.server.open(&mut &pair.to_server[..], &mut plain).unwrap_err();
    assert!(matches!(error, TlsError::Protocol(_)), "{error:?}");
    assert_eq!(plain, b"one");
    assert!(pair.server.has_output(), "an alert is queued");
    assert!(matches!(pair.server.open(&mut &[][..], &mut plain), Err(TlsError::NotReady)));
    pair.server.drain(&mut pair.to_client);
    let error = pair.client.open(&mut &pair.to_client[..], &mut plain).unwrap_err();
    assert!(matches!(error, TlsError::Alert(_)), "{error:?}");
}

pub(crate) fn garbage_after_our_close_is_an_error_too(b: Backends) {
    let mut pair = connected(b, Version::Tls13);
    pair.exchange();
    pair.server.close_notify();
    let garbage = [23, 3, 3, 0, 20, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19];
    let error = pair.server.open(&mut &garbage[..], &mut Vec::new()).unwrap_err();
    assert!(matches!(error, TlsError::Protocol(_)), "{error:?}");
}

pub(crate) fn rooms_bound_what_is_opened_and_sealed(b: Backends) {
    let mut pair = connected(b, Version::Tls13);
    pair.exchange();
    // Too small a room for any record: nothing is written, nothing lost.
    let mut plain = &b"0123456789"[..];
    assert_eq!(pair.client.seal(&mut plain, &mut [0; 64]).unwrap(), 0);
    assert_eq!(plain.len(), 10);
    let mut room = [0; 70];
    let written = pair.client.seal(&mut plain, &mut room).unwrap();
    assert_eq!(plain, b"6789", "as much as the room takes");
    pair.to_server.extend_from_slice(&room[..written]);
    seal_all(&mut pair.client, plain, &mut pair.to_server);

    let mut small = [0; 2];
    let mut rest = &pair.to_server[..];
    let mut to = &mut small[..];
    assert_eq!(pair.server.open(&mut rest, &mut to).unwrap(), Step::NeedsRoom);
    assert_eq!((rest.len(), to.len()), (pair.to_server.len(), 2), "nothing was used");
    assert_eq!(open_all(&mut pair.server, &mut pair.to_server), b"0123456789");
}

pub(crate) fn many_small_writes_are_few_records(b: Backends) {
    let mut pair = connected(b, Version::Tls13);
    pair.exchange();
    let mut room = vec![0; 64 * 1024];
    let plain = vec![7; 40_000];
    let mut rest = &plain[..];
    let written = pair.client.seal(&mut rest, &mut room).unwrap();
    assert_eq!(rest.len(), 0);
    let mut records = 0;
    let mut wire = &room[..written];
    while let [_, _, _, high, low, ..] = *wire {
        wire = &wire[5 + usize::from(u16::from_be_bytes([high, low]))..];
        records += 1;
    }
    assert_eq!(records, 3, "40 000 bytes are three records of up to 16 KiB");
}

pub(crate) fn configurations_are_refused_with_cause_and_remedy(b: Backends) {
    let (certificate, key) = self_signed(["a.example"]).unwrap();
    let (_, other_key) = self_signed(["a.example"]).unwrap();
    let dir = tempdir();
    let file = |name: &str, text: &str| {
        let path = dir.path.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate_file = file("a.crt", &certificate);
    let other_key_file = file("b.key", &other_key);
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let missing = dir.path.join("no.such").to_str().unwrap().to_owned();
    let table: [(&str, &str, &[&str]); 9] = [
        (&missing, &key, &["can't read", "no.such", "No such file"]),
        (&certificate, &missing, &["can't read", "no.such"]),
        (&other_key_file, &key, &["b.key holds no CERTIFICATE block", "PEM"]),
        (&certificate, &certificate_file, &["a.crt holds no PRIVATE KEY block"]),
        (&certificate_file, &other_key_file, &["b.key does not match the certificate in", "a.crt"]),
        (&certificate, encrypted, &["the inline PEM text is encrypted", "openssl pkey"]),
        ("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", &key, &["certificate 1 in the inline PEM"]),
        ("-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n", &key, &["no valid PEM"]),
        (&certificate, "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n", &["can't be used"]),
    ];
    for (certificate, key, words) in table {
        let identity = Identity { certificates: certificate.into(), key: key.into(), staple: None };
        let text = ServerTls::new(server_options(b, vec![identity])).unwrap_err().to_string();
        for word in words {
            assert!(text.contains(word), "{word:?} is not in {text:?}");
        }
        assert!(!text.contains("MAA"), "no PEM text in an error: {text}");
    }
    assert!(matches!(ServerTls::new(server_options(b, vec![])), Err(ConfigError::NoIdentity)));
    let roots = Roots::Pem(other_key_file.as_str().into());
    let error = ClientTls::new(ClientOptions { roots, ..client_options(b) }).unwrap_err();
    assert!(error.to_string().contains("holds no CERTIFICATE block"), "{error}");
    let error = ClientTls::new(ClientOptions {
        server_name: Some("not a name".into()),
        roots: Roots::Insecure,
        ..client_options(b)
    })
    .unwrap_err();
    assert!(error.to_string().contains("\"not a name\""), "{error}");
}

struct TempDir {
    path: std::path::PathBuf,
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn tempdir() -> TempDir {
    let path = std::env::temp_dir().join(format!("tls-offload-test-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    TempDir { path }
}

/// Any split of the ciphertext gives the same plaintext, in any rooms.
pub(crate) fn any_split_gives_the_same_plaintext(b: Backends) {
    let pieces = || prop::collection::vec(1usize..20_000, 1..40);
    proptest!(ProptestConfig::with_cases(48), |(
        tls13 in any::<bool>(),
        writes in prop::collection::vec(1usize..40_000, 1..6),
        pieces in pieces(),
        out_room in 100usize..40_000,
    )| {
        let mut pair = connected(b, if tls13 { Version::Tls13 } else { Version::Tls12 });
        let mut sent = Vec::new();
        for (i, &len) in writes.iter().enumerate() {
            let plain: Vec<u8> = (0..len).map(|n| (n.wrapping_mul(31) ^ i).to_le_bytes()[0]).collect();
            let mut rest = &plain[..];
            let mut room = vec![0; out_room];
            while !rest.is_empty() {
                let written = pair.server.seal(&mut rest, &mut room).unwrap();
                prop_assert!(written > 0);
                pair.to_client.extend_from_slice(&room[..written]);
            }
            sent.extend(plain);
        }
        let mut got = Vec::new();
        let (mut start, mut end) = (0, 0);
        let mut pieces = pieces.iter().cycle();
        while end < pair.to_client.len() {
            end = (end + pieces.next().unwrap()).min(pair.to_client.len());
            loop {
                let mut rest = &pair.to_client[start..end];
                let mut memory = vec![0; 16 * 1024];
                let mut room = &mut memory[..];
                let step = pair.client.open(&mut rest, &mut room).unwrap();
                let left = room.len();
                start = end - rest.len();
                got.extend_from_slice(&memory[..16 * 1024 - left]);
                if step == Step::NeedsWire {
                    break;
                }
                prop_assert_eq!(step, Step::NeedsRoom);
            }
        }
        prop_assert_eq!(got, sent);
        prop_assert_eq!(start, end, "every byte was used");
    });
}

/// Nothing a peer sends makes a session panic: noise, noise in records, and a true hello with bits turned over.
pub(crate) fn no_noise_panics(b: Backends) {
    let noise = || prop::collection::vec(any::<u8>(), 0..600);
    proptest!(ProptestConfig::with_cases(48), |(noise in noise(), at in any::<prop::sample::Index>(), kind in 20u8..24)| {
        let authority = Authority::new();
        let server = server(b, authority.issue(&["a.example"]));
        let client = ClientTls::new(trusting(b, &authority)).unwrap();
        let mut framed = vec![kind, 3, 3];
        framed.extend_from_slice(&u16::try_from(noise.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(&noise);
        let mut hello = Vec::new();
        step(&mut client.session("a.example").unwrap(), &mut Vec::new(), &mut 0, &mut hello, &mut false);
        let place = at.index(hello.len());
        for (offset, byte) in noise.iter().take(8).enumerate() {
            let len = hello.len();
            hello[(place + offset) % len] ^= byte;
        }
        for mut wire in [noise.clone(), framed.clone(), hello] {
            let mut session = server.session();
            let mut shown = wire.len();
            let _ = step(&mut session, &mut wire, &mut shown, &mut Vec::new(), &mut false);
            let mut session = client.session("a.example").unwrap();
            let _ = step(&mut session, &mut wire.clone(), &mut wire.len(), &mut Vec::new(), &mut false);
        }
        // And to an established session.
        let mut pair = connected(b, Version::Tls13);
        for session in [&mut pair.client, &mut pair.server] {
            let _ = session.open(&mut &framed[..], &mut Vec::new());
            let _ = session.open(&mut &noise[..], &mut Vec::new());
        }
    });
}
