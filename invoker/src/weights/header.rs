//! Whether a file is a whole safetensors file: only such are kept in memory for others.
//!
//! The crate `safetensors` cannot be used beside serde_json's `arbitrary_precision`, which OpenWhisk's documents need
//! (it flattens maps with numbers in them), and wants the file as one slice. Source: the format's description,
//! <https://github.com/huggingface/safetensors>.

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// Bytes of the header's length.
pub(super) const LENGTH: u64 = 8;
/// Largest header that is read. The format allows 100 MB; this is enough for some forty thousand tensors.
pub(super) const MOST: u64 = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it has {0} bytes, expected at least {LENGTH}")]
    Short(u64),
    #[error(
        "its header is said to have {header} bytes and the file has {file}; expected no more than {MOST}"
    )]
    Length { header: u64, file: u64 },
    #[error("its header cannot be read: {0}")]
    Json(String),
    #[error("the tensor {name} takes the bytes {begin} to {end}, expected {expected}")]
    Place {
        name: String,
        begin: u64,
        end: u64,
        expected: String,
    },
    #[error("its tensors end at byte {tensors}, and the file has {file}")]
    End { tensors: u64, file: u64 },
}

/// How many bytes of header a file of `file` bytes has that begins with `first`.
///
/// # Errors
/// [`Malformed::Length`].
pub(super) fn length(first: [u8; LENGTH as usize], file: u64) -> Result<u64, Malformed> {
    let header = u64::from_le_bytes(first);
    if header > MOST || header > file.saturating_sub(LENGTH) {
        return Err(Malformed::Length { header, file });
    }
    Ok(header)
}

/// Whether the tensors that `header` names fill the rest of a file of `file` bytes, one behind the other.
///
/// # Errors
/// The first thing that is wrong.
pub(super) fn check(header: &[u8], file: u64) -> Result<(), Malformed> {
    let Tensors(tensors) =
        serde_json::from_slice(header).map_err(|error| Malformed::Json(error.to_string()))?;
    let mut ordered: Vec<(&String, &Tensor)> = tensors.iter().collect();
    ordered.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let mut at = 0;
    for (name, tensor) in ordered {
        let (begin, end) = tensor.data_offsets;
        let wrong = |expected: String| Malformed::Place {
            name: name.clone(),
            begin,
            end,
            expected,
        };
        let bytes = tensor
            .bytes()
            .ok_or_else(|| wrong("less than 2^64 bytes".to_owned()))?;
        if begin != at || begin.checked_add(bytes) != Some(end) {
            return Err(wrong(format!("{bytes} bytes from {at} on")));
        }
        at = end;
    }
    let tensors = (LENGTH + header.len() as u64).saturating_add(at);
    if tensors != file {
        return Err(Malformed::End { tensors, file });
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Tensor {
    fn bytes(&self) -> Option<u64> {
        let elements = self
            .shape
            .iter()
            .try_fold(1_u64, |product, size| product.checked_mul(*size))?;
        elements.checked_mul(self.dtype.bytes())
    }
}

/// Those of whole bytes.
#[derive(Clone, Copy, Debug, Deserialize)]
enum Dtype {
    #[serde(
        rename = "BOOL",
        alias = "U8",
        alias = "I8",
        alias = "F8_E4M3",
        alias = "F8_E5M2",
        alias = "F8_E8M0"
    )]
    One,
    #[serde(rename = "U16", alias = "I16", alias = "F16", alias = "BF16")]
    Two,
    #[serde(rename = "U32", alias = "I32", alias = "F32")]
    Four,
    #[serde(rename = "U64", alias = "I64", alias = "F64", alias = "C64")]
    Eight,
}

impl Dtype {
    fn bytes(self) -> u64 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

/// A header: tensors by name, and perhaps `__metadata__`. No name may be there twice.
struct Tensors(BTreeMap<String, Tensor>);

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Header;
        impl<'de> Visitor<'de> for Header {
            type Value = Tensors;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tensors, A::Error> {
                let mut tensors = BTreeMap::new();
                let mut described = false;
                while let Some(name) = map.next_key::<String>()? {
                    let again = if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        std::mem::replace(&mut described, true)
                    } else {
                        tensors.insert(name.clone(), map.next_value()?).is_some()
                    };
                    if again {
                        return Err(A::Error::custom(format!("the name {name:?} is there twice")));
                    }
                }
                Ok(Tensors(tensors))
            }
        }
        deserializer.deserialize_map(Header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(dtype: &str, shape: &str, begin: u64, end: u64) -> String {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    }

    fn checked(header: &str, data: u64) -> Result<(), String> {
        let file = LENGTH + header.len() as u64 + data;
        check(header.as_bytes(), file).map_err(|malformed| malformed.to_string())
    }

    #[test]
    fn a_whole_file_passes_in_whatever_order_its_tensors_are_named() {
        let header = format!(
            r#"{{"__metadata__":{{"format":"pt"}},"b":{},"none":{},"a":{}}}   "#,
            tensor("F32", "[2,3]", 2, 26),
            tensor("I64", "[0]", 26, 26),
            tensor("BF16", "[]", 0, 2)
        );
        assert_eq!(checked(&header, 26), Ok(()));
        assert_eq!(checked("{}", 0), Ok(()));
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let one = |dtype, shape, begin, end| format!(r#"{{"w":{}}}"#, tensor(dtype, shape, begin, end));
        for (header, data, says) in [
            (
                one("F32", "[4]", 0, 15),
                15,
                "the tensor w takes the bytes 0 to 15, expected 16 bytes from 0 on",
            ),
            (
                one("F32", "[4]", 4, 20),
                20,
                "the tensor w takes the bytes 4 to 20, expected 16 bytes from 0 on",
            ),
            (one("F32", "[4]", 0, 16), 12, "its tensors end at byte"), // the file was cut off
            (one("F32", "[4]", 0, 16), 17, "its tensors end at byte"),
            (
                one("F64", "[4294967296,4294967296]", 0, 8),
                8,
                "expected less than 2^64 bytes",
            ),
            (
                one("U8", "[18446744073709551615]", 1, 0),
                0,
                "the tensor w takes the bytes 1 to 0",
            ),
            (one("COMPLEX", "[1]", 0, 8), 8, "unknown variant `COMPLEX`"),
            (one("F32", "[-1]", 0, 4), 4, "its header cannot be read"),
            (one("F32", "[1.5]", 0, 4), 4, "its header cannot be read"),
            ("[]".to_owned(), 0, "expected an object of tensors"),
            (r#"{"w":"#.to_owned(), 0, "its header cannot be read"),
            (String::new(), 0, "its header cannot be read"),
        ] {
            let said = checked(&header, data).expect_err(&header);
            assert!(said.contains(says), "{header}: {said}");
        }
    }

    #[test]
    fn no_name_is_there_twice() {
        let twice = format!(
            r#"{{"w":{},"w":{}}}"#,
            tensor("U8", "[1]", 0, 1),
            tensor("U8", "[1]", 0, 1)
        );
        let said = checked(&twice, 1).expect_err("twice");
        assert!(said.contains(r#"the name "w" is there twice"#), "{said}");
        let said = checked(r#"{"__metadata__":{},"__metadata__":{}}"#, 0).expect_err("twice");
        assert!(said.contains("is there twice"), "{said}");
    }

    #[test]
    fn a_huge_header_is_not_read() {
        assert_eq!(length(2_u64.to_le_bytes(), 10), Ok(2));
        for header in [MOST + 1, u64::MAX, 93] {
            let file = 100;
            assert_eq!(
                length(header.to_le_bytes(), file),
                Err(Malformed::Length { header, file })
            );
        }
        assert_eq!(length(MOST.to_le_bytes(), MOST + LENGTH), Ok(MOST));
    }
}
