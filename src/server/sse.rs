//! Server-Sent Events: the encoder of frames, and the response that carries them.

pub(crate) mod frame;
pub(crate) mod response;
mod stats;

pub(crate) use self::{
    response::{EventStreams, Reader, WatchGrant},
    stats::Batch,
};
