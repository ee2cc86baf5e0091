//! Certificates of clients, and what is revoked or has expired.
//!
//! **Invariant:** as of the suite: no sockets; what is refused is refused for the reason the test names.

use std::time::SystemTime;

use tls_offload::{
    Caveat, ClientAuth, ClientIdentity, ClientOptions, ClientTls, Pem, ServerTls, TlsError, Version, Versions,
};

use super::Backends;
use super::pair::{Authority, DAY, Pair, server_options, trusting};

/// How a handshake ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With the client's certificate.
    Known,
    /// Without one.
    Unknown,
    Refused,
}

fn verified(authority: &Authority, revoked: Option<Pem>, required: bool) -> ClientAuth {
    ClientAuth::Verified { roots: authority.pem(), revoked, required }
}

/// A server that asks its clients so, and a client of it.
fn pair(b: Backends, auth: &ClientAuth, version: Version, identity: Option<ClientIdentity>) -> Pair {
    let authority = Authority::new();
    let mut options = server_options(b, vec![authority.issue(&["a.example"])]);
    options.client_auth = auth.clone();
    let versions = Versions::only(version);
    let client = ClientTls::new(ClientOptions { versions, identity, ..trusting(b, &authority) }).unwrap();
    Pair::new(&ServerTls::new(options).unwrap(), &client, "a.example")
}

/// How it ends, and what the server says where it refuses.
fn end(pair: &mut Pair) -> (End, String) {
    match pair.shake(usize::MAX / 2) {
        Ok(()) if pair.server.peer_certificate().is_some() => (End::Known, String::new()),
        Ok(()) => (End::Unknown, String::new()),
        Err((client, Some(TlsError::Certificate(cause)))) => {
            assert!(matches!(client, None | Some(TlsError::Alert(_))), "{client:?}");
            (End::Refused, cause.to_string())
        }
        Err(other) => panic!("{other:?}"),
    }
}

pub(crate) fn clients_are_let_in_as_it_is_configured(b: Backends) {
    use End::{Known, Refused, Unknown};
    let (ours, other) = (Authority::new(), Authority::named("another"));
    let (required, optional) = (verified(&ours, None, true), verified(&ours, None, false));
    let good = ours.issue_to_client(&["c.example"], 7);
    let strange = other.issue_to_client(&["c.example"], 7);
    let server = ours.issue(&["c.example"]);
    let not_for_clients = match server.key {
        tls_offload::Key::Pem(key) => ClientIdentity { certificates: server.certificates, key },
        _ => unreachable!("issued in PEM"),
    };
    for version in [Version::Tls12, Version::Tls13] {
        // (what the server wants, and how it ends for who shows: nothing, a good one, a stranger's, a server's)
        for (auth, ends) in [
            (&ClientAuth::None, [Unknown, Unknown, Unknown, Unknown]),
            (&ClientAuth::Asked, [Unknown, Known, Known, Known]),
            (&optional, [Unknown, Known, Refused, Refused]),
            (&required, [Refused, Known, Refused, Refused]),
        ] {
            let shown = [None, Some(&good), Some(&strange), Some(&not_for_clients)];
            for (identity, expected) in shown.into_iter().zip(ends) {
                let (end, why) = end(&mut pair(b, auth, version, identity.cloned()));
                assert_eq!(end, expected, "{version} {auth:?} {identity:?}: {why}");
            }
        }
    }
}

pub(crate) fn the_clients_certificate_is_told(b: Backends) {
    let authority = Authority::new();
    let auth = verified(&authority, None, true);
    let mut options = server_options(b, vec![authority.issue(&["a.example"])]);
    options.client_auth = auth;
    let server = ServerTls::new(options).unwrap();
    assert!(server.verifies_clients());
    let identity = authority.issue_to_client(&["c.example", "*.d.example"], 7);
    for version in [Version::Tls12, Version::Tls13] {
        let versions = Versions::only(version);
        let identity = Some(identity.clone());
        let client = ClientTls::new(ClientOptions { versions, identity, ..trusting(b, &authority) }).unwrap();
        for round in 0..2 {
            let mut pair = Pair::new(&server, &client, "a.example");
            pair.shake(usize::MAX / 2).unwrap();
            pair.exchange();
            assert_eq!(pair.server.info().resumed, round > 0, "{version}");
            let shown = pair.server.peer_certificate().unwrap();
            assert_eq!(shown.subject(), "CN=a client");
            assert_eq!(shown.dns_names(), ["c.example", "*.d.example"]);
            assert_eq!(shown.chain_pem(), shown.pem());
            let servers = pair.client.peer_certificate().unwrap();
            assert_eq!(servers.dns_names(), ["a.example"]);
        }
    }
}

pub(crate) fn who_is_revoked_is_refused(b: Backends) {
    let (authority, other) = (Authority::new(), Authority::named("another"));
    let (soon, past) = (SystemTime::now() + DAY, SystemTime::now() - DAY);
    let [good, bad] = [7, 8].map(|serial| authority.issue_to_client(&["c.example"], serial));
    let [unknown, revoked, expired] = match b.server {
        tls_offload::Backend::OpenSsl => ["unable to get certificate CRL", "certificate revoked", "CRL has expired"],
        _ => ["UnknownRevocationStatus", "Revoked", "revocation list"],
    };
    for version in [Version::Tls12, Version::Tls13] {
        // (the list, who comes, why it is refused)
        for (list, who, words) in [
            (authority.revoke(&[8, 9], soon), &good, None),
            (authority.revoke(&[8, 9], soon), &bad, Some(revoked)),
            (authority.revoke(&[], past), &good, Some(expired)),
            (other.revoke(&[], soon), &good, Some(unknown)),
        ] {
            let auth = verified(&authority, Some(list), true);
            let (end, why) = end(&mut pair(b, &auth, version, Some(who.clone())));
            match words {
                None => assert_eq!(end, End::Known, "{version}: {why}"),
                Some(words) => assert!(end == End::Refused && why.contains(words), "{version}: {words}: {why}"),
            }
        }
    }
}

pub(crate) fn servers_that_are_revoked_are_refused(b: Backends) {
    let authority = Authority::new();
    let server = super::pair::server(b, authority.issue(&["a.example"]));
    let soon = SystemTime::now() + DAY;
    // Its own certificate has the serial number 7.
    for (list, is_good) in [(authority.revoke(&[8], soon), true), (authority.revoke(&[7], soon), false)] {
        let client = ClientTls::new(ClientOptions { revoked: Some(list), ..trusting(b, &authority) }).unwrap();
        let mut pair = Pair::new(&server, &client, "a.example");
        match pair.shake(usize::MAX / 2) {
            Ok(()) => assert!(is_good),
            Err((Some(TlsError::Certificate(cause)), _)) => {
                assert!(!is_good && cause.to_string().to_lowercase().contains("revoked"), "{cause}");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

pub(crate) fn what_has_expired_is_told(b: Backends) {
    let authority = Authority::new();
    let (soon, past) = (SystemTime::now() + DAY, SystemTime::now() - DAY);
    let caveats = |until, listed| {
        let mut options = server_options(b, vec![authority.issue_until(&["a.example"], until)]);
        options.client_auth = verified(&authority, Some(authority.revoke(&[], listed)), true);
        ServerTls::new(options).unwrap().caveats().to_vec()
    };
    assert_eq!(caveats(soon, soon), []);
    assert!(matches!(&caveats(past, soon)[..], [Caveat::Expired { .. }]));
    let lists = caveats(soon, past);
    assert!(matches!(&lists[..], [Caveat::RevocationListExpired { .. }]));
    assert!(lists[0].to_string().contains("the inline PEM text has expired, at 2"), "{}", lists[0]);
}

/// A URI in place of the name (MOSN: `sni_verify`): the chain must be good as ever, and the name does not matter.
pub(crate) fn servers_may_be_known_by_a_uri(b: Backends) {
    let (authority, other) = (Authority::new(), Authority::named("another"));
    let uri = "spiffe://mesh.example/ns/shop/sa/cart";
    let has = authority.issue_with(&["a.example"], &["https://x.example/", uri]);
    let lacks = authority.issue_with(&["a.example"], &["spiffe://mesh.example/ns/shop/sa/till"]);
    let untrusted = other.issue_with(&["a.example"], &[uri]);
    let without = |name, uri: &str| (name, Some(uri.into()));
    for version in [Version::Tls12, Version::Tls13] {
        for (identity, (name, uri), refusal) in [
            (&has, without("a.example", uri), None),
            (&has, without("b.example", uri), None),
            (&has, without("10.0.0.1", &uri.to_uppercase()), None),
            (&lacks, without("a.example", uri), Some("not for the URI")),
            (&lacks, without("b.example", uri), Some("not for the URI")),
            (&untrusted, without("a.example", uri), Some("ssuer")),
            (&untrusted, without("b.example", uri), Some("ssuer")),
            (&has, ("b.example", None), Some("")),
        ] {
            let versions = Versions::only(version);
            let client = ClientTls::new(ClientOptions { uri, versions, ..trusting(b, &authority) }).unwrap();
            let server = ServerTls::new(server_options(b, vec![identity.clone()])).unwrap();
            let mut pair = Pair::new(&server, &client, name);
            match (pair.shake(usize::MAX / 2), refusal) {
                (Ok(()), None) => {}
                (Err((Some(TlsError::Certificate(cause)), _)), Some(words)) => {
                    assert!(cause.to_string().contains(words), "{version} {name}: {cause}");
                }
                (result, _) => panic!("{version} {name} {refusal:?}: {result:?}"),
            }
        }
    }
}
