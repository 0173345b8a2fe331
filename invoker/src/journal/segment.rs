//! The files of a journal: numbered, written one after the other, deleted oldest first.

use super::frame::{self, MAGIC};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much of a file is read at once.
const PIECE: usize = 64 << 10;

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u32,
    pub(super) length: u32,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) file: Arc<File>,
    /// Of whole frames, and the head.
    pub(super) bytes: u64,
    /// Of frames that somebody still needs.
    pub(super) live: u64,
}

impl Segment {
    /// A new file that holds nothing yet.
    pub(super) fn create(folder: &Path, number: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path(folder, number))?;
        file.write_all_at(&MAGIC, 0)?;
        Ok(Self {
            number,
            file: Arc::new(file),
            bytes: MAGIC.len() as u64,
            live: 0,
        })
    }

    /// Opens a file of an earlier process, and calls `each` with every frame's place and payload up to the
    /// first one that is not whole. Nothing is appended to it any more.
    pub(super) fn open(folder: &Path, number: u64, mut each: impl FnMut(Place, &[u8])) -> io::Result<Self> {
        let file = File::open(path(folder, number))?;
        let mut segment = Self {
            number,
            file: Arc::new(file),
            bytes: 0,
            live: 0,
        };
        let length = segment.file.metadata()?.len();
        segment.bytes = frames(&segment.file, number, &mut |place, payload| {
            each(place, payload);
            Ok(())
        })?;
        if segment.bytes < length {
            tracing::warn!(
                segment = number,
                kept = segment.bytes,
                dropped = length - segment.bytes,
                "the end of the journal is not whole, as after a power cut"
            );
        }
        Ok(segment)
    }
}

/// Calls `each` with every whole frame, and returns where they end. A file is read piece by piece: memory that was once
/// taken for a whole one would stay with the process.
pub(super) fn frames(
    file: &File,
    segment: u64,
    each: &mut impl FnMut(Place, &[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(PIECE, At { file, offset: 0 });
    let mut bytes = Vec::new();
    if !more(&mut reader, &mut bytes, MAGIC.len())? || bytes != MAGIC {
        return Ok(0);
    }
    let mut offset = MAGIC.len() as u64;
    loop {
        bytes.clear();
        let head = more(&mut reader, &mut bytes, frame::HEAD)?;
        let Some(length) = frame::length(&bytes).filter(|_| head) else {
            return Ok(offset);
        };
        let whole = more(&mut reader, &mut bytes, length)?;
        let Some(payload) = frame::decode(&bytes).filter(|_| whole) else {
            return Ok(offset);
        };
        let (Ok(at), Ok(size)) = (u32::try_from(offset), u32::try_from(bytes.len())) else {
            return Ok(offset); // no segment grows so large
        };
        let place = Place {
            segment,
            offset: at,
            length: size,
        };
        each(place, payload)?;
        offset += u64::from(size);
    }
}

/// Appends the next `count` bytes; false if the file has fewer.
fn more(reader: &mut impl Read, bytes: &mut Vec<u8>, count: usize) -> io::Result<bool> {
    let read = reader.by_ref().take(count as u64).read_to_end(bytes)?;
    Ok(read == count)
}

/// Reads a file that others read and write, too.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// The payload of a frame.
///
/// # Errors
/// If it cannot be read, or is not what was written.
pub(super) fn read(file: &File, place: Place) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; place.length as usize];
    file.read_exact_at(&mut bytes, u64::from(place.offset))?;
    let payload = frame::decode(&bytes).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let head = bytes.len() - payload.len();
    bytes.drain(..head);
    Ok(bytes)
}

pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:010}.journal"))
}

/// The numbers of the files that are there, in order.
pub(super) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".journal"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}
