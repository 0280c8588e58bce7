//! Access control and limits: tokens, rate limits, concurrency limits, the memory budget, CORS, CSRF
//! protection, the host check and security headers.

pub(crate) mod access;
pub(crate) mod allowed_hosts;
mod cookie;
pub(crate) mod cors;
pub(crate) mod cross_site;
pub(crate) mod limits;
mod memory;
mod permits;
mod rates;
pub(crate) mod request_limit;
pub(crate) mod security_headers;
mod token;
mod webhook;

pub use self::access::Access;
pub(crate) use self::{
    access::{Identity, MayPublish, MayWatch, MayWatchAll, Publisher, unauthorized},
    allowed_hosts::AllowedHosts,
    limits::{Limits, Rates},
    memory::{
        MAX_HOLD, MemoryBudget, MemoryPart, MemoryPermit, ReservedBody, hold_until_done, min_budget,
    },
    permits::{ConcurrencyLimit, Permit},
    token::{Claims, NumericDate, Pattern, Secret, TokenError, sign},
    webhook::{WebhookProof, webhook_secret},
};
