//! The events of many bodies into the columns of one batch.

use std::borrow::Cow;

use super::{
    check::{Reject, Times, check},
    expression::Event,
    identity::{Identity, Seen},
    json::Value,
    payload::{Envelope, Format, sanitised, without},
    plan::{Home, Mapping, Rows},
    row::{Request, Scratch, write},
    shape::Found,
    window::Fresh,
};
use crate::decode::columns::Columns;

/// What a fan-out may copy of one event: its context stands in each of its rows.
const MAX_COPIED_BYTES: usize = 16 << 20;

/// Buffers that live as long as a batch is built.
#[derive(Default)]
pub struct Machine {
    pub columns: Columns,
    scratch: Scratch,
    stack: Vec<u32>,
}

/// What became of one body's events.
#[derive(Debug, Default)]
pub struct Outcome {
    pub accepted: usize,
    pub rows: usize,
    pub duplicates: usize,
    pub rejected: Vec<Rejected>,
}

#[derive(Debug)]
pub struct Rejected {
    /// The event's place in its body.
    pub index: usize,
    /// Its own id, where it has one.
    pub id: String,
    pub reject: Reject,
}

impl Machine {
    pub fn stack(&mut self) -> &mut Vec<u32> {
        &mut self.stack
    }

    /// Writes the rows of every event that passes. `chosen`: the mapping that the route names; without it events choose.
    pub fn take(
        &mut self,
        format: &Format,
        envelope: &Envelope,
        chosen: Option<usize>,
        request: &Request,
        judge: &mut Fresh,
    ) -> Outcome {
        let (mut outcome, mut seen) = (Outcome::default(), Seen::default());
        for (index, event) in envelope.events.iter().enumerate() {
            let result = match index < format.limits.events {
                true => self.event(format, envelope, *event, index, chosen, request, judge, &mut seen),
                false => {
                    let message = format!("the body has more than {} events", format.limits.events);
                    Err((None, Reject::new("too_many_events", "", message)))
                }
            };
            match result {
                Ok(0) => outcome.duplicates += 1,
                Ok(rows) => {
                    outcome.accepted += 1;
                    outcome.rows += rows;
                }
                Err((mapping, reject)) => outcome.rejected.push(rejected(index, *event, mapping, reject)),
            }
        }
        outcome
    }

    /// The rows of one event, 0 for one that came before.
    #[allow(clippy::too_many_arguments)]
    fn event<'f>(
        &mut self,
        format: &'f Format,
        envelope: &Envelope,
        event: Value,
        index: usize,
        chosen: Option<usize>,
        request: &Request,
        judge: &mut Fresh,
        seen: &mut Seen,
    ) -> Result<usize, (Option<&'f Mapping>, Reject)> {
        format.fits(envelope, event, &mut self.stack).map_err(|reject| (None, reject))?;
        let mut text = format.complete(envelope, event, index);
        let unknown = || Reject::new("unknown_event", "", "no mapping takes this event");
        let mapping = chosen.or_else(|| format.choose(Value::of(&text))).map(|at| &format.mappings[at]);
        let mapping = mapping.ok_or_else(|| (None, unknown()))?;
        let refused = |reject| (Some(mapping), reject);
        if mapping.sanitise
            && let Cow::Owned(clean) = sanitised(&text)
        {
            text = Cow::Owned(clean);
        }
        let mut times = Times::default();
        let anonymised = request.privacy == "anonymised";
        if anonymised {
            // An event is what it was before: what it must have may well be personal.
            let mut found = Found::default();
            mapping.shape.find(&text, &mut found);
            check(mapping, &found, request.received_ns, &mut times).map_err(refused)?;
            text = Cow::Owned(without(Value::of(&text), &mapping.personal));
        }
        let mut found = Found::default();
        mapping.shape.find(&text, &mut found);
        if !anonymised {
            check(mapping, &found, request.received_ns, &mut times).map_err(refused)?;
        }
        copies(mapping, &found, text.len()).map_err(refused)?;
        judge.admit(Value::of(&text)).map_err(refused)?;
        let identity = Identity::of(mapping, &text, &Event { values: &found.values, times: &times.at }, seen);
        if !judge.is_new(mapping, &identity) {
            return Ok(0);
        }
        Ok(write(mapping, &identity, &found, &times, request, &mut self.scratch, &mut self.columns))
    }
}

/// Fails where the event's rows together would be too large.
fn copies(mapping: &Mapping, found: &Found, length: usize) -> Result<(), Reject> {
    let rows = match &mapping.rows {
        Rows::One => 1,
        Rows::Fixed(parts) => parts.len(),
        Rows::Each { list, .. } => found.values[*list as usize].items().count().max(1),
    };
    if rows > 1 && rows.saturating_mul(length) > MAX_COPIED_BYTES {
        let message = format!("the event makes {rows} rows of {length} bytes, together more than {MAX_COPIED_BYTES}");
        return Err(Reject::new("too_large", "", message));
    }
    Ok(())
}

fn rejected(index: usize, event: Value, mapping: Option<&Mapping>, reject: Reject) -> Rejected {
    let fields = mapping.into_iter().flat_map(|mapping| &mapping.body.fields);
    let id = fields.filter(|field| matches!(field.home, Home::Id)).map(|field| event.get(&field.path));
    let id = id.filter_map(|value| value.text()).map(|(text, _)| text.chars().take(100).collect()).next();
    Rejected { index, id: id.unwrap_or_default(), reject }
}
