//! What a reader has been given, compared with what the log holds in truth.

use crate::{
    message::{EventId, StreamName},
    server::log::faulty::{Faulty, Past},
};

/// One reader, and how far it has come.
#[derive(Debug)]
pub(super) struct Witness {
    engine: Faulty,
    stream: StreamName,
    place: Place,
    /// What a reset said that the next message is.
    oldest: Option<EventId>,
    /// The cursor that it came back with, until something is heard.
    resumed: bool,
}

/// What has to come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The oldest message that is kept.
    Earliest,
    /// The cursor where it begins, wherever that is.
    Latest,
    /// The first message of a generation: there was no stream.
    Nowhere,
    /// What follows this message of this generation.
    After { generation: usize, message: usize },
}

/// What a reader was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Message { id: EventId, text: String },
    End { id: EventId, text: String },
    Cursor(EventId),
    Reset { reason: String, oldest: Option<EventId> },
}

impl Witness {
    pub(super) fn new(engine: Faulty, stream: StreamName) -> Self {
        Self { engine, stream, place: Place::Earliest, oldest: None, resumed: false }
    }

    /// It comes without a cursor.
    pub(super) fn comes(&mut self, latest: bool) {
        (self.resumed, self.oldest) = (false, None);
        self.place = if latest { Place::Latest } else { Place::Earliest };
    }

    /// It comes back with its cursor.
    pub(super) fn comes_back(&mut self) {
        (self.resumed, self.oldest) = (true, None);
    }

    /// Whether that may be told it.
    pub(super) fn hears(&mut self, told: &Told) -> Result<(), String> {
        let engine = self.engine.clone();
        let stream = self.stream.clone();
        engine
            .with_past(&stream, |past| self.judge(told, past))
            .map_err(|why| format!("{why}: {told:?} to a reader at {:?}", self.place))
    }

    fn judge(&mut self, told: &Told, past: &[Past]) -> Result<(), &'static str> {
        match told {
            Told::Message { id, text } | Told::End { id, text } => {
                let (generation, message) = find(past, *id).ok_or("an id that was never given")?;
                let of = &past[generation];
                if of.messages[message].data != *text {
                    return Err("another text");
                }
                let is_end = of.ended && message == of.messages.len() - 1;
                if is_end != matches!(told, Told::End { .. }) {
                    return Err("an end that is none, or none that is one");
                }
                if self.oldest.take().is_some_and(|oldest| oldest != *id) {
                    return Err("not the oldest, as the reset said");
                }
                let follows = match self.place {
                    Place::Earliest => message <= of.trimmed,
                    Place::Nowhere => message == 0,
                    // Where the stream has ended there is nothing else to be told.
                    Place::Latest => is_end,
                    Place::After { generation: of_last, message: last } => {
                        generation == of_last && message == last + 1
                    }
                };
                if !follows {
                    return Err("not what follows");
                }
                self.place = Place::After { generation, message };
            }
            Told::Cursor(EventId::BEGINNING) => match self.place {
                Place::After { .. } => return Err("the cursor goes back"),
                _ => self.place = Place::Nowhere,
            },
            Told::Cursor(id) => {
                let (generation, message) =
                    find(past, *id).ok_or("a cursor that was never given")?;
                let here = Place::After { generation, message };
                if self.place != Place::Latest && self.place != here {
                    return Err("a cursor that it is not at");
                }
                self.place = here;
            }
            Told::Reset { reason, oldest } => {
                if !self.is_so(reason, past) {
                    return Err("not so");
                }
                (self.place, self.oldest) = (Place::Earliest, *oldest);
            }
        }
        self.resumed = false;
        Ok(())
    }

    /// Whether a reset has its reason. What is true of a reason once is true for ever.
    fn is_so(&self, reason: &str, past: &[Past]) -> bool {
        match (reason, self.place) {
            ("trimmed", Place::After { generation, message }) => {
                past[generation].trimmed > message + 1
            }
            ("trimmed", _) => past.iter().any(|of| of.trimmed > 0),
            ("deleted", Place::After { generation, .. }) => past[generation].deleted,
            ("deleted", _) => past.iter().any(|of| of.deleted),
            ("unknown-cursor", Place::After { generation, message }) => {
                let of = &past[generation];
                self.resumed && (of.deleted || of.trimmed > message + 1)
            }
            _ => false,
        }
    }

    /// Whether the end was the last thing that it was told.
    pub(super) fn has_the_end(&self) -> Result<(), String> {
        let has = |past: &[Past]| match self.place {
            Place::After { generation, message } => {
                past[generation].ended && message == past[generation].messages.len() - 1
            }
            _ => false,
        };
        if self.engine.with_past(&self.stream, has) {
            return Ok(());
        }
        Err(format!("a reader at {:?} is told that it has everything", self.place))
    }

    /// Whether it has all there is.
    pub(super) fn is_complete(&self) -> Result<(), String> {
        let complete = |past: &[Past]| match (past.last(), self.place) {
            (Some(of), Place::After { generation, message }) => {
                !of.deleted && generation == past.len() - 1 && message == of.messages.len() - 1
            }
            (Some(of), _) => of.deleted,
            (None, _) => true,
        };
        if self.engine.with_past(&self.stream, complete) {
            return Ok(());
        }
        let heads = |past: &[Past]| {
            past.iter().map(|of| (of.messages.len(), of.deleted)).collect::<Vec<_>>()
        };
        let heads = self.engine.with_past(&self.stream, heads);
        Err(format!("a reader stays at {:?} of {heads:?}", self.place))
    }
}

fn find(past: &[Past], id: EventId) -> Option<(usize, usize)> {
    past.iter().enumerate().rev().find_map(|(generation, of)| {
        let message = of.messages.iter().position(|message| message.id == id)?;
        Some((generation, message))
    })
}
