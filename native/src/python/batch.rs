//! `Batch` as Python sees it: opaque, imported into pyarrow only when asked.

use std::{ffi::CStr, sync::Arc};

use arrow_array::{
    Array, ArrayRef, MapArray, RecordBatch, StructArray,
    cast::AsArray,
    ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi, to_ffi},
};
use arrow_schema::{DataType, Field, FieldRef};
use bytes::Bytes;
use pyo3::{exceptions::PyValueError, prelude::*, types::PyCapsule};

use crate::{
    batch::{Batch, Run, Signal, Source, record_batch},
    decode::decoded,
    schema::Col,
};

/// Rows in unified columns; see `batch.rs` and the stub `colonnade/_native.pyi`.
#[pyclass(name = "Batch", frozen, module = "colonnade._native")]
pub struct PyBatch(pub Arc<Batch>);

impl PyBatch {
    pub fn new(batch: Batch) -> PyBatch {
        PyBatch(Arc::new(batch))
    }
}

/// A run as Python sees it: rows, tenant, metadata pairs.
type RunTuple = (usize, String, Vec<(String, String)>);

const ARRAY: &CStr = c"arrow_array";
const SCHEMA: &CStr = c"arrow_schema";

#[pymethods]
impl PyBatch {
    /// A batch of an Arrow record batch (anything with `__arrow_c_array__`); rows keep `like`'s sources, not its payloads.
    #[staticmethod]
    #[pyo3(signature = (data, signal, *, like=None, tenant="", completed=None))]
    fn from_arrow(
        data: &Bound<'_, PyAny>,
        signal: &str,
        like: Option<&PyBatch>,
        tenant: &str,
        completed: Option<bool>,
    ) -> PyResult<PyBatch> {
        let signal =
            Signal::from_name(signal).ok_or_else(|| PyValueError::new_err(format!("unknown signal {signal:?}")))?;
        let columns = import(data)?;
        let rows = columns.num_rows();
        let runs = match like {
            Some(like) if like.0.rows() == rows => like.0.with_columns(columns.clone(), false).runs,
            _ => vec![Run { rows, source: Arc::new(Source { tenant: tenant.into(), ..Source::default() }) }],
        };
        let completed = completed.unwrap_or_else(|| like.is_some_and(|l| l.0.completed));
        Ok(PyBatch::new(Batch { signal, columns, runs, completed }))
    }

    #[getter]
    fn signal(&self) -> &'static str {
        self.0.signal.name()
    }

    #[getter]
    fn rows(&self) -> usize {
        self.0.rows()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.0.nbytes()
    }

    #[getter]
    fn completed(&self) -> bool {
        self.0.completed
    }

    /// Names of the present columns, in the table's order.
    #[getter]
    fn column_names(&self) -> Vec<String> {
        self.0.columns.schema().fields().iter().map(|f| f.name().clone()).collect()
    }

    /// Rows per tenant as decided at the door, in order of first appearance.
    #[getter]
    fn tenants(&self) -> Vec<(String, usize)> {
        let mut counts: Vec<(String, usize)> = Vec::new();
        for run in &self.0.runs {
            match counts.iter_mut().find(|(t, _)| **t == *run.source.tenant) {
                Some((_, rows)) => *rows += run.rows,
                None => counts.push((run.source.tenant.to_string(), run.rows)),
            }
        }
        counts
    }

    /// How many payloads the rows came in.
    #[getter]
    fn requests(&self) -> usize {
        self.0.runs.len()
    }

    /// Per payload: rows, tenant, metadata pairs.
    #[getter]
    fn runs(&self) -> Vec<RunTuple> {
        self.0.runs.iter().map(|r| (r.rows, r.source.tenant.to_string(), r.source.metadata.clone())).collect()
    }

    /// The OTLP protobuf requests as they came, or `None` when a change has made them untrue.
    #[getter]
    fn payloads(&self) -> Option<Vec<Vec<u8>>> {
        self.0.payloads().map(|list| list.iter().map(|b| b.to_vec()).collect())
    }

    /// Their sizes in bytes, without making objects of them.
    #[getter]
    fn payload_sizes(&self) -> Option<Vec<usize>> {
        self.0.payloads().map(|list| list.iter().map(Bytes::len).collect())
    }

    fn slice(&self, offset: usize, length: usize) -> PyResult<PyBatch> {
        if offset.checked_add(length).is_none_or(|end| end > self.0.rows()) {
            return Err(PyValueError::new_err(format!("rows {offset}+{length} of {}", self.0.rows())));
        }
        Ok(PyBatch::new(self.0.slice(offset, length)))
    }

    fn __len__(&self) -> usize {
        self.0.rows()
    }

    fn __repr__(&self) -> String {
        format!("Batch({}, {} rows, {} columns)", self.0.signal.name(), self.0.rows(), self.0.columns.num_columns())
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        let _ = requested_schema; // The protocol allows to ignore a wish for another schema.
        export(py, py.detach(|| decoded(&self.0)).columns)
    }
}

/// A record batch as the Arrow PyCapsule interface hands it over.
pub fn export(py: Python<'_>, columns: RecordBatch) -> PyResult<(Bound<'_, PyCapsule>, Bound<'_, PyCapsule>)> {
    let (array, schema) = to_ffi(&StructArray::from(columns).to_data()).map_err(arrow_error)?;
    Ok((PyCapsule::new_with_value(py, schema, SCHEMA)?, PyCapsule::new_with_value(py, array, ARRAY)?))
}

/// A record batch from an object with the Arrow PyCapsule interface.
pub fn import(data: &Bound<'_, PyAny>) -> PyResult<RecordBatch> {
    let (schema, array): (Bound<'_, PyCapsule>, Bound<'_, PyCapsule>) =
        data.call_method0("__arrow_c_array__")?.extract()?;
    let schema = schema.pointer_checked(Some(SCHEMA))?.cast::<FFI_ArrowSchema>();
    let array = array.pointer_checked(Some(ARRAY))?.cast::<FFI_ArrowArray>();
    // SAFETY: the capsules are named as the protocol demands, so they hold these structs; `from_raw` moves the array
    // out and leaves a released one behind, as the protocol asks of a consumer.
    let data = unsafe { from_ffi(FFI_ArrowArray::from_raw(array.as_ptr()), schema.as_ref()) }.map_err(arrow_error)?;
    if !matches!(data.data_type(), DataType::Struct(_)) || data.null_count() != 0 {
        return Err(PyValueError::new_err("expected a record batch (a struct array without nulls)"));
    }
    let rows = data.len();
    let (fields, arrays, _) = StructArray::from(data).into_parts();
    let (fields, arrays) =
        fields.iter().zip(arrays).map(|(f, a)| named_as_the_table(f, &a).unwrap_or_else(|| (f.clone(), a))).unzip();
    record_batch(fields, arrays, rows).map_err(arrow_error)
}

/// A map column whose entries are named as the table names them: Arrow leaves the names open, and pyarrow has others.
/// `None` for what is no map of the table's type.
fn named_as_the_table(field: &FieldRef, array: &ArrayRef) -> Option<(FieldRef, ArrayRef)> {
    let DataType::Map(entries, sorted) = Col::from_name(field.name())?.data_type() else { return None };
    let DataType::Struct(pair) = entries.data_type() else { return None };
    let (_, offsets, pairs, nulls, _) = array.as_map_opt()?.clone().into_parts();
    let (_, columns, _) = pairs.into_parts();
    let pairs = StructArray::try_new(pair.clone(), columns, None).ok()?;
    let map = MapArray::try_new(entries, offsets, pairs, nulls, sorted).ok()?;
    Some((Arc::new(Field::new(field.name(), map.data_type().clone(), field.is_nullable())), Arc::new(map)))
}

pub fn arrow_error(error: arrow_schema::ArrowError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyBatch>()
}
