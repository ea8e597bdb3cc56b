//! Batches as bytes that outlive the process: what a durable log keeps of one append.
//!
//! # Layout
//!
//! A head of 24 bytes, then the body in one LZ4 block (a row of a span took 438 bytes plain, 210 as LZ4, 136 as ZSTD;
//! writing a byte to disk costs more than LZ4 costs, and ZSTD costs three times as much as both). The head: magic,
//! version of the format, the body's plain length, and a checksum (XXH3-64) of everything else, seeded with the append's
//! `place`, so that bytes which are whole but stand where others belong are found out. The plain body: the number of
//! batches, and for each its signal, whether it is completed, its runs (rows, tenant, metadata), and then either an
//! Arrow IPC stream or, for rows that nothing has decoded, the runs' payloads.
//! Streams begin at multiples of 64 bytes, so that their columns need no copy.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::{reader::StreamDecoder, writer::StreamWriter};
use arrow_schema::ArrowError;
use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::batch::{Batch, Run, Signal, Source, record_batch};

const MAGIC: [u8; 4] = *b"clnb";
pub const VERSION: u8 = 1;
const HEAD: usize = 24;
const ALIGN: usize = 64;

/// Why bytes are not the batches that they should be.
#[derive(Debug)]
pub enum UnpackError {
    Damaged(&'static str),
    /// Written by a later version of this program.
    Newer(u8),
}

impl UnpackError {
    pub fn code(&self) -> &'static str {
        match self {
            UnpackError::Damaged(_) => "damaged",
            UnpackError::Newer(_) => "newer_format",
        }
    }
}

impl std::fmt::Display for UnpackError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UnpackError::Damaged(what) => write!(out, "damaged: {what}"),
            UnpackError::Newer(version) => {
                write!(out, "format {version} is newer than this program's ({VERSION}): use a later version")
            }
        }
    }
}

/// The bytes of an append. Batches that are their payloads alone are kept as those.
pub fn pack(batches: &[Batch], place: u64) -> Result<Vec<u8>, ArrowError> {
    let mut plain = Vec::with_capacity(batches.iter().map(|b| b.nbytes() + 8192).sum());
    put_u32(&mut plain, batches.len());
    for batch in batches {
        write_batch(&mut plain, batch)?;
    }
    let mut packed = vec![0; HEAD + lz4_flex::block::get_maximum_output_size(plain.len())];
    let length = lz4_flex::block::compress_into(&plain, &mut packed[HEAD..]);
    packed.truncate(HEAD + length.map_err(|error| ArrowError::ExternalError(Box::new(error)))?);
    packed[..4].copy_from_slice(&MAGIC);
    packed[4] = VERSION;
    packed[8..16].copy_from_slice(&(plain.len() as u64).to_le_bytes());
    let sum = checksum(&packed, place);
    packed[16..HEAD].copy_from_slice(&sum.to_le_bytes());
    Ok(packed)
}

/// The batches of an append, as they were packed at that place.
pub fn unpack(packed: &[u8], place: u64) -> Result<Vec<Batch>, UnpackError> {
    if packed.len() < HEAD || packed[..4] != MAGIC {
        return Err(UnpackError::Damaged("no append"));
    }
    if packed[4] > VERSION {
        return Err(UnpackError::Newer(packed[4]));
    }
    if checksum(packed, place).to_le_bytes() != packed[16..HEAD] {
        return Err(UnpackError::Damaged("checksum"));
    }
    // The checksum holds, so the length is the one that was written.
    let length = u64::from_le_bytes(packed[8..16].try_into().expect("8 bytes")) as usize;
    let plain = lz4_flex::block::decompress(&packed[HEAD..], length).map_err(|_| UnpackError::Damaged("lz4"))?;
    let mut input = Input { bytes: Buffer::from_vec(plain), at: 0 };
    (0..input.u32()?).map(|_| read_batch(&mut input)).collect()
}

fn write_batch(out: &mut Vec<u8>, batch: &Batch) -> Result<(), ArrowError> {
    let payloads = if batch.is_undecoded() { batch.payloads() } else { None };
    out.extend([batch.signal as u8, u8::from(batch.completed), u8::from(payloads.is_some())]);
    put_u32(out, batch.runs.len());
    for run in &batch.runs {
        put_u32(out, run.rows);
        put_text(out, &run.source.tenant);
        put_u32(out, run.source.metadata.len());
        for (key, value) in &run.source.metadata {
            put_text(out, key);
            put_text(out, value);
        }
    }
    match payloads {
        Some(payloads) => payloads.iter().for_each(|payload| put_bytes(out, payload)),
        None => {
            // The stream's length is known once it is written.
            let place = out.len();
            put_u32(out, 0);
            pad(out);
            let start = out.len();
            write_stream(out, &batch.columns)?;
            let length = u32::try_from(out.len() - start);
            let length = length.map_err(|_| ArrowError::IpcError("more than 4 GiB in one batch".into()))?;
            out[place..place + 4].copy_from_slice(&length.to_le_bytes());
        }
    }
    pad(out);
    Ok(())
}

fn write_stream(out: &mut Vec<u8>, columns: &RecordBatch) -> Result<(), ArrowError> {
    let mut writer = StreamWriter::try_new(out, columns.schema_ref())?;
    writer.write(columns)?;
    writer.finish()
}

fn read_batch(input: &mut Input) -> Result<Batch, UnpackError> {
    let head = input.take(3)?;
    let signal = Signal::ALL.get(usize::from(head[0])).copied().ok_or(UnpackError::Damaged("signal"))?;
    let (completed, payloads) = (head[1] != 0, head[2] != 0);
    let runs = (0..input.u32()?).map(|_| read_run(input)).collect::<Result<Vec<_>, _>>()?;
    let batch = if payloads { undecoded(signal, runs, input)? } else { streamed(signal, completed, runs, input)? };
    input.align();
    Ok(batch)
}

fn read_run(input: &mut Input) -> Result<Run, UnpackError> {
    let rows = input.u32()?;
    let tenant = input.text()?.into();
    let metadata = (0..input.u32()?).map(|_| Ok((input.text()?, input.text()?))).collect::<Result<_, _>>()?;
    Ok(Run { rows, source: Arc::new(Source { tenant, metadata, payload: None }) })
}

fn streamed(signal: Signal, completed: bool, runs: Vec<Run>, input: &mut Input) -> Result<Batch, UnpackError> {
    let length = input.u32()?;
    input.align();
    let mut stream = input.buffer(length)?;
    let mut decoder = StreamDecoder::new();
    let columns = decoder.decode(&mut stream).map_err(|_| UnpackError::Damaged("stream"))?;
    let columns = columns.ok_or(UnpackError::Damaged("no rows"))?;
    if columns.num_rows() != runs.iter().map(|r| r.rows).sum::<usize>() {
        return Err(UnpackError::Damaged("rows"));
    }
    Ok(Batch { signal, columns, runs, completed })
}

/// Rows that are their payloads alone.
fn undecoded(signal: Signal, mut runs: Vec<Run>, input: &mut Input) -> Result<Batch, UnpackError> {
    for run in &mut runs {
        let length = input.u32()?;
        let payload = Some(Bytes::copy_from_slice(input.take(length)?));
        let Source { tenant, metadata, .. } = &*run.source;
        run.source = Arc::new(Source { tenant: tenant.clone(), metadata: metadata.clone(), payload });
    }
    let rows = runs.iter().map(|run| run.rows).sum();
    let columns = record_batch(Vec::new(), Vec::new(), rows).map_err(|_| UnpackError::Damaged("rows"))?;
    Ok(Batch { signal, columns, runs, completed: false })
}

/// Of all but itself, at bytes 16 to 24 of the head.
fn checksum(packed: &[u8], place: u64) -> u64 {
    let mut hash = Xxh3::with_seed(place);
    hash.update(&packed[..16]);
    hash.update(&packed[HEAD..]);
    hash.digest()
}

fn put_u32(out: &mut Vec<u8>, number: usize) {
    // A batch has fewer than 2^32 rows, runs and bytes of a name: decoding bounds all of them.
    out.extend((number as u32).to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

/// A plain body, read from the front; every bound is checked.
struct Input {
    bytes: Buffer,
    at: usize,
}

impl Input {
    fn take(&mut self, length: usize) -> Result<&[u8], UnpackError> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(UnpackError::Damaged("too short"))?;
        let start = std::mem::replace(&mut self.at, end);
        Ok(&self.bytes[start..end])
    }

    fn buffer(&mut self, length: usize) -> Result<Buffer, UnpackError> {
        let start = self.at;
        self.take(length)?;
        Ok(self.bytes.slice_with_length(start, length))
    }

    fn u32(&mut self) -> Result<usize, UnpackError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("4 bytes")) as usize)
    }

    fn text(&mut self) -> Result<String, UnpackError> {
        let length = self.u32()?;
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| UnpackError::Damaged("text"))
    }

    /// Skips padding.
    fn align(&mut self) {
        self.at = self.at.next_multiple_of(ALIGN);
    }
}
