//! Spans (specification 3.1, read backwards).

use super::{
    EncodeError, Result, Row, id,
    own::write_attributes,
    rows::{Get, Numbers, Text},
    value,
};
use crate::{
    batch::Batch,
    decode::{json::reader::Reader, reserved, semantics::restored_status},
    protobuf::Writer,
    schema::Col,
};

pub struct Spans {
    trace_id: Text,
    span_id: Text,
    parent_id: Text,
    name: Text,
    started: Option<Numbers>,
    ended: Option<Numbers>,
    outcome: Text,
    data: Text,
}

impl Spans {
    pub fn of(batch: &Batch) -> Result<Spans> {
        Ok(Spans {
            trace_id: Text::column(batch, Col::TraceId)?,
            span_id: Text::column(batch, Col::SpanId)?,
            parent_id: Text::column(batch, Col::ParentId)?,
            name: Text::column(batch, Col::EventName)?,
            started: Numbers::column(batch, Col::StartedAt)?,
            ended: Numbers::column(batch, Col::EndedAt)?,
            outcome: Text::column(batch, Col::Outcome)?,
            data: Text::column(batch, Col::Data)?,
        })
    }

    pub fn write(&self, writer: &mut Writer, row: &Row) -> Result<()> {
        let (at, own) = (row.at, row.attributes);
        let span = writer.begin(2);
        id(writer, 1, Col::TraceId, self.trace_id.get(at), own.note(reserved::TRACE_ID))?;
        id(writer, 2, Col::SpanId, self.span_id.get(at), own.note(reserved::SPAN_ID))?;
        writer.text(3, own.note(reserved::TRACE_STATE).unwrap_or_default());
        id(writer, 4, Col::ParentId, self.parent_id.get(at), own.note(reserved::PARENT_ID))?;
        writer.text(5, self.name.get(at));
        writer.number(6, kind(row)? as i64 as u64);
        for (number, times, key) in [(7, &self.started, reserved::START_TIME), (8, &self.ended, reserved::END_TIME)] {
            writer.fixed64(number, own.number(key)?.unwrap_or_else(|| times.get(at).unwrap_or_default() as u64));
        }
        write_attributes(writer, 9, own, row.homes, at, row.fed);
        writer.number(10, own.number_or_zero::<u32>(reserved::DROPPED_ATTRIBUTES)?.into());
        let json = self.data.get(at);
        if !json.is_empty() {
            data(writer, json).map_err(EncodeError::of(Col::Data))?;
        }
        writer.number(12, own.number_or_zero::<u32>(reserved::DROPPED_EVENTS)?.into());
        writer.number(14, own.number_or_zero::<u32>(reserved::DROPPED_LINKS)?.into());
        let status = writer.begin(15);
        writer.text(2, own.note(reserved::STATUS_MESSAGE).unwrap_or_default());
        let code: Option<i32> = own.number(reserved::STATUS)?;
        writer.number(3, code.map_or_else(|| restored_status(self.outcome.get(at)), i64::from) as u64);
        writer.end_unless_empty(status);
        writer.fixed32(16, own.number_or_zero(reserved::FLAGS)?);
        writer.end(span);
        Ok(())
    }
}

fn kind(row: &Row) -> Result<i32> {
    match row.labels.note(reserved::SPAN_KIND) {
        Some(word) => Ok(reserved::SPAN_KINDS.iter().position(|known| *known == word).unwrap_or_default() as i32),
        None => row.attributes.number_or_zero(reserved::KIND),
    }
}

/// Events and links.
fn data(writer: &mut Writer, json: &str) -> value::Result<()> {
    value::parse(json, |reader, key| match key {
        "events" => value::list(reader, |reader| event(reader, writer)),
        "links" => value::list(reader, |reader| link(reader, writer)),
        _ => reader.skip(),
    })
}

fn event(reader: &mut Reader, writer: &mut Writer) -> value::Result<()> {
    let event = writer.begin(11);
    value::object(reader, |reader, key| {
        match key {
            "time_ns" => writer.fixed64(1, value::whole(reader)?),
            "name" => value::text(reader, writer, 2)?,
            "attributes" => value::attributes(reader, writer, 3)?,
            "dropped" => writer.number(4, value::whole::<u32>(reader)?.into()),
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    writer.end(event);
    Ok(())
}

fn link(reader: &mut Reader, writer: &mut Writer) -> value::Result<()> {
    let link = writer.begin(13);
    value::object(reader, |reader, key| {
        match key {
            "trace_id" => value::id(reader, writer, 1)?,
            "span_id" => value::id(reader, writer, 2)?,
            "trace_state" => value::text(reader, writer, 3)?,
            "attributes" => value::attributes(reader, writer, 4)?,
            "flags" => writer.fixed32(6, value::whole(reader)?),
            "dropped" => writer.number(5, value::whole::<u32>(reader)?.into()),
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    writer.end(link);
    Ok(())
}
