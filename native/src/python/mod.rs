//! The door: what Python sees of this crate, as `colonnade._native`.

mod batch;
mod decode;
mod edit;
mod encode;
mod enrich;
mod error;
mod ipc;
mod kernels;
mod listen;
mod mapping;
mod remote_write;
mod sampling;
mod send;

use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    error::register(module)?;
    batch::register(module)?;
    decode::register(module)?;
    encode::register(module)?;
    ipc::register(module)?;
    enrich::register(module)?;
    kernels::register(module)?;
    listen::register(module)?;
    mapping::register(module)?;
    remote_write::register(module)?;
    sampling::register(module)?;
    send::register(module)
}
