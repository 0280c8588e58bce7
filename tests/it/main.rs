//! Tests at the boundary: the real server, real HTTP, an SSE parser that is not ours.

mod architecture;
mod bytes;
mod contents;
mod cursor;
mod cuts;
mod interface;
mod joint;
mod kill;
mod life;
mod logs;
mod metrics;
mod page;
mod process;
mod publish;
mod retention;
mod slow;
mod store;
mod stream;
mod support;
