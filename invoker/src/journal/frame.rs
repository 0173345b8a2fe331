//! How entries lie in a file: length, checksum, bytes. What follows the first frame that is not whole
//! was never promised to anybody.

/// Begins each file; the last byte is the version of the format.
pub(super) const MAGIC: [u8; 8] = *b"FFSJRNL\x01";

/// Length and checksum, four bytes each, little-endian.
pub(super) const HEAD: usize = 8;

/// A length beyond this one is no length: an activation has at most some tens of MB of logs.
const LONGEST: usize = 1 << 28;

/// Appends one frame around what `write` appends, and returns the frame's length.
pub(super) fn encode(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> usize {
    let start = out.len();
    out.extend([0; HEAD]);
    write(out);
    let length = u32::try_from(out.len() - start - HEAD).expect("an entry is much smaller than 4 GiB");
    let length = length.to_le_bytes();
    let sum = checksum(length, &out[start + HEAD..]);
    out[start..start + 4].copy_from_slice(&length);
    out[start + 4..start + HEAD].copy_from_slice(&sum.to_le_bytes());
    out.len() - start
}

/// How long the payload of the frame at the start of `bytes` is, by its head; none if that is none.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk()?;
    let size = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    (1..=LONGEST).contains(&size).then_some(size)
}

/// The payload of the frame at the start of `bytes`; none if it is not whole.
pub(super) fn decode(bytes: &[u8]) -> Option<&[u8]> {
    let size = length(bytes)?;
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let [l0, l1, l2, l3, sum @ ..] = *head;
    let length = [l0, l1, l2, l3];
    let payload = rest.get(..size)?;
    (checksum(length, payload) == u32::from_le_bytes(sum)).then_some(payload)
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}
