//! The memory budget: clients that are slow are in no other client's way, unless they hold what it needs.

use std::{convert::Infallible, time::Duration};

use futures::{StreamExt as _, channel::mpsc, stream};
use reqwest::{Body, Client, StatusCode};
use tokio::{task::JoinSet, time::sleep};

use crate::support::TestApp;

/// A server with hardly any memory, behind a proxy, so that one machine has many addresses. Half of it
/// can be reserved.
const SMALL: [&str; 4] = ["--memory-budget", "8MiB", "--trusted-proxy", "127.0.0.1/32"];

/// Text that comes byte by byte, after a beginning, for as long as it is read.
fn dripping() -> Body {
    let drops = stream::repeat("x".to_owned()).then(async |drop| {
        sleep(Duration::from_millis(500)).await;
        drop
    });
    let text = stream::iter(["x".repeat(4096)]).chain(drops);
    Body::wrap_stream(text.map(Ok::<_, Infallible>))
}

fn post(client: &Client, url: &str, address: usize, body: Body) -> reqwest::RequestBuilder {
    client.post(url).header("x-forwarded-for", format!("192.0.2.{address}")).body(body)
}

#[tokio::test]
async fn bodies_that_drip_make_way() {
    let app = TestApp::start(&[&SMALL[..], &["--open", "--body-timeout", "1h"]].concat()).await;
    let mut dripping_bodies = JoinSet::new();
    for n in 0..80 {
        // A body, a long line, and lines that are stored as a whole.
        let path = ["/streams/a", "/streams/a?lines", "/streams/a?lines"][n % 3];
        let upload = post(&app.client, &format!("{}{path}", app.url), n, dripping());
        let upload = if n % 3 == 2 { upload.header("idempotency-key", "key") } else { upload };
        dripping_bodies.spawn(upload.send());
    }
    sleep(Duration::from_secs(3)).await;
    // An upload of lines asks again and again.
    let url = format!("{}/streams/b?lines", app.url);
    let upload = post(&app.client, &url, 200, "y".repeat(60_000).into()).send().await;
    assert_eq!(upload.expect("an answer").status(), StatusCode::OK);
    // Others did not fit.
    loop {
        let answer = dripping_bodies.join_next().await.expect("one that was slow");
        match answer.expect("no panic").expect("an answer").status() {
            StatusCode::REQUEST_TIMEOUT => break,
            status => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

/// Programs write in blocks, and may be silent in the middle of a line.
#[tokio::test]
async fn a_long_line_takes_as_long_as_it_likes_while_nothing_waits() {
    let app = TestApp::start(&["--body-timeout", "1s"]).await;
    let (sender, body) = mpsc::unbounded::<Result<String, Infallible>>();
    let upload = app.client.post(format!("{}/streams/a?lines", app.url));
    let upload = tokio::spawn(upload.body(Body::wrap_stream(body)).send());
    sender.unbounded_send(Ok("x".repeat(4096))).expect("a reader");
    sleep(Duration::from_secs(3)).await;
    sender.unbounded_send(Ok("y\n".to_owned())).expect("a reader");
    drop(sender);
    assert_eq!(upload.await.expect("no panic").expect("an answer").status(), StatusCode::OK);
    assert_eq!(app.log("a").await[0].1.len(), 4097);
}
