//! Alertmanager's webhook: a group of alerts.
//!
//! Its shape: <https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>.

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
    let [status, number, name, first_name, severity, instance, link] = payload.fields([
        "status",
        "alerts.#",
        "commonLabels.alertname",
        "alerts.0.labels.alertname",
        "commonLabels.severity",
        "commonLabels.instance",
        "externalURL",
    ])?;
    let [summary, description, first_summary, first_description] = payload.fields([
        "commonAnnotations.summary",
        "commonAnnotations.description",
        "alerts.0.annotations.summary",
        "alerts.0.annotations.description",
    ])?;
    let status = status.to_uppercase();
    let number = if number == "1" { String::new() } else { format!(":{number}") };
    let name = first([&name, &first_name, "alert"]);
    let instance = if instance.is_empty() { instance } else { format!(" on {instance}") };
    let severity = if severity.is_empty() { severity } else { format!(" ({severity})") };
    let text = first([&summary, &description, &first_summary, &first_description]);
    Ok(with_link(&format!("[{status}{number}] {name}{instance}{severity}{}", title(text)), &link))
}
