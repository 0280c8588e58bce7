//! Stalled clients, for the benchmarks and for the tests of the server.

pub mod held;
