//! Gitea's webhooks, and Forgejo's. Their payloads have the fields of GitHub's (see `github.rs`), and they
//! send GitHub's headers beside their own.
//!
//! Their shape: <https://docs.gitea.com/usage/repository/webhooks>.

/// The header with the name of the event.
pub(super) const EVENT: &str = "x-gitea-event";
/// The header with the id of the delivery.
pub(super) const DELIVERY: &str = "x-gitea-delivery";
