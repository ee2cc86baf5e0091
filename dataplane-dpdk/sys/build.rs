//! Finds libdpdk and builds the shim.
fn main() {}
