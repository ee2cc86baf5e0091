//! The server's side of HTTP/2 over raw frames: what RFC 9113 and RFC 7541 ask of it, and what a hostile client may not do to it.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod conformance;
mod exchanges;
mod floods;
mod peer;
mod service;
