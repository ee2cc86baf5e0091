//! rustls against other people's TLS.
//!
//! **Invariant:** nothing but the choice of the backend; the tests are in `peers/suite.rs`.

#[path = "peers/suite.rs"]
#[macro_use]
mod suite;

peers!(
    Rustls:
    curl_gets_two_answers_on_one_connection,
    curl_refuses_what_it_does_not_trust,
    openssl_s_client_updates_keys_and_resumes,
    our_client_talks_to_openssl_s_server,
    the_servers_order_of_suites_decides,
);
