//! A gRPC message: five bytes, then the body, which stays in the pieces it came in unless it is packed.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame as HttpFrame, SizeHint};

use super::pack::pack;
use crate::decode::Encoding;

/// A message that may be sent any number of times.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The value of `grpc-encoding`; `None` for plain messages.
    pub encoding: Option<&'static str>,
    pieces: Vec<Bytes>,
}

impl Frame {
    pub fn new(encoding: Encoding, level: Option<i32>, parts: Vec<Bytes>) -> Result<Frame, String> {
        let (mut pieces, name) = match encoding {
            Encoding::Identity => (parts, None),
            // gRPC's snappy is the framed form, under the plain name.
            Encoding::Snappy => (vec![pack(Encoding::SnappyFramed, level, &parts)?], Some("snappy")),
            Encoding::Gzip | Encoding::Zstd | Encoding::Deflate => {
                (vec![pack(encoding, level, &parts)?], Some(encoding.name()))
            }
            other => return Err(format!("gRPC has no compression {:?}", other.name())),
        };
        let length = pieces.iter().map(Bytes::len).sum::<usize>();
        let mut prefix = BytesMut::with_capacity(5);
        prefix.put_u8(u8::from(name.is_some()));
        prefix.put_u32(u32::try_from(length).map_err(|_| format!("a message of {length} bytes is too long"))?);
        pieces.insert(0, prefix.freeze());
        Ok(Frame { encoding: name, pieces })
    }

    /// Bytes on the wire.
    pub fn nbytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    pub fn body(&self) -> Pieces {
        Pieces { left: self.nbytes() as u64, pieces: self.pieces.iter().filter(|p| !p.is_empty()).cloned().collect() }
    }
}

/// A request body of known length in several pieces.
pub struct Pieces {
    left: u64,
    pieces: VecDeque<Bytes>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<HttpFrame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front();
        self.left -= piece.as_ref().map_or(0, Bytes::len) as u64;
        Poll::Ready(piece.map(|piece| Ok(HttpFrame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
