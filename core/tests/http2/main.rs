//! HTTP/2 over raw frames: what RFC 9113 and RFC 7541 ask of the server's side, what a hostile client may not do to it, and how the client's
//! side takes what an origin does.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod any_frames;
mod conformance;
mod exchanges;
mod floods;
mod hostile;
mod origins;
mod peer;
mod service;
mod tunnels;
mod upgrades;
