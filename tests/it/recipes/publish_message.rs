use std::{env, error::Error};

async fn publish(stream: &str, text: String) -> Result<(), Box<dyn Error>> {
    let url = format!("{}/streams/{stream}", env::var("TIDINGS_URL")?);
    let token = env::var("TIDINGS_TOKEN").unwrap_or_default();
    let request = reqwest::Client::new().post(url).bearer_auth(token).body(text);
    request.send().await?.error_for_status()?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    publish("ci", "built in 42 s".into()).await
}
