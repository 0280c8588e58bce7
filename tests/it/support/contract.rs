//! The description of the HTTP interface (`/openapi.json`), to compare responses with.

use std::collections::HashMap;

use eventsource_stream::Event;
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

use super::TestApp;

/// Headers that every response may have.
const GENERAL: [&str; 16] = [
    "allow",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-resource-policy",
    "date",
    "permissions-policy",
    "referrer-policy",
    "strict-transport-security",
    "transfer-encoding",
    "vary",
    "x-content-type-options",
    "x-frame-options",
];

/// The description of a server.
pub(crate) struct Contract(pub(crate) Value);

/// A response of the server.
pub(crate) struct Answer {
    pub(crate) method: Method,
    /// The path of the request, which may have a query.
    pub(crate) path: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Contract {
    pub(crate) async fn of(app: &TestApp) -> Self {
        Self(app.get("/openapi.json").await.json().await.expect("JSON"))
    }

    /// The paths, each with its methods in upper case.
    pub(crate) fn paths(&self) -> HashMap<&str, Vec<String>> {
        let paths = self.0["paths"].as_object().expect("paths");
        let methods = |item: &Value| {
            let item = item.as_object().expect("operations");
            item.keys().map(|method| method.to_ascii_uppercase()).collect()
        };
        paths.iter().map(|(path, item)| (path.as_str(), methods(item))).collect()
    }

    /// The template of a path, if it is described: the one with the fewest parameters.
    fn template(&self, path: &str) -> Option<&str> {
        let fits = |template: &&str| {
            let segments = template.split('/').zip(path.split('/'));
            template.split('/').count() == path.split('/').count()
                && segments.into_iter().all(|(expected, segment)| {
                    expected == segment || expected.starts_with('{') && !segment.is_empty()
                })
        };
        let found = self.paths().into_keys().filter(fits);
        found.min_by_key(|template| template.matches('{').count())
    }

    /// Checks that a response is described: its status, its content type, its headers, and its body if that is
    /// JSON. Returns the id of the operation; `None` for a path or a method that does not exist, whose
    /// response must say so.
    pub(crate) fn check(&self, answer: &Answer) -> Option<&str> {
        let Answer { method, path, status, headers, body } = answer;
        let what = || format!("{method} {path}: {status}\n{}", String::from_utf8_lossy(body));
        let path = path.split('?').next().unwrap_or_default();
        // A trailing slash is not another address.
        let path = if path == "/" { path } else { path.trim_end_matches('/') };
        let name =
            if method == Method::HEAD { "get" } else { &method.as_str().to_ascii_lowercase() };
        let operation = self.template(path).and_then(|path| self.0["paths"][path].get(name));
        if *status == StatusCode::METHOD_NOT_ALLOWED {
            assert!(headers.contains_key("allow"), "{}", what());
            return None;
        }
        let Some(operation) = operation else {
            assert!([400, 404].contains(&status.as_u16()), "not described: {}", what());
            return None;
        };
        let Some(response) = operation["responses"].get(status.as_str()) else {
            panic!("this status is not described: {}", what());
        };
        for header in headers.keys().filter(|header| !GENERAL.contains(&header.as_str())) {
            let described = response["headers"].as_object().expect("headers");
            let mut described = described.keys();
            let found = described.any(|name| name.eq_ignore_ascii_case(header.as_str()));
            assert!(found, "the header {header} is not described: {}", what());
        }
        let content_type = headers.get("content-type").map(|value| value.to_str().expect("text"));
        let media_type = content_type.and_then(|value| value.split(';').next());
        match (media_type, response["content"].as_object()) {
            (None, None) => {}
            (Some(media_type), Some(content)) => {
                let found = content.get(media_type).or(content.get("*/*"));
                let content =
                    found.unwrap_or_else(|| panic!("{media_type} is not described: {}", what()));
                if method != Method::HEAD && media_type.ends_with("json") {
                    for value in serde_json::Deserializer::from_slice(body).into_iter() {
                        let value = value.unwrap_or_else(|error| panic!("{error}: {}", what()));
                        self.validate(&content["schema"], &value)
                            .unwrap_or_else(|error| panic!("{error}: {}", what()));
                    }
                }
            }
            (media_type, content) => panic!("{media_type:?}, but {content:?}: {}", what()),
        }
        operation["operationId"].as_str()
    }

    /// Checks an event of the event stream at a path.
    pub(crate) fn check_event(&self, path: &str, event: &Event) {
        let path = self.template(path.split('?').next().unwrap_or_default()).expect("a path");
        let responses = &self.0["paths"][path]["get"]["responses"];
        let schema = &responses["200"]["content"]["text/event-stream"]["schema"];
        let retry = event.retry.map(|pause| pause.as_millis());
        let mut value = json!({ "event": event.event, "data": event.data, "id": event.id });
        value
            .as_object_mut()
            .expect("an object")
            .extend(retry.map(|pause| ("retry".to_owned(), json!(pause))));
        self.validate(schema, &value).unwrap_or_else(|error| panic!("{error}: {value} of {path}"));
    }

    /// Validates a value with a schema of the document.
    pub(crate) fn validate(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let root = json!({ "components": { "schemas": self.0["components"]["schemas"] }, "allOf": [schema] });
        let validator =
            jsonschema::draft202012::options().should_validate_formats(true).build(&root);
        let validator = validator.expect("a valid schema");
        validator.validate(value).map_err(|error| format!("{error} at {}", error.instance_path()))
    }
}
