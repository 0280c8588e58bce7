//! Test oracle: checks every event of a reader against the model of the log.

use crate::{
    message::{EventId, StreamName},
    server::log::faulty::{Faulty, ModelGeneration},
};

/// The oracle of one reader.
#[derive(Debug)]
pub(super) struct Oracle {
    engine: Faulty,
    stream: StreamName,
    expected: Expected,
    /// The id of the next message, as the last reset announced it.
    oldest: Option<EventId>,
    /// Whether it has reconnected with a cursor, and received nothing since.
    resumed: bool,
}

/// What must come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// The oldest message that is kept.
    Earliest,
    /// A cursor, at any message.
    Latest,
    /// The first message of a generation: there was no stream.
    FirstOfGeneration,
    /// What follows this message of this generation, both by index.
    After { generation: usize, message: usize },
}

/// An event that a reader received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Received {
    Message { id: EventId, text: String },
    End { id: EventId, text: String },
    Cursor(EventId),
    Reset { reason: String, oldest: Option<EventId> },
}

impl Oracle {
    pub(super) fn new(engine: Faulty, stream: StreamName) -> Self {
        Self { engine, stream, expected: Expected::Earliest, oldest: None, resumed: false }
    }

    /// The reader connects without a cursor.
    pub(super) fn connect(&mut self, latest: bool) {
        (self.resumed, self.oldest) = (false, None);
        self.expected = if latest { Expected::Latest } else { Expected::Earliest };
    }

    /// The reader reconnects with its cursor.
    pub(super) fn reconnect(&mut self) {
        (self.resumed, self.oldest) = (true, None);
    }

    /// Checks an event, and moves to what must come next.
    pub(super) fn observe(&mut self, received: &Received) -> Result<(), String> {
        let engine = self.engine.clone();
        let stream = self.stream.clone();
        engine
            .with_generations(&stream, |generations| self.check_event(received, generations))
            .map_err(|error| format!("{error}: {received:?} to a reader at {:?}", self.expected))
    }

    fn check_event(
        &mut self,
        received: &Received,
        generations: &[ModelGeneration],
    ) -> Result<(), &'static str> {
        match received {
            Received::Message { id, text } | Received::End { id, text } => {
                let (generation, message) =
                    find_message(generations, *id).ok_or("an id that was never assigned")?;
                let record = &generations[generation];
                if record.messages[message].data != *text {
                    return Err("another text");
                }
                let is_end = record.ended && message == record.messages.len() - 1;
                if is_end != matches!(received, Received::End { .. }) {
                    return Err("an end for a message, or a message for an end");
                }
                if self.oldest.take().is_some_and(|oldest| oldest != *id) {
                    return Err("not the oldest message that the reset announced");
                }
                let follows = match self.expected {
                    Expected::Earliest => message <= record.trimmed,
                    Expected::FirstOfGeneration => message == 0,
                    // A stream that has ended sends its end.
                    Expected::Latest => is_end,
                    Expected::After { generation: last_generation, message: last } => {
                        generation == last_generation && message == last + 1
                    }
                };
                if !follows {
                    return Err("not what follows");
                }
                self.expected = Expected::After { generation, message };
            }
            Received::Cursor(EventId::BEGINNING) => match self.expected {
                Expected::After { .. } => return Err("the cursor goes back"),
                _ => self.expected = Expected::FirstOfGeneration,
            },
            Received::Cursor(id) => {
                let (generation, message) =
                    find_message(generations, *id).ok_or("a cursor that was never assigned")?;
                let current = Expected::After { generation, message };
                if self.expected != Expected::Latest && self.expected != current {
                    return Err("a cursor that is not the reader's position");
                }
                self.expected = current;
            }
            Received::Reset { reason, oldest } => {
                if !self.is_reset_justified(reason, generations) {
                    return Err("the reset is not justified");
                }
                (self.expected, self.oldest) = (Expected::Earliest, *oldest);
            }
        }
        self.resumed = false;
        Ok(())
    }

    /// Whether the reason of a reset is true. A reason that was true once stays true.
    fn is_reset_justified(&self, reason: &str, generations: &[ModelGeneration]) -> bool {
        match (reason, self.expected) {
            ("trimmed", Expected::After { generation, message }) => {
                generations[generation].trimmed > message + 1
            }
            ("trimmed", _) => generations.iter().any(|record| record.trimmed > 0),
            ("deleted", Expected::After { generation, .. }) => generations[generation].deleted,
            ("deleted", _) => generations.iter().any(|record| record.deleted),
            ("unknown-cursor", Expected::After { generation, message }) => {
                let record = &generations[generation];
                self.resumed && (record.deleted || record.trimmed > message + 1)
            }
            _ => false,
        }
    }

    /// Checks that the last event was the end.
    pub(super) fn check_ended(&self) -> Result<(), String> {
        let has_end = |generations: &[ModelGeneration]| match self.expected {
            Expected::After { generation, message } => {
                generations[generation].ended
                    && message == generations[generation].messages.len() - 1
            }
            _ => false,
        };
        if self.engine.with_generations(&self.stream, has_end) {
            return Ok(());
        }
        Err(format!("a reader at {:?} gets no events, as if it had the end", self.expected))
    }

    /// Checks that the reader has all messages.
    pub(super) fn check_complete(&self) -> Result<(), String> {
        let complete = |generations: &[ModelGeneration]| match (generations.last(), self.expected) {
            (Some(record), Expected::After { generation, message }) => {
                !record.deleted
                    && generation == generations.len() - 1
                    && message == record.messages.len() - 1
            }
            (Some(record), _) => record.deleted,
            (None, _) => true,
        };
        if self.engine.with_generations(&self.stream, complete) {
            return Ok(());
        }
        let heads = |generations: &[ModelGeneration]| {
            generations
                .iter()
                .map(|record| (record.messages.len(), record.deleted))
                .collect::<Vec<_>>()
        };
        let heads = self.engine.with_generations(&self.stream, heads);
        Err(format!("a reader stays at {:?} of {heads:?}", self.expected))
    }
}

fn find_message(generations: &[ModelGeneration], id: EventId) -> Option<(usize, usize)> {
    generations.iter().enumerate().rev().find_map(|(generation, record)| {
        let message = record.messages.iter().position(|message| message.id == id)?;
        Some((generation, message))
    })
}
