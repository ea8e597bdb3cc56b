//! Memory of blocks, used again: a block is tens of megabytes, and having the kernel clear fresh pages for each one costs
//! a third of the encoding.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
};

/// Kept between blocks: at most this many buffers of at most this size.
const KEPT: usize = 2;
const KEPT_BYTES: usize = 64 << 20;
/// A kept buffer this many times larger than what is needed is given back: the load is over.
const TOO_LARGE: usize = 16;

static FREE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Bytes of a block; their memory goes back to the pool.
#[derive(Debug, Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// An empty buffer with room for about `bytes`.
    pub fn with_capacity(bytes: usize) -> Buffer {
        let mut kept = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if kept.as_ref().is_some_and(|buffer| buffer.capacity() / TOO_LARGE > bytes) {
            kept = None;
        }
        let mut buffer = kept.unwrap_or_default();
        buffer.reserve(bytes);
        Buffer(buffer)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        buffer.clear();
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.capacity() > 0 && buffer.capacity() <= KEPT_BYTES && free.len() < KEPT {
            free.push(buffer);
        }
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Buffer(bytes)
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}
