//! Clusters: who gets the requests, what a change of hosts or health does, and what bounds hold.

mod dials;
mod names;
mod sets;
mod spread;
mod stage;
