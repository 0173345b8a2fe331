//! The element types of tensors and their numbers in the ABI.

/// Element type of a tensor. The numbers are part of the ABI and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Dtype {
    /// IEEE 754 binary16.
    Float16 = 1,
    /// The upper half of a binary32.
    Bfloat16 = 2,
    /// IEEE 754 binary32.
    Float32 = 3,
    /// IEEE 754 binary64.
    Float64 = 4,
    /// Signed, 8 bits.
    Int8 = 5,
    /// Unsigned, 8 bits.
    Uint8 = 6,
    /// Signed, 16 bits.
    Int16 = 7,
    /// Signed, 32 bits.
    Int32 = 8,
    /// Signed, 64 bits.
    Int64 = 9,
    /// One byte, 0 or 1.
    Bool = 10,
    /// Opaque bytes, one element each: an encoded picture, a text.
    Bytes = 11,
}

impl Dtype {
    /// All of them, in the order of their numbers.
    pub const ALL: [Dtype; 11] = [
        Dtype::Float16,
        Dtype::Bfloat16,
        Dtype::Float32,
        Dtype::Float64,
        Dtype::Int8,
        Dtype::Uint8,
        Dtype::Int16,
        Dtype::Int32,
        Dtype::Int64,
        Dtype::Bool,
        Dtype::Bytes,
    ];

    /// Size of one element in bytes.
    pub const fn item_bytes(self) -> u64 {
        match self {
            Dtype::Int8 | Dtype::Uint8 | Dtype::Bool | Dtype::Bytes => 1,
            Dtype::Float16 | Dtype::Bfloat16 | Dtype::Int16 => 2,
            Dtype::Float32 | Dtype::Int32 => 4,
            Dtype::Float64 | Dtype::Int64 => 8,
        }
    }

    /// The name that documents use: `float32`, `bytes`.
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::Float16 => "float16",
            Dtype::Bfloat16 => "bfloat16",
            Dtype::Float32 => "float32",
            Dtype::Float64 => "float64",
            Dtype::Int8 => "int8",
            Dtype::Uint8 => "uint8",
            Dtype::Int16 => "int16",
            Dtype::Int32 => "int32",
            Dtype::Int64 => "int64",
            Dtype::Bool => "bool",
            Dtype::Bytes => "bytes",
        }
    }

    /// The type with that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// The type with that number in the ABI, if there is one.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied() // they are in the order of their numbers, from 1
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_by_its_name_and_by_its_number() {
        for dtype in Dtype::ALL {
            assert_eq!(Dtype::from_name(dtype.name()), Some(dtype));
            assert_eq!(Dtype::from_number(dtype as u16), Some(dtype));
        }
        assert_eq!(Dtype::from_name("float8"), None);
        assert_eq!(Dtype::from_number(0), None);
        assert_eq!(Dtype::from_number(12), None);
    }
}
