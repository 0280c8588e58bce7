//! `tidings publish`: a message, lines, or the output of a command.

use std::{io, sync::Arc};

use super::{
    ExitError,
    child::Child,
    client::Client,
    config_file::Endpoint,
    input::{LineReader, read_message},
    options::PublishOptions,
    queue::Queue,
    retry::Retrying,
    signals::Signals,
    spool::Spool,
    status::{Status, grouped},
    upload::{Uploaded, upload},
};

/// The exit status when all lines are stored, but some are not as they were read.
const ALTERED: u8 = 4;

/// The message of a command that printed nothing.
const NO_OUTPUT: &str = "(no output)";

/// Publishes; returns the exit status.
///
/// # Errors
/// When not all of it is stored.
pub(super) async fn publish(options: PublishOptions, status: &Status) -> Result<u8, ExitError> {
    let PublishOptions { stream, text, lines, run, spool, spool_limit, server } = options;
    let client = Client::new(Endpoint::find(&server)?, &stream)?;
    let retrying = Retrying { client: &client, status, limit: server.retry_for };
    if spool.is_some() && !lines && run.is_none() {
        return Err(ExitError::Failed("--spool is for --lines and --run".to_owned()));
    }
    let queue = match spool {
        Some(path) => {
            Queue::in_file(Spool::open(&path, client.server(), &stream, spool_limit.as_u64())?)
        }
        None => Queue::in_memory(),
    };
    match run {
        Some(command) => run_command(&command, &retrying, queue).await,
        None if lines => publish_lines(&retrying, queue).await,
        None => {
            let text = text.map_or_else(|| read_message(status), Ok)?;
            retrying.message(text).await?;
            Ok(0)
        }
    }
}

async fn publish_lines(retrying: &Retrying<'_>, queue: Queue) -> Result<u8, ExitError> {
    let status = retrying.status;
    let queue = Arc::new(queue);
    if queue.waiting() > 0 {
        status.note(&format!("lines in the spool: {}", grouped(queue.waiting())));
    }
    let mut signals = listen()?;
    let started = LineReader::start(io::stdin(), |_| {}, Arc::clone(&queue));
    let mut reader = started.map_err(|error| ExitError::Failed(format!("no thread: {error}")))?;
    let mut uploaded = Uploaded::default();
    let mut signal = None;
    let result = {
        let mut uploading = std::pin::pin!(upload(retrying, &queue, &mut uploaded));
        loop {
            tokio::select! {
                result = &mut uploading => break result,
                next = signals.next() => {
                    if signal.replace(next).is_some() {
                        break Err(ExitError::GaveUp("stopped".to_owned()));
                    }
                    // What has been read is published.
                    reader.stop().await;
                }
            }
        }
    };
    report(status, uploaded, queue.waiting());
    result?;
    if queue.waiting() > 0 {
        return Err(ExitError::Failed("not all lines are acknowledged".to_owned()));
    }
    if let Some(signal) = signal {
        return Ok(signal.exit_code());
    }
    if let Ok(Err(error)) = reader.done.await {
        return Err(ExitError::Failed(format!("the standard input cannot be read: {error}")));
    }
    Ok(if uploaded.altered > 0 { ALTERED } else { 0 })
}

/// Says what the server has altered, and what is not acknowledged.
fn report(status: &Status, uploaded: Uploaded, waiting: u64) {
    status.clear();
    if uploaded.altered > 0 {
        status.note(&format!(
            "{} of {} lines are not as they were read: cut, because they were too long, or with \
             replacement characters, because they were not UTF-8",
            grouped(uploaded.altered),
            grouped(uploaded.taken)
        ));
    }
    if waiting > 0 {
        status.note(&format!(
            "lines acknowledged: {}; read, but not acknowledged: {}",
            grouped(uploaded.taken),
            grouped(waiting)
        ));
    }
}

fn listen() -> Result<Signals, ExitError> {
    Signals::listen()
        .map_err(|error| ExitError::Failed(format!("cannot listen for signals: {error}")))
}

/// Runs a command and publishes its output; returns the command's exit status. A failure to publish is
/// printed and does not change it: the command is what was asked for.
async fn run_command(
    command: &str,
    retrying: &Retrying<'_>,
    queue: Queue,
) -> Result<u8, ExitError> {
    let status = retrying.status;
    let queue = Arc::new(queue);
    let mut signals = listen()?;
    let started = Child::start(command, Arc::clone(&queue));
    let mut child = started
        .map_err(|error| ExitError::Failed(format!("the command cannot be run: {error}")))?;
    let mut uploaded = Uploaded::default();
    let mut result = None;
    let mut uploading = Box::pin(upload(retrying, &queue, &mut uploaded));
    // The command runs on when publishing has failed.
    let ended = {
        let mut ended = std::pin::pin!(child.wait(&mut signals, status));
        loop {
            tokio::select! {
                ended = &mut ended => break ended,
                failed = &mut uploading, if result.is_none() => {
                    if let Err(error) = &failed {
                        status.note(&format!("no longer published: {}", error.text().unwrap_or_default()));
                    }
                    queue.close();
                    result = Some(failed);
                }
            }
        }
    };
    queue.close();
    let finish = async {
        if result.is_none() {
            result = Some(uploading.as_mut().await);
            if let Some(Err(error)) = &result {
                status.note(error.text().unwrap_or_default());
            }
        }
        if matches!(result, Some(Ok(())))
            && let Err(error) = retrying.end(&ended.closing_text(), NO_OUTPUT).await
        {
            status.note(&format!("the stream is not ended: {}", error.text().unwrap_or_default()));
        }
    };
    let stopped = async {
        if !ended.is_stopped {
            signals.next().await;
        }
    };
    tokio::select! {
        biased;
        () = stopped => status.note("stopped before all was published"),
        () = finish => {}
    }
    drop(uploading);
    report(status, uploaded, queue.waiting());
    Ok(ended.exit_code())
}
