//! Server-Sent Events (SSE): the frame encoder, the streaming response, and its statistics.

pub(crate) mod frame;
pub(crate) mod response;
mod stats;
pub(crate) mod subscription;

pub(crate) use self::{
    response::{EventBody, EventStreams},
    stats::Batch,
    subscription::{Reader, Subscription, WatchGrant},
};
