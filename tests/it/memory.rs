//! The memory budget: slow clients keep their memory until another client needs it.

use std::{convert::Infallible, time::Duration};

use futures::{StreamExt as _, channel::mpsc, stream};
use reqwest::{Body, Client, StatusCode};
use tokio::{task::JoinSet, time::sleep};

use crate::support::TestApp;

/// A small memory budget, half of which can be reserved; and a trusted proxy, so that the test can have
/// many client addresses.
const SMALL_BUDGET: [&str; 4] = ["--memory-budget", "8MiB", "--trusted-proxy", "127.0.0.1/32"];

/// An endless body: 4 KiB, and then one byte every 500 ms.
fn slow_body() -> Body {
    let bytes = stream::repeat("x".to_owned()).then(async |byte| {
        sleep(Duration::from_millis(500)).await;
        byte
    });
    let text = stream::iter(["x".repeat(4096)]).chain(bytes);
    Body::wrap_stream(text.map(Ok::<_, Infallible>))
}

fn post(client: &Client, url: &str, address: usize, body: Body) -> reqwest::RequestBuilder {
    client.post(url).header("x-forwarded-for", format!("192.0.2.{address}")).body(body)
}

#[tokio::test]
async fn slow_bodies_give_up_memory_that_another_request_waits_for() {
    let app =
        TestApp::start(&[&SMALL_BUDGET[..], &["--open", "--body-timeout", "1h"]].concat()).await;
    let mut slow_uploads = JoinSet::new();
    for n in 0..80 {
        // A single message, a long line, and lines with a key, which are stored as a whole.
        let path = ["/streams/a", "/streams/a?lines", "/streams/a?lines"][n % 3];
        let upload = post(&app.client, &format!("{}{path}", app.url), n, slow_body());
        let upload = if n % 3 == 2 { upload.header("idempotency-key", "key") } else { upload };
        slow_uploads.spawn(upload.send());
    }
    sleep(Duration::from_secs(3)).await;
    // An upload of lines requests memory again and again.
    let url = format!("{}/streams/b?lines", app.url);
    let upload = post(&app.client, &url, 200, "y".repeat(60_000).into()).send().await;
    assert_eq!(upload.expect("a response").status(), StatusCode::OK);
    // Others were refused, because the budget was full.
    loop {
        let response = slow_uploads.join_next().await.expect("a slow upload");
        match response.expect("no panic").expect("a response").status() {
            StatusCode::REQUEST_TIMEOUT => break,
            status => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

/// Programs write in blocks, and may pause in the middle of a line.
#[tokio::test]
async fn a_long_line_has_no_timeout_while_no_request_waits_for_memory() {
    let app = TestApp::start(&["--body-timeout", "1s"]).await;
    let (sender, body) = mpsc::unbounded::<Result<String, Infallible>>();
    let upload = app.client.post(format!("{}/streams/a?lines", app.url));
    let upload = tokio::spawn(upload.body(Body::wrap_stream(body)).send());
    sender.unbounded_send(Ok("x".repeat(4096))).expect("a reader");
    sleep(Duration::from_secs(3)).await;
    sender.unbounded_send(Ok("y\n".to_owned())).expect("a reader");
    drop(sender);
    assert_eq!(upload.await.expect("no panic").expect("a response").status(), StatusCode::OK);
    assert_eq!(app.log("a").await[0].1.len(), 4097);
}
