//! Clients that hold a server up, for the benchmarks and for the tests of the server.

pub mod held;
