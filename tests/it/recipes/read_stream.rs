use std::{env, error::Error, fs, time::Duration};

use eventsource_stream::Eventsource as _;
use futures::StreamExt as _;
use reqwest::{Client, StatusCode};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = format!("{}/streams/ci/events", env::var("TIDINGS_URL")?);
    let token = env::var("TIDINGS_TOKEN").unwrap_or_default();
    // The server sends something every 15 seconds.
    let client = Client::builder().read_timeout(Duration::from_secs(40)).build()?;
    let mut cursor = fs::read_to_string("ci.cursor").unwrap_or_default();
    let mut pause = Duration::from_secs(5);
    loop {
        let request = client.get(&url).bearer_auth(&token).header("last-event-id", &cursor);
        match request.send().await {
            Ok(response) if response.status() == StatusCode::NO_CONTENT => return Ok(()),
            Ok(response) if response.status().is_success() => {
                let mut events = response.bytes_stream().eventsource();
                while let Some(Ok(event)) = events.next().await {
                    pause = event.retry.unwrap_or(pause);
                    match event.event.as_str() {
                        "new_message" | "end_event" => {
                            println!("{}", event.data);
                            cursor = event.id;
                            fs::write("ci.cursor.new", &cursor)?;
                            fs::rename("ci.cursor.new", "ci.cursor")?;
                        }
                        "reset" => eprintln!("messages are missing: {}", event.data),
                        _ => {}
                    }
                    if event.event == "end_event" {
                        return Ok(());
                    }
                }
            }
            Ok(response) if response.status().is_server_error() || response.status() == 429 => {}
            Ok(response) => return Err(response.status().to_string().into()),
            Err(error) => eprintln!("{error}"),
        }
        tokio::time::sleep(pause).await;
    }
}
