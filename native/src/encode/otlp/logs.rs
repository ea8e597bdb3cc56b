//! Log records (specification 3.2, read backwards).

use super::{
    EncodeError, Result, Row, id,
    own::write_attributes,
    rows::{Get, Numbers, Text},
    value,
};
use crate::{
    batch::Batch,
    decode::reserved,
    protobuf::Writer,
    schema::{Col, ValueKind},
};

pub struct Logs {
    trace_id: Text,
    span_id: Text,
    name: Text,
    timestamp: Option<Numbers>,
    level: Text,
    level_number: Option<Numbers>,
    message: Text,
    data: Text,
}

impl Logs {
    pub fn of(batch: &Batch) -> Result<Logs> {
        Ok(Logs {
            trace_id: Text::column(batch, Col::TraceId)?,
            span_id: Text::column(batch, Col::SpanId)?,
            name: Text::column(batch, Col::EventName)?,
            timestamp: Numbers::column(batch, Col::Timestamp)?,
            level: Text::column(batch, Col::LogLevel)?,
            level_number: Numbers::column(batch, Col::LogLevelNum)?,
            message: Text::column(batch, Col::LogMessage)?,
            data: Text::column(batch, Col::Data)?,
        })
    }

    pub fn write(&self, writer: &mut Writer, row: &Row) -> Result<()> {
        let (at, own) = (row.at, row.attributes);
        let record = writer.begin(2);
        let time = |key| Ok(own.number(key)?.unwrap_or_else(|| self.timestamp.get(at).unwrap_or_default() as u64));
        writer.fixed64(1, time(reserved::TIME)?);
        let number = own.number::<i32>(reserved::SEVERITY_NUMBER)?.map(i64::from);
        writer.number(2, number.or_else(|| self.level_number.get(at)).unwrap_or_default() as u64);
        writer.text(3, own.note(reserved::SEVERITY_TEXT).unwrap_or_else(|| self.level.get(at)));
        self.body(writer, at).map_err(EncodeError::of(Col::Data))?;
        write_attributes(writer, 6, own, row.homes, at, row.fed);
        writer.number(7, own.number_or_zero::<u32>(reserved::DROPPED_ATTRIBUTES)?.into());
        writer.fixed32(8, own.number_or_zero(reserved::FLAGS)?);
        id(writer, 9, Col::TraceId, self.trace_id.get(at), own.note(reserved::TRACE_ID))?;
        id(writer, 10, Col::SpanId, self.span_id.get(at), own.note(reserved::SPAN_ID))?;
        writer.fixed64(11, time(reserved::OBSERVED_TIME)?);
        writer.text(12, self.event_name(row));
        writer.end(record);
        Ok(())
    }

    /// `log_message`, unless `data` holds the body's own form.
    fn body(&self, writer: &mut Writer, at: usize) -> value::Result<()> {
        let (message, json) = (self.message.get(at), self.data.get(at));
        let mut found = false;
        if !json.is_empty() {
            value::parse(json, |reader, key| {
                if key != "body" {
                    return reader.skip();
                }
                found = true;
                let body = writer.begin(5);
                value::any_value(reader, writer)?;
                writer.end(body);
                Ok(())
            })?;
        }
        if !found && !message.is_empty() {
            let body = writer.begin(5);
            writer.bytes(1, message.as_bytes());
            writer.end(body);
        }
        Ok(())
    }

    /// Empty where `event_name` has its value from elsewhere.
    fn event_name<'r>(&'r self, row: &Row<'r>) -> &'r str {
        if let Some(name) = row.attributes.note(reserved::EVENT_NAME) {
            return name;
        }
        let text = ValueKind::String as u8;
        let mut entries = row.attributes.entries.iter();
        let told = entries.any(|entry| entry.key == "event.name" && entry.kind == text && !entry.text.is_empty());
        match self.name.get(row.at) {
            "otel.log" => "",
            _ if told => "",
            name => name,
        }
    }
}
