//! Grafana's webhook contact point.
//!
//! Its shape: the page *Configure webhook notifications* of Grafana's documentation.

use super::{
    line::{first, title, with_link},
    payload::Payload,
};
use crate::server::error::Problem;

/// The line of a payload.
///
/// # Errors
/// When it is not JSON.
pub(super) fn line(payload: Payload<'_>) -> Result<String, Problem> {
    let [heading, summary, first_summary, first_description] = payload.fields([
        "title",
        "commonAnnotations.summary",
        "alerts.0.annotations.summary",
        "alerts.0.annotations.description",
    ])?;
    let [panel, dashboard, generator, server] = payload.fields([
        "alerts.0.panelURL",
        "alerts.0.dashboardURL",
        "alerts.0.generatorURL",
        "externalURL",
    ])?;
    // Of the alerts of Grafana before version 9.
    let [message, rule] = payload.fields(["message", "ruleUrl"])?;
    let message = if rule.is_empty() { "" } else { &message };
    let text = first([&summary, &first_summary, &first_description, message]);
    let link = first([&panel, &dashboard, &generator, &rule, &server]);
    Ok(with_link(&format!("{}{}", first([&heading, "Grafana"]), title(text)), link))
}
