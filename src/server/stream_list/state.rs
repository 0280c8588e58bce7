//! The state of the list: the streams with their versions, by name, by activity and by version.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    message::{EventId, StreamName},
    server::{clock::timestamp, log::StreamInfo, sse::frame},
};

/// How many deletions are remembered. A reader that was disconnected for more of them gets all streams
/// again.
pub(super) const MAX_DELETIONS: usize = 1000;

/// What stands around the JSON of an entry, which is one line, in an event.
const DATA_FIELD: &str = "data: ";
const EVENT_END: &str = "\n\n";

/// A stream in the list.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) info: StreamInfo,
    pub(crate) watchers: usize,
    /// The entry as a JSON object, encoded as the data of an event, for all readers.
    data: Box<str>,
    version: u64,
}

/// The place of a stream in the order of activity.
pub(super) type ActivityKey = (Reverse<u64>, StreamName);

/// What happened at a version.
pub(super) enum Change<'state> {
    /// The stream became as this entry says.
    Stream(&'state Entry),
    /// The stream was deleted.
    Deleted(&'state StreamName),
}

/// The streams, each with the version at which it changed last.
#[derive(Debug, Default)]
pub(super) struct ListState {
    /// The newest version.
    version: u64,
    by_name: BTreeMap<StreamName, Arc<Entry>>,
    by_activity: BTreeMap<ActivityKey, Arc<Entry>>,
    /// The last change of each stream, and the last deletions.
    by_version: BTreeMap<u64, Versioned>,
    /// The versions of the deletions, oldest first.
    deletions: VecDeque<u64>,
    /// Deletions up to this version have been forgotten.
    forgotten: u64,
}

#[derive(Debug)]
enum Versioned {
    Stream(Arc<Entry>),
    Deleted(StreamName),
}

impl ListState {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Whether everything that has changed since a version is known.
    pub(super) fn knows(&self, version: u64) -> bool {
        (self.forgotten..=self.version).contains(&version)
    }

    /// The streams after one in the order of their names.
    pub(super) fn by_name(&self, after: Option<&StreamName>) -> impl Iterator<Item = &Arc<Entry>> {
        let from = after.map_or(Unbounded, Excluded);
        self.by_name.range::<StreamName, _>((from, Unbounded)).map(|(_, entry)| entry)
    }

    /// The streams, newest activity first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_activity.values()
    }

    /// The streams after a place in the order of activity, without those that have changed after a
    /// version.
    pub(super) fn newest_first_after(
        &self,
        place: Option<&ActivityKey>,
        version: u64,
    ) -> impl Iterator<Item = (&ActivityKey, &Entry)> {
        let from = place.map_or(Unbounded, Excluded);
        let streams = self.by_activity.range::<ActivityKey, _>((from, Unbounded));
        let streams = streams.map(|(place, entry)| (place, &**entry));
        streams.filter(move |(_, entry)| entry.version <= version)
    }

    /// What has changed after a version, oldest first; of several changes of a stream the last.
    pub(super) fn changes_after(&self, version: u64) -> impl Iterator<Item = (u64, Change<'_>)> {
        self.by_version.range((Excluded(version), Unbounded)).map(|(version, change)| {
            let change = match change {
                Versioned::Stream(entry) => Change::Stream(entry),
                Versioned::Deleted(name) => Change::Deleted(name),
            };
            (*version, change)
        })
    }

    /// Sets all streams, given newest activity first, and their watchers.
    pub(super) fn set_streams(
        &mut self,
        streams: Vec<StreamInfo>,
        watchers: &HashMap<StreamName, usize>,
    ) {
        let kept = streams.iter().filter(|info| self.by_name.contains_key(&info.name)).count();
        if kept < self.by_name.len() {
            let names: HashSet<_> = streams.iter().map(|info| &info.name).collect();
            let deleted = self.by_name.keys().filter(|name| !names.contains(name));
            for name in deleted.cloned().collect::<Vec<_>>() {
                self.delete(name);
            }
        }
        // The stream with the newest activity gets the greatest version.
        for info in streams.into_iter().rev() {
            let watchers = watchers.get(&info.name).copied().unwrap_or_default();
            let old = self.by_name.get(&info.name);
            if old.is_none_or(|old| old.info != info || old.watchers != watchers) {
                self.set(info, watchers);
            }
        }
    }

    /// Sets the watchers of all streams.
    pub(super) fn set_watchers(&mut self, watchers: &HashMap<StreamName, usize>) {
        let now = |entry: &Entry| watchers.get(&entry.info.name).copied().unwrap_or_default();
        let streams = self.by_name.values().filter(|entry| entry.watchers != now(entry));
        for entry in streams.cloned().collect::<Vec<_>>() {
            self.set(entry.info.clone(), now(&entry));
        }
    }

    fn set(&mut self, info: StreamInfo, watchers: usize) {
        if let Some(old) = self.by_name.get(&info.name) {
            self.by_version.remove(&old.version);
            self.by_activity.remove(&old.place());
        }
        self.version += 1;
        let entry = Arc::new(Entry::new(info, watchers, self.version));
        self.by_version.insert(self.version, Versioned::Stream(Arc::clone(&entry)));
        self.by_activity.insert(entry.place(), Arc::clone(&entry));
        self.by_name.insert(entry.info.name.clone(), entry);
    }

    fn delete(&mut self, name: StreamName) {
        if let Some(old) = self.by_name.remove(&name) {
            self.by_version.remove(&old.version);
            self.by_activity.remove(&old.place());
        }
        self.version += 1;
        self.by_version.insert(self.version, Versioned::Deleted(name));
        self.deletions.push_back(self.version);
        if self.deletions.len() > MAX_DELETIONS
            && let Some(oldest) = self.deletions.pop_front()
        {
            self.by_version.remove(&oldest);
            self.forgotten = oldest;
        }
    }
}

impl Entry {
    fn new(info: StreamInfo, watchers: usize, version: u64) -> Self {
        let StreamInfo { name, messages, ended, last } = &info;
        let last = last.as_ref().map(|last| LastMessage {
            id: last.id,
            at: timestamp(last.id.millis),
            data: &last.data,
        });
        let state = if *ended { "ended" } else { "open" };
        let json = EntryJson { name, state, messages: *messages, watchers, last };
        // Strings and numbers always serialize.
        let json = serde_json::to_string(&json).unwrap_or_default();
        let mut data = String::with_capacity(json.len() + DATA_FIELD.len() + EVENT_END.len());
        frame::encode_data(&mut data, &json);
        Self { info, watchers, data: data.into(), version }
    }

    /// The entry as the data of an event.
    pub(super) fn encoded_data(&self) -> &str {
        &self.data
    }

    /// The entry as a JSON object.
    pub(crate) fn json(&self) -> &str {
        let data = self.data.strip_prefix(DATA_FIELD).unwrap_or_default();
        data.strip_suffix(EVENT_END).unwrap_or_default()
    }

    fn place(&self) -> ActivityKey {
        let millis = self.info.last.as_ref().map_or(0, |last| last.id.millis);
        (Reverse(millis), self.info.name.clone())
    }
}

/// An entry as JSON.
#[derive(Serialize, ToSchema)]
#[schema(as = Stream)]
pub(crate) struct EntryJson<'info> {
    /// Its name.
    #[schema(value_type = StreamName)]
    name: &'info StreamName,
    /// `open` or `ended`.
    state: &'static str,
    /// How many messages it has, without the end.
    messages: u64,
    /// How many watch it.
    watchers: usize,
    /// The newest message, or the end. Its text is cut after 200 characters.
    #[schema(required)]
    last: Option<LastMessage<'info>>,
}

#[derive(Serialize, ToSchema)]
struct LastMessage<'info> {
    /// Its id.
    id: EventId,
    /// When it was accepted.
    #[schema(format = DateTime)]
    at: String,
    /// Its text.
    data: &'info str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn stream(name: &str, millis: u64) -> StreamInfo {
        let id = EventId { millis, seq: millis };
        let last = Some(Message { id, data: format!("at {millis}") });
        StreamInfo { name: name.parse().expect("a name"), messages: millis, ended: false, last }
    }

    fn set(state: &mut ListState, streams: &[(&str, u64)]) {
        let streams = streams.iter().map(|(name, millis)| stream(name, *millis)).collect();
        state.set_streams(streams, &HashMap::new());
    }

    /// The changes after a version: "a" is a stream, "-a" a deletion.
    fn changes(state: &ListState, version: u64) -> Vec<String> {
        let changes = state.changes_after(version).map(|(_, change)| match change {
            Change::Stream(entry) => entry.info.name.to_string(),
            Change::Deleted(name) => format!("-{name}"),
        });
        changes.collect()
    }

    fn names<'a>(entries: impl Iterator<Item = &'a Arc<Entry>>) -> Vec<&'a str> {
        entries.map(|entry| entry.info.name.as_str()).collect()
    }

    #[test]
    fn only_what_has_changed_gets_a_version() {
        let mut state = ListState::default();
        set(&mut state, &[("b", 3), ("a", 2), ("c", 1)]);
        assert_eq!(changes(&state, 0), ["c", "a", "b"]);
        assert_eq!(names(state.newest_first()), ["b", "a", "c"]);
        assert_eq!(names(state.by_name(Some(&"a".parse().expect("a name")))), ["b", "c"]);
        let before = state.version();
        set(&mut state, &[("b", 3), ("a", 2), ("c", 1)]);
        assert_eq!(state.version(), before);
        set(&mut state, &[("c", 4), ("b", 3)]);
        assert_eq!(changes(&state, before), ["-a", "c"]);
        assert_eq!(changes(&state, 0), ["b", "-a", "c"]);
        assert_eq!(names(state.newest_first()), ["c", "b"]);
        let before = state.version();
        state.set_watchers(&HashMap::from([("b".parse().expect("a name"), 2)]));
        assert_eq!(changes(&state, before), ["b"]);
        assert_eq!(state.by_name(None).next().map(|entry| entry.watchers), Some(2));
    }

    #[test]
    fn deletions_are_forgotten() {
        let mut state = ListState::default();
        set(&mut state, &[("a", 1)]);
        let known = state.version();
        for n in 0..MAX_DELETIONS as u64 {
            set(&mut state, &[("a", 1), ("b", n)]);
            set(&mut state, &[("a", 1)]);
        }
        assert!(state.knows(known));
        assert_eq!(changes(&state, known).len(), MAX_DELETIONS);
        set(&mut state, &[]);
        assert!(!state.knows(known));
        assert!(state.knows(state.version()) && !state.knows(state.version() + 1));
        assert_eq!(state.by_version.len(), MAX_DELETIONS);
    }

    #[test]
    fn an_entry_is_json() {
        let mut state = ListState::default();
        let ended = StreamInfo { ended: true, last: None, ..stream("b", 0) };
        state.set_streams(vec![stream("a", 1_763_891_234_567), ended], &HashMap::new());
        let json: Vec<_> = state.by_name(None).map(|entry| entry.json()).collect();
        let expected = [
            r#"{"name":"a","state":"open","messages":1763891234567,"watchers":0,"#,
            r#""last":{"id":"1763891234567-1763891234567","at":"2025-11-23T09:47:14.567Z","#,
            r#""data":"at 1763891234567"}}"#,
        ];
        let other = r#"{"name":"b","state":"ended","messages":0,"watchers":0,"last":null}"#;
        assert_eq!(json, [&expected.concat(), other]);
    }
}
