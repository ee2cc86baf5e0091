//! A pretended accelerator, for tests: an OpenSSL provider, and an engine, whose signatures take a card's time. It shows concurrency, cancelling and faults; it
//! says nothing about a card's speed.
//!
//! It needs no library at build time: what it calls is libcrypto's, which whoever loads it has.
//!
//! **Invariant:** a test tool, never part of the product.

mod card;
mod engine;
mod engine_ffi;
mod ffi;
mod keys;
mod provider;
mod signature;
