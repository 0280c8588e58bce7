//! Feeds of a stream, read by a parser of feeds.

use feed_rs::model::{Feed, FeedType};
use reqwest::{StatusCode, header};

use crate::support::TestApp;

const FORMATS: [(&str, &str, FeedType); 2] = [
    ("feed.atom", "application/atom+xml", FeedType::Atom),
    ("feed.json", "application/feed+json", FeedType::JSON),
];

async fn read(app: &TestApp, path: &str) -> Feed {
    let response = app.get(path).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    let body = response.bytes().await.expect("a body");
    feed_rs::parser::parse(&*body).expect("a valid feed")
}

#[tokio::test]
async fn the_newest_messages_are_in_the_feed_with_permanent_links() {
    let app = TestApp::start(&[]).await;
    let odd = "<b>&\u{0}\u{1b}[31m\u{7} ]]> \u{fffe}é 😀\nsecond line";
    let id = app.publish("ci", odd).await;
    for n in 1..=100 {
        app.publish("ci", &format!("message {n}")).await;
    }
    for (file, content_type, kind) in FORMATS {
        let path = format!("/streams/ci/{file}");
        let response = app.get(&path).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], content_type);
        let feed = read(&app, &path).await;
        assert_eq!(feed.feed_type, kind);
        assert_eq!(feed.title.expect("a title").content, "ci");
        assert_eq!(feed.entries.len(), 100, "{file}");
        let title =
            |entry: usize| feed.entries[entry].title.as_ref().expect("a title").content.clone();
        assert_eq!((title(0), title(99)), ("message 100".to_owned(), "message 1".to_owned()));
        let links = &feed.entries[0].links;
        let page = app.get(links[0].href.strip_prefix(&app.url).expect("an address here")).await;
        assert!(page.text().await.expect("a page").contains("message 100"));
    }
    app.delete("ci").await;
    app.publish("ci", odd).await;
    app.end("ci").await;
    for (file, ..) in FORMATS {
        let feed = read(&app, &format!("/streams/ci/{file}")).await;
        let [end, message] = &feed.entries[..] else { panic!("two entries") };
        assert_eq!(end.title.as_ref().expect("a title").content, "End of the stream");
        assert_eq!(message.title.as_ref().expect("a title").content, "<b>& ]]> é 😀");
        assert!(!message.id.contains(&id), "another generation has other ids");
    }
}

#[tokio::test]
async fn a_reader_that_has_the_feed_is_not_sent_it_again() {
    let app = TestApp::start(&[]).await;
    app.publish("ci", "one").await;
    for (file, ..) in FORMATS {
        let path = format!("/streams/ci/{file}");
        let tag = app.get(&path).await.headers()[header::ETAG].to_str().expect("text").to_owned();
        let known = app.get_with(&path, &[("if-none-match", &tag)]).await;
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(known.headers()[header::ETAG], *tag);
        app.publish("ci", file).await;
        let changed = app.get_with(&path, &[("if-none-match", &tag)]).await;
        assert_eq!(changed.status(), StatusCode::OK);
        assert_ne!(changed.headers()[header::ETAG], *tag);
    }
}

#[tokio::test]
async fn a_stream_without_messages_has_no_feed() {
    let app = TestApp::start(&[]).await;
    for (file, ..) in FORMATS {
        let response = app.get(&format!("/streams/none/{file}")).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_feed_has_the_rights_of_its_stream_and_no_parameters() {
    let app = TestApp::start(&["--secret", "a secret of a length that is enough"]).await;
    for (file, ..) in FORMATS {
        let refused = app.get(&format!("/streams/ci/{file}")).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    }
    let app = TestApp::start(&[]).await;
    for (file, ..) in FORMATS {
        let refused = app.get(&format!("/streams/ci/{file}?limit=3")).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        let malformed = app.get(&format!("/streams/NO/{file}")).await;
        assert_eq!(malformed.status(), StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn the_page_names_its_feeds_below_a_base_path_too() {
    let app = TestApp::start(&["--base-path", "/a"]).await;
    app.post("/a/streams/ci", "one").await;
    let page = app.get("/a/streams/ci").await.text().await.expect("a page");
    assert!(
        page.contains(r#"type="application/atom+xml" title="Atom" href="/a/streams/ci/feed.atom""#)
    );
    for (file, ..) in FORMATS {
        let feed = read(&app, &format!("/a/streams/ci/{file}")).await;
        let page = format!("{}/a/streams/ci", app.url);
        assert!(feed.entries[0].links[0].href.starts_with(&format!("{page}?at=")));
        assert!(feed.links.iter().any(|link| link.href == page));
    }
}
