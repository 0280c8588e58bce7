//! GitHub's webhooks, and Gitea's, whose payloads have the same fields.
//!
//! Their shape: <https://docs.github.com/webhooks/webhook-events-and-payloads>.

use super::{
    line::{count, first, reference, title, with_link, words},
    payload::Payload,
};
use crate::server::error::Problem;

/// The header with the name of the event.
pub(super) const EVENT: &str = "x-github-event";
/// The header with the id of the delivery.
pub(super) const DELIVERY: &str = "x-github-delivery";

/// The line of a payload of `event`. `host` is the name of the sender.
///
/// # Errors
/// When it is not JSON.
pub(super) fn line(host: &str, event: &str, payload: Payload<'_>) -> Result<String, Problem> {
    let [repository, organisation, login, name] = payload.fields([
        "repository.full_name",
        "organization.login",
        "sender.login",
        "pusher.name",
    ])?;
    let place = first([&repository, &organisation, host]);
    let person = first([&login, &name, "someone"]);
    let (what, link) = match event {
        "ping" => ping(payload)?,
        "push" => push(person, payload)?,
        "pull_request" => pull_request(person, payload)?,
        "issues" | "issue_comment" => issue(person, event, payload)?,
        "workflow_run" => workflow(payload)?,
        "workflow_job" | "check_run" | "check_suite" => check(event, payload)?,
        "release" => release(person, payload)?,
        _ => {
            let [action, url] = payload.fields(["action", "repository.html_url"])?;
            let event = if event.is_empty() { "event" } else { event };
            let what = format!("{} {} by {person}", words(event), words(&action));
            (what, url)
        }
    };
    Ok(with_link(&format!("{place}: {what}"), &link))
}

/// What happened, and the address to see it at.
type What = Result<(String, String), Problem>;

fn ping(payload: Payload<'_>) -> What {
    let [zen, url] = payload.fields(["zen", "repository.html_url"])?;
    Ok((format!("the webhook works{}", title(&zen)), url))
}

fn push(person: &str, payload: Payload<'_>) -> What {
    let [git_ref, commits, total, message, created, deleted, forced] = payload.fields([
        "ref",
        "commits.#",
        "total_commits",
        "head_commit.message",
        "created",
        "deleted",
        "forced",
    ])?;
    let [compare, gitea_compare, url] =
        payload.fields(["compare", "compare_url", "repository.html_url"])?;
    let git_ref = reference(&git_ref);
    // GitHub lists at most 2048 commits, Gitea fewer, with their number.
    let commits = first([&total, &commits, "0"]);
    let what = if deleted == "true" {
        return Ok((format!("{person} deleted {git_ref}"), url));
    } else if commits == "0" && created == "true" {
        format!("{person} created {git_ref}")
    } else {
        let verb = if forced == "true" { "force-pushed" } else { "pushed" };
        let commits = count(commits, "commit");
        format!("{person} {verb} {commits} to {git_ref}{}", title(&message))
    };
    Ok((what, first([&compare, &gitea_compare, &url]).to_owned()))
}

fn pull_request(person: &str, payload: Payload<'_>) -> What {
    let [action, number, subject, merged, url] = payload.fields([
        "action",
        "number",
        "pull_request.title",
        "pull_request.merged",
        "pull_request.html_url",
    ])?;
    let action = match action.as_str() {
        "closed" if merged == "true" => "merged".to_owned(),
        "synchronize" | "synchronized" => "updated".to_owned(),
        action => words(action),
    };
    Ok((format!("{person} {action} pull request #{number}{}", title(&subject)), url))
}

fn issue(person: &str, event: &str, payload: Payload<'_>) -> What {
    let [action, number, subject, url, comment_url] = payload.fields([
        "action",
        "issue.number",
        "issue.title",
        "issue.html_url",
        "comment.html_url",
    ])?;
    let verb = match (event, action.as_str()) {
        ("issue_comment", "created") => "commented on".to_owned(),
        ("issue_comment", action) => format!("{} a comment on", words(action)),
        (_, action) => words(action),
    };
    let url = first([&comment_url, &url]).to_owned();
    Ok((format!("{person} {verb} #{number}{}", title(&subject)), url))
}

fn workflow(payload: Payload<'_>) -> What {
    let [name, number, branch, status, conclusion, url] = payload.fields([
        "workflow_run.name",
        "workflow_run.run_number",
        "workflow_run.head_branch",
        "workflow_run.status",
        "workflow_run.conclusion",
        "workflow_run.html_url",
    ])?;
    let outcome = words(first([&conclusion, &status, "unknown"]));
    let on = if branch.is_empty() { branch } else { format!(" on {branch}") };
    Ok((format!("workflow {name} #{number}{on}: {outcome}"), url))
}

fn check(event: &str, payload: Payload<'_>) -> What {
    let field = |name: &str| format!("{event}.{name}");
    let paths = ["name", "head_branch", "status", "conclusion", "html_url"].map(field);
    let [name, branch, status, conclusion, url] =
        payload.fields(paths.each_ref().map(String::as_str))?;
    let what = words(event);
    let subject = first([&name, &branch]);
    let outcome = words(first([&conclusion, &status, "unknown"]));
    Ok((format!("{what} {subject}: {outcome}"), url))
}

fn release(person: &str, payload: Payload<'_>) -> What {
    let [action, tag, name, url] =
        payload.fields(["action", "release.tag_name", "release.name", "release.html_url"])?;
    let name = if name == tag { String::new() } else { title(&name) };
    Ok((format!("{person} {} release {tag}{name}", words(&action)), url))
}
