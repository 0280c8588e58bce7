//! Tests at the boundary: the real server, real HTTP, an SSE parser that is not ours.

mod access;
mod architecture;
mod backup;
mod bytes;
mod contents;
mod cursor;
mod cuts;
mod deploy;
mod interface;
mod joint;
mod kill;
mod life;
mod limits;
mod page;
mod process;
mod publish;
mod retention;
mod sign_in;
mod slow;
mod store;
mod stream;
mod support;
mod upgrade;
