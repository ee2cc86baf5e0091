//! Who is reached, and who is not.

use std::io::ErrorKind;

use ferrogate_core::net::{Address, ListenOptions, Listener, Transport};

use crate::calls::{listen, read_message, send};
use crate::harness::Harness;

/// Nobody listens: an error at once, not a wait.
pub async fn nobody_listens<H: Harness>(plane: &H) {
    let error = plane.client().connect(&plane.silent_address()).await.err().expect("nobody is there");
    // A unix socket that is not there is no file.
    assert!(matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound), "{error}");
    // And nobody any more.
    let (listener, address) = listen(plane).await;
    drop(listener);
    let error = plane.client().connect(&address).await.err().expect("nobody is there any more");
    assert!(matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound), "{error}");
}

/// An address that is served can't be taken again, and can once it is free.
pub async fn an_address_is_taken_once<H: Harness>(plane: &H) {
    let alone = ListenOptions { reuse_port: false, ..ListenOptions::default() };
    let first = plane.server().listen(&plane.listen_address(), &alone).await.unwrap();
    let address = first.local_addr().clone();
    let error = plane.server().listen(&address, &alone).await.err().expect("it is taken");
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
    drop(first);
    if let Address::Inet(_) = address {
        plane.server().listen(&address, &alone).await.expect("it is free again");
    }
}

/// Port 0 is some free port, and the listener knows which.
pub async fn a_port_is_chosen<H: Harness>(plane: &H) {
    let ((mut one, first), (_two, second)) = (listen(plane).await, listen(plane).await);
    assert_ne!(first, second);
    assert!(first.inet().is_none_or(|a| a.port() != 0));
    let (accepted, connected) = tokio::join!(one.accept(), plane.client().connect(&first));
    assert!(accepted.is_ok() && connected.is_ok());
}

/// Connections, and what they sent, wait for a listener that is busy elsewhere.
pub async fn connections_wait_to_be_accepted<H: Harness>(plane: &H) {
    let (mut listener, address) = listen(plane).await;
    let mut clients = Vec::new();
    for n in 0..20_u8 {
        let mut client = plane.client().connect(&address).await.expect("it waits in the queue");
        send(&mut client, &[n]).await.unwrap();
        clients.push(client);
    }
    let mut seen = Vec::new();
    for _ in 0..20 {
        let mut server = listener.accept().await.unwrap();
        seen.extend(read_message(&mut server, 1).await.unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}
