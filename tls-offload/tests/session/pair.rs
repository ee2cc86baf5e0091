//! Two sessions and the bytes between them, and an authority that vouches for them.
//!
//! **Invariant:** no sockets; what one side sends reaches the other as it is, as late and in as many pieces as the test says.

use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
};
use tls_offload::{
    ClientIdentity, ClientOptions, ClientTls, Identity, Pem, RECORD_BYTES_MAX, Roots, ServerOptions, ServerTls,
    Session, Step, TlsError, Version, Versions,
};

use super::Backends;

/// Two sessions and the bytes on their way.
pub(super) struct Pair {
    pub(super) client: Session,
    pub(super) server: Session,
    pub(super) to_server: Vec<u8>,
    pub(super) to_client: Vec<u8>,
}

impl Pair {
    pub(super) fn new(server: &ServerTls, client: &ClientTls, name: &str) -> Self {
        Self {
            client: client.session(name).unwrap(),
            server: server.session(),
            to_server: Vec::new(),
            to_client: Vec::new(),
        }
    }

    /// Runs the handshake to its end, `piece` bytes more at a time. What one side sends in answer to an error reaches the other.
    pub(super) fn shake(&mut self, piece: usize) -> Result<(), (Option<TlsError>, Option<TlsError>)> {
        let (mut shown_server, mut shown_client) = (0, 0);
        let (mut client_done, mut server_done) = (false, false);
        let (mut client_error, mut server_error) = (None, None);
        for _ in 0..100_000 {
            let moved = (self.to_server.len(), self.to_client.len(), shown_server, shown_client);
            if client_error.is_none() {
                client_error = step(
                    &mut self.client,
                    &mut self.to_client,
                    &mut shown_client,
                    &mut self.to_server,
                    &mut client_done,
                );
            }
            if server_error.is_none() {
                server_error = step(
                    &mut self.server,
                    &mut self.to_server,
                    &mut shown_server,
                    &mut self.to_client,
                    &mut server_done,
                );
            }
            if client_done && server_done {
                return Ok(());
            }
            shown_server = (shown_server + piece).min(self.to_server.len());
            shown_client = (shown_client + piece).min(self.to_client.len());
            if moved == (self.to_server.len(), self.to_client.len(), shown_server, shown_client) {
                return Err((client_error, server_error));
            }
        }
        panic!("the handshake does not end");
    }

    /// Moves everything queued or waiting in both directions; gives what each side read: (client, server).
    pub(super) fn exchange(&mut self) -> (Vec<u8>, Vec<u8>) {
        self.client.drain(&mut self.to_server);
        self.server.drain(&mut self.to_client);
        (open_all(&mut self.client, &mut self.to_client), open_all(&mut self.server, &mut self.to_server))
    }
}

/// Shows a session the first `shown` bytes of its wire.
pub(super) fn step(
    session: &mut Session,
    wire: &mut Vec<u8>,
    shown: &mut usize,
    out: &mut Vec<u8>,
    done: &mut bool,
) -> Option<TlsError> {
    let mut rest = &wire[..*shown];
    let Poll::Ready(result) = session.handshake(&mut Context::from_waker(Waker::noop()), &mut rest, out) else {
        panic!("software never waits");
    };
    let used = *shown - rest.len();
    wire.drain(..used);
    *shown -= used;
    match result {
        Ok(step) => {
            *done |= step == Step::Done;
            None
        }
        Err(e) => {
            session.drain(out);
            Some(e)
        }
    }
}

pub(super) fn open_all(session: &mut Session, wire: &mut Vec<u8>) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = &wire[..];
    session.open(&mut rest, &mut plain).unwrap();
    let used = wire.len() - rest.len();
    wire.drain(..used);
    plain
}

pub(super) fn seal_all(session: &mut Session, mut plain: &[u8], wire: &mut Vec<u8>) {
    let mut room = vec![0; RECORD_BYTES_MAX];
    while !plain.is_empty() || session.has_output() {
        let written = session.seal(&mut plain, &mut room).unwrap();
        assert!(written > 0);
        wire.extend_from_slice(&room[..written]);
    }
}

/// An authority of our own.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        Self::named("an authority")
    }

    pub(super) fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn pem(&self) -> Pem {
        Pem::from(self.0.pem().as_str())
    }

    pub(super) fn issue(&self, names: &[&str]) -> Identity {
        self.issue_until(names, SystemTime::now() + DAY)
    }

    pub(super) fn issue_until(&self, names: &[&str], until: SystemTime) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = self.certify(names, until, &key);
        Identity {
            certificates: certificate.pem().as_str().into(),
            key: key.serialize_pem().as_str().into(),
            staple: None,
        }
    }

    /// A server's certificate for these names and URIs.
    pub(super) fn issue_with(&self, names: &[&str], uris: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let uris = uris.iter().map(|&uri| SanType::URI(uri.try_into().unwrap()));
        params.subject_alt_names.extend(uris);
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let (certificates, key) = (certificate.pem().as_str().into(), key.serialize_pem().as_str().into());
        Identity { certificates, key, staple: None }
    }

    /// A client's certificate with this serial number, for these names.
    pub(super) fn issue_to_client(&self, names: &[&str], serial: u64) -> ClientIdentity {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a client");
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        params.serial_number = Some(serial.into());
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        ClientIdentity { certificates: certificate.pem().as_str().into(), key: key.serialize_pem().as_str().into() }
    }

    /// A list of what it has revoked, good until then.
    pub(super) fn revoke(&self, serials: &[u64], until: SystemTime) -> Pem {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: (SystemTime::now() - DAY).into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: (until - 2 * DAY).into(),
            next_update: until.into(),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap().as_str().into()
    }

    /// A certificate as it is asked for, for this key.
    pub(super) fn certify_key(&self, params: CertificateParams, key: &KeyPair) -> Certificate {
        params.signed_by(key, &self.0).unwrap()
    }

    fn certify(&self, names: &[&str], until: SystemTime, key: &KeyPair) -> Certificate {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        params.not_after = until.into();
        params.serial_number = Some(7.into());
        params.signed_by(key, &self.0).unwrap()
    }
}

pub(super) const DAY: Duration = Duration::from_secs(86400);

pub(super) fn trusting(b: Backends, authority: &Authority) -> ClientOptions {
    ClientOptions { roots: Roots::Pem(authority.pem()), ..client_options(b) }
}

pub(super) fn client_options(b: Backends) -> ClientOptions {
    ClientOptions { backend: b.client, ..ClientOptions::default() }
}

pub(super) fn server_options(b: Backends, identities: Vec<Identity>) -> ServerOptions {
    let mut options = ServerOptions::new(identities);
    options.backend = b.server;
    options
}

pub(super) fn server(b: Backends, identity: Identity) -> ServerTls {
    ServerTls::new(server_options(b, vec![identity])).unwrap()
}

/// A pair with its handshake done.
pub(super) fn connected(b: Backends, version: Version) -> Pair {
    let authority = Authority::new();
    let client =
        ClientTls::new(ClientOptions { versions: Versions::only(version), ..trusting(b, &authority) }).unwrap();
    let mut pair = Pair::new(&server(b, authority.issue(&["a.example"])), &client, "a.example");
    pair.shake(usize::MAX / 2).unwrap();
    pair
}
