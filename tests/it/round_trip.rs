//! Round trip of message texts (invariant 4 of the design): readers get exactly the text that was
//! published; from an event stream, with line ends as LF.

use serde_json::Value;

use crate::support::{
    TestApp, all_events, seeded_rng,
    text::{random_text, with_lf_line_ends},
};

/// Publishes the texts and compares them with JSON, NDJSON and the event stream.
async fn assert_round_trip(texts: &[String]) {
    let app = TestApp::start(&["--keep-bytes", "1GiB"]).await;
    for text in texts {
        app.publish("news", text).await;
    }
    // The closing text is returned too.
    let last = texts.last().expect("a text");
    assert_eq!(app.post("/streams/news/end", last.clone()).await.status(), 200);

    let read = app.log("news").await;
    assert!(read.iter().map(|(_, text)| text).eq(texts), "JSON");

    let lines = app.get_with("/streams/news/messages?limit=1000", &[NDJSON]).await;
    let lines = lines.text().await.expect("text");
    let data = |line: &str| {
        let message: Value = serde_json::from_str(line).expect("JSON");
        message["data"].as_str().expect("text").to_owned()
    };
    // Only LF ends a line of NDJSON.
    let read: Vec<_> = lines.split_terminator('\n').map(data).collect();
    assert!(read == texts[..read.len()] && !read.is_empty(), "NDJSON");

    let events = all_events(app.get("/streams/news/events").await).await;
    assert_eq!(events.len(), texts.len() + 1);
    for (event, text) in events.iter().zip(texts.iter().chain([last])) {
        assert_eq!(event.data, with_lf_line_ends(text), "{text:?}");
    }
    assert_eq!(events.last().expect("the end").event, "end_event");
}

const NDJSON: (&str, &str) = ("accept", "application/x-ndjson");

#[tokio::test]
async fn texts_with_control_characters_and_markup_are_returned_unchanged() {
    let texts = [
        "\0",
        "a\0b",
        "\n",
        "\r",
        "\r\n",
        "\n\r",
        "\n\n\n",
        "one\rtwo\ntwo\r\nthree",
        " leading and trailing ",
        ": no comment",
        "data: no field",
        "id: 1-1\n\nevent: end_event\ndata: no end\n\n",
        "retry: 1",
        "\u{feff}",
        "\u{feff}a byte order mark",
        "a\u{feff}",
        "\u{2028}\u{2029}\u{85}\u{b}\u{c}",
        "\u{202e}backwards\u{202c} \u{2066}isolated\u{2069} \u{5e9}\u{5dc}\u{5d5}\u{5dd}",
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} e\u{301}",
        "\u{ffff}\u{fffe}\u{fffd}\u{10ffff}",
        "<script>alert(1)</script><!-- & \"quotes\" ' \\ \\u0000 %00",
        "{\"data\":\"no message\"}\n{}",
        "\u{1}\u{7f}\u{9b}31m\u{1b}[31m",
    ];
    assert_round_trip(&texts.map(str::to_owned)).await;
}

#[tokio::test]
async fn the_largest_messages_are_returned_unchanged() {
    const MAX_BYTES: usize = 64 * 1024;
    let texts = ["x", "\n", "\r", "\0", "\""].map(|part| part.repeat(MAX_BYTES));
    let wide = "\u{1f642}".repeat(MAX_BYTES / 4);
    assert_round_trip(&[&texts[..], &[wide]].concat()).await;
}

#[tokio::test]
async fn random_texts_are_returned_unchanged() {
    let mut rng = seeded_rng();
    let texts: Vec<_> = (0..1_000).map(|_| random_text(&mut rng)).collect();
    assert_round_trip(&texts).await;
}
