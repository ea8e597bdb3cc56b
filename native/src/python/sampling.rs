//! `kernels::sampling` as Python sees it.

use pyo3::{exceptions::PyValueError, prelude::*};

use super::{
    batch::{PyBatch, arrow_error},
    decode::guarded,
};
use crate::kernels::sampling::probabilistic::{Mode, Options, Policy, sample};

/// Keeps spans or log records by probability.
#[pyclass(frozen, module = "colonnade._native")]
struct ProbabilisticSampler(Options);

/// Policy, whether they were kept, rows.
type Count = (String, bool, usize);

#[pymethods]
impl ProbabilisticSampler {
    #[new]
    #[pyo3(signature = (
        mode, percentage, *, hash_seed=0, fail_closed=true, precision=4, by_trace_id=true, attribute=None, priority=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "they have names")]
    fn new(
        mode: &str,
        percentage: f32,
        hash_seed: u32,
        fail_closed: bool,
        precision: u32,
        by_trace_id: bool,
        attribute: Option<String>,
        priority: Option<String>,
    ) -> PyResult<ProbabilisticSampler> {
        let mode = match mode {
            "hash_seed" => Mode::HashSeed,
            "proportional" => Mode::Proportional,
            "equalizing" => Mode::Equalizing,
            other => {
                return Err(PyValueError::new_err(format!("no mode {other:?}: hash_seed, proportional, equalizing")));
            }
        };
        Ok(ProbabilisticSampler(Options {
            mode,
            percentage,
            hash_seed,
            fail_closed,
            precision,
            by_trace_id,
            attribute,
            priority,
        }))
    }

    /// What is kept, or None, and what decided over how many rows.
    fn sample(&self, py: Python<'_>, batch: &PyBatch) -> PyResult<(Option<PyBatch>, Vec<Count>)> {
        let batch = batch.0.clone();
        let (kept, counts) = guarded(py, || sample(&batch, &self.0))?.map_err(arrow_error)?;
        let counts = Policy::ALL.into_iter().zip(counts).flat_map(|(policy, rows)| {
            let name = policy.name(&self.0).to_owned();
            [(name.clone(), false, rows[0]), (name, true, rows[1])]
        });
        Ok((kept.map(PyBatch::new), counts.filter(|(.., rows)| *rows > 0).collect()))
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ProbabilisticSampler>()
}
