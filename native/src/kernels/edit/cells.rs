//! A column with some of its cells exchanged.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray,
    cast::AsArray,
    types::{Float64Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type},
};
use arrow_schema::ArrowError;

use crate::{
    decode::{
        attributes::Cell,
        columns::{Terms, Texts},
    },
    kernels::columns::{Text, unfit},
    schema::{Col, Kind},
};

type Result<T> = std::result::Result<T, ArrowError>;

/// Rows, ascending, and what their cells become.
pub type Changed<'a> = Vec<(usize, Option<Cell<'a>>)>;

/// The column with these cells (ascending by row) in place of what was there; `None` when nothing is left in it.
pub fn rebuilt(
    col: Col,
    before: Option<&ArrayRef>,
    rows: usize,
    cells: &[(usize, Option<Cell<'_>>)],
) -> Result<Option<ArrayRef>> {
    Ok(match col.kind() {
        Kind::LcString => terms(col, before, rows, cells)?,
        Kind::Float64 => numbers::<Float64Type>(before, rows, cells, |cell| match cell {
            Cell::Double(value) => *value,
            _ => 0.0,
        }),
        Kind::Int64 => numbers::<Int64Type>(before, rows, cells, whole),
        Kind::Int32 => numbers::<Int32Type>(before, rows, cells, |cell| whole(cell) as i32),
        Kind::UInt32 => numbers::<UInt32Type>(before, rows, cells, |cell| whole(cell) as u32),
        Kind::UInt16 => numbers::<UInt16Type>(before, rows, cells, |cell| whole(cell) as u16),
        Kind::UInt8 => numbers::<UInt8Type>(before, rows, cells, |cell| whole(cell) as u8),
        Kind::Bool => {
            let mut values: Vec<Option<bool>> = match before {
                Some(array) => array.as_boolean().iter().collect(),
                None => vec![None; rows],
            };
            for (row, cell) in cells {
                values[*row] = cell.as_ref().map(|cell| matches!(cell, Cell::Bool(true)));
            }
            let any = values.iter().any(Option::is_some);
            any.then(|| Arc::new(BooleanArray::from(values)) as ArrayRef)
        }
        _ => texts(col, before, rows, cells)?,
    })
}

fn whole(cell: &Cell<'_>) -> i64 {
    match cell {
        Cell::Int(value) => *value,
        _ => 0,
    }
}

fn text<'c>(cell: &'c Option<Cell<'_>>) -> &'c [u8] {
    match cell {
        Some(Cell::Text(text)) => text,
        _ => b"",
    }
}

fn terms(
    col: Col,
    before: Option<&ArrayRef>,
    rows: usize,
    cells: &[(usize, Option<Cell<'_>>)],
) -> Result<Option<ArrayRef>> {
    let mut terms = match before {
        None => Terms::default(),
        Some(array) => match Text::of(col.name(), array)? {
            Text::Terms { column, .. } => Terms::of(column),
            _ => return Err(unfit(col.name(), array, "a dictionary of text")),
        },
    };
    for (row, cell) in cells {
        let key = terms.term(text(cell));
        terms.replace(*row, key);
    }
    let any = terms.any();
    Ok(if any { Some(terms.finish(rows)?) } else { None })
}

fn texts(
    col: Col,
    before: Option<&ArrayRef>,
    rows: usize,
    cells: &[(usize, Option<Cell<'_>>)],
) -> Result<Option<ArrayRef>> {
    let before = before.map_or(Ok(Text::Absent), |array| Text::of(col.name(), array))?;
    let (mut cells, mut texts) = (cells.iter().peekable(), Texts::default());
    for row in 0..rows {
        match cells.next_if(|(at, _)| *at == row) {
            Some((_, cell)) => texts.push(text(cell)),
            None => texts.push(before.get(row).as_bytes()),
        }
    }
    let any = !texts.data.is_empty();
    Ok(if any { Some(Arc::new(texts.finish()?)) } else { None })
}

fn numbers<T: ArrowPrimitiveType>(
    before: Option<&ArrayRef>,
    rows: usize,
    cells: &[(usize, Option<Cell<'_>>)],
    value: impl Fn(&Cell<'_>) -> T::Native,
) -> Option<ArrayRef> {
    let mut values: Vec<Option<T::Native>> = match before {
        Some(array) => array.as_primitive::<T>().iter().collect(),
        None => vec![None; rows],
    };
    for (row, cell) in cells {
        values[*row] = cell.as_ref().map(&value);
    }
    let any = values.iter().any(Option::is_some);
    any.then(|| Arc::new(values.into_iter().collect::<PrimitiveArray<T>>()) as ArrayRef)
}
