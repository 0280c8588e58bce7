//! Tests at the boundary: the real server, real HTTP, an SSE parser that is not ours.

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
mod page;
mod process;
mod publish;
mod retention;
mod slow;
mod store;
mod stream;
mod support;
mod upgrade;
