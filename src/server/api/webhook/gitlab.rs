//! GitLab's webhooks.
//!
//! Their shape: <https://docs.gitlab.com/user/project/integrations/webhook_events/>.

use super::{
    line::{count, first, reference, title, with_link, words},
    payload::Payload,
};
use crate::server::error::Problem;

/// The header with the name of the event; the payload has it too.
pub(super) const EVENT: &str = "x-gitlab-event";

/// The line of a payload.
///
/// # Errors
/// When it is not JSON.
pub(super) fn line(payload: Payload<'_>) -> Result<String, Problem> {
    let [kind, project, group, user_name, user] = payload.fields([
        "object_kind",
        "project.path_with_namespace",
        "group.full_path",
        "user_name",
        "user.name",
    ])?;
    let place = first([&project, &group, "GitLab"]);
    let person = first([&user_name, &user, "someone"]);
    let (what, link) = match kind.as_str() {
        "push" | "tag_push" => push(person, payload)?,
        "merge_request" => merge_request(person, payload)?,
        "pipeline" => pipeline(payload)?,
        "build" => job(payload)?,
        "release" => release(payload)?,
        kind => {
            let [action, url, iid, subject] = payload.fields([
                "object_attributes.action",
                "object_attributes.url",
                "object_attributes.iid",
                "object_attributes.title",
            ])?;
            let kind = if kind.is_empty() { "event" } else { kind };
            let number = if iid.is_empty() { iid } else { format!(" #{iid}") };
            let action = words(past_tense(&action));
            let what = format!("{}{number} {action} by {person}{}", words(kind), title(&subject));
            (what, url)
        }
    };
    Ok(with_link(&format!("{place}: {what}"), &link))
}

/// What happened, and the address to see it at.
type What = Result<(String, String), Problem>;

fn push(person: &str, payload: Payload<'_>) -> What {
    let [git_ref, total, before, after, message, commit_url, url] = payload.fields([
        "ref",
        "total_commits_count",
        "before",
        "after",
        "commits.-1.message",
        "commits.-1.url",
        "project.web_url",
    ])?;
    // The id of no commit is zeros.
    let is_none = |commit: &str| !commit.is_empty() && commit.bytes().all(|byte| byte == b'0');
    let git_ref = reference(&git_ref);
    let what = if is_none(&after) {
        format!("{person} deleted {git_ref}")
    } else if is_none(&before) && (git_ref.starts_with("tag ") || total == "0") {
        format!("{person} created {git_ref}")
    } else {
        let commits = count(first([&total, "0"]), "commit");
        format!("{person} pushed {commits} to {git_ref}{}", title(&message))
    };
    Ok((what, first([&commit_url, &url]).to_owned()))
}

fn merge_request(person: &str, payload: Payload<'_>) -> What {
    let [action, number, subject, url] = payload.fields([
        "object_attributes.action",
        "object_attributes.iid",
        "object_attributes.title",
        "object_attributes.url",
    ])?;
    let action = words(past_tense(&action));
    Ok((format!("{person} {action} merge request !{number}{}", title(&subject)), url))
}

/// GitLab names what was done by the verb's stem.
fn past_tense(action: &str) -> &str {
    match action {
        "open" => "opened",
        "close" => "closed",
        "reopen" => "reopened",
        "update" => "updated",
        "merge" => "merged",
        "create" => "created",
        "delete" => "deleted",
        action => action,
    }
}

fn pipeline(payload: Payload<'_>) -> What {
    let [number, git_ref, status, url, id, project_url] = payload.fields([
        "object_attributes.iid",
        "object_attributes.ref",
        "object_attributes.status",
        "object_attributes.url",
        "object_attributes.id",
        "project.web_url",
    ])?;
    let url = if url.is_empty() { format!("{project_url}/-/pipelines/{id}") } else { url };
    let number = first([&number, &id]);
    Ok((format!("pipeline #{number} on {git_ref}: {}", words(&status)), url))
}

fn job(payload: Payload<'_>) -> What {
    let [name, stage, git_ref, status, id, project_url] = payload.fields([
        "build_name",
        "build_stage",
        "ref",
        "build_status",
        "build_id",
        "project.web_url",
    ])?;
    let url = format!("{project_url}/-/jobs/{id}");
    Ok((format!("job {name} ({stage}) on {git_ref}: {}", words(&status)), url))
}

fn release(payload: Payload<'_>) -> What {
    let [action, tag, name, url] = payload.fields(["action", "tag", "name", "url"])?;
    let name = if name == tag { String::new() } else { title(&name) };
    Ok((format!("release {tag} {}{name}", past_tense(&action)), url))
}
