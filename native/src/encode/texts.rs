//! Text columns, whatever Arrow holds them as.

use arrow_array::{Array, ArrayRef, BinaryArray, StringArray, cast::AsArray, types::Int32Type};
use arrow_buffer::NullBuffer;
use arrow_schema::DataType;

/// Text of one batch: values, and which of them each row has where there is a dictionary.
pub struct Texts<'a> {
    keys: Option<&'a [i32]>,
    offsets: &'a [i32],
    bytes: &'a [u8],
    nulls: Option<&'a NullBuffer>,
}

impl<'a> Texts<'a> {
    pub fn of(array: &'a ArrayRef) -> Option<Texts<'a>> {
        Some(match array.data_type() {
            DataType::Utf8 => Texts::plain(array.as_string_opt::<i32>()?),
            DataType::Binary => {
                let bytes: &BinaryArray = array.as_binary_opt()?;
                Texts { keys: None, offsets: bytes.offsets(), bytes: bytes.value_data(), nulls: bytes.nulls() }
            }
            _ => {
                let dictionary = array.as_dictionary_opt::<Int32Type>()?;
                let keys = dictionary.keys();
                let values = Texts::plain(dictionary.values().as_string_opt()?);
                Texts { keys: Some(keys.values()), nulls: keys.nulls(), ..values }
            }
        })
    }

    pub fn plain(texts: &'a StringArray) -> Texts<'a> {
        Texts { keys: None, offsets: texts.offsets(), bytes: texts.value_data(), nulls: texts.nulls() }
    }

    #[inline]
    pub fn is_valid(&self, row: usize) -> bool {
        self.nulls.is_none_or(|nulls| nulls.is_valid(row))
    }

    /// The text of a row, empty where it is null.
    #[inline]
    pub fn at(&self, row: usize) -> &'a [u8] {
        if !self.is_valid(row) {
            return b"";
        }
        let value = self.slot(row);
        &self.bytes[self.offsets[value] as usize..self.offsets[value + 1] as usize]
    }

    /// The position of a row's value: rows that share one share their text.
    #[inline]
    pub fn slot(&self, row: usize) -> usize {
        self.keys.map_or(row, |keys| keys[row] as usize)
    }

    /// How many slots there are, where a dictionary holds them.
    pub fn slots(&self) -> Option<usize> {
        self.keys.map(|_| self.offsets.len() - 1)
    }
}
