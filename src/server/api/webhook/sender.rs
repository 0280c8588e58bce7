//! The senders of webhooks, and how to tell them apart.

use axum::http::HeaderMap;

use super::{alertmanager, gitea, github, gitlab, grafana, payload::Payload};
use crate::{
    problem,
    server::{api::idempotency, error::Problem, log::IdempotencyKey},
};

/// A program whose payloads are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    GitHub,
    GitLab,
    /// And Forgejo.
    Gitea,
    Alertmanager,
    Grafana,
}

/// The senders, each with its name in `?from=`.
pub(crate) const SENDERS: [(Sender, &str); 5] = [
    (Sender::GitHub, "github"),
    (Sender::GitLab, "gitlab"),
    (Sender::Gitea, "gitea"),
    (Sender::Alertmanager, "alertmanager"),
    (Sender::Grafana, "grafana"),
];

impl Sender {
    pub(super) fn of_name(name: &str) -> Option<Self> {
        SENDERS.iter().find(|(_, known)| *known == name).map(|(sender, _)| *sender)
    }

    /// All names, for the detail of a problem.
    pub(super) fn names() -> String {
        SENDERS.map(|(_, name)| name).join(", ")
    }

    /// The sender that has these headers. Gitea sends those of GitHub too.
    pub(super) fn of_headers(headers: &HeaderMap) -> Option<Self> {
        [(Self::Gitea, gitea::EVENT), (Self::GitLab, gitlab::EVENT), (Self::GitHub, github::EVENT)]
            .into_iter()
            .find(|(_, event)| headers.contains_key(*event))
            .map(|(sender, _)| sender)
    }

    /// The sender whose payload has these fields.
    ///
    /// # Errors
    /// When there is none, or it is not JSON.
    pub(super) fn of_payload(payload: Payload<'_>) -> Result<Self, Problem> {
        let [alerts, group, organisation, rule] =
            payload.fields(["alerts.#", "groupKey", "orgId", "ruleUrl"])?;
        if !organisation.is_empty() || !rule.is_empty() {
            Ok(Self::Grafana)
        } else if !alerts.is_empty() && !group.is_empty() {
            Ok(Self::Alertmanager)
        } else {
            let detail = format!(
                "This payload is of no sender that is known. Say what to show of it, as in \
                 ?show={{path.to.field}}, or ?from= with {}.",
                Self::names()
            );
            Err(Problem::new(problem::MALFORMED_PAYLOAD, detail))
        }
    }

    /// The idempotency key of a request: its own, or the id of the delivery, which is the same when the
    /// sender repeats it. (GitLab sends an `Idempotency-Key`.)
    ///
    /// # Errors
    /// When it is malformed.
    pub(super) fn key(self, headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
        let key = idempotency::key(headers)?;
        match self {
            Self::GitHub if key.is_none() => idempotency::key_in(headers, github::DELIVERY),
            Self::Gitea if key.is_none() => idempotency::key_in(headers, gitea::DELIVERY),
            _ => Ok(key),
        }
    }

    /// The line of a payload.
    ///
    /// # Errors
    /// When it is not JSON.
    pub(super) fn line(self, headers: &HeaderMap, payload: Payload<'_>) -> Result<String, Problem> {
        let event =
            |name| headers.get(name).and_then(|event| event.to_str().ok()).unwrap_or_default();
        match self {
            Self::GitHub => github::line("GitHub", event(github::EVENT), payload),
            Self::GitLab => gitlab::line(payload),
            Self::Gitea => github::line("Gitea", event(gitea::EVENT), payload),
            Self::Alertmanager => alertmanager::line(payload),
            Self::Grafana => grafana::line(payload),
        }
    }
}
