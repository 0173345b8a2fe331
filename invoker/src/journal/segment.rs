//! The files of a journal: numbered, written one after the other, deleted oldest first.

use super::frame::{self, MAGIC};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
        let bytes = segment.read_all()?;
        segment.bytes = frames(&bytes, number, &mut each);
        if segment.bytes < bytes.len() as u64 {
            tracing::warn!(
                segment = number,
                kept = segment.bytes,
                dropped = bytes.len() as u64 - segment.bytes,
                "the end of the journal is not whole, as after a power cut"
            );
        }
        Ok(segment)
    }

    /// The whole file. It is bounded by the segment's size and one entry.
    pub(super) fn read_all(&self) -> io::Result<Vec<u8>> {
        let length = self.file.metadata()?.len();
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// Calls `each` with every whole frame, and returns where they end.
pub(super) fn frames(bytes: &[u8], segment: u64, each: &mut impl FnMut(Place, &[u8])) -> u64 {
    if !bytes.starts_with(&MAGIC) {
        return 0;
    }
    let mut offset = MAGIC.len();
    while let Some(payload) = frame::decode(&bytes[offset..]) {
        let length = frame::HEAD + payload.len();
        let (Ok(at), Ok(size)) = (u32::try_from(offset), u32::try_from(length)) else {
            break; // no segment grows so large
        };
        let place = Place {
            segment,
            offset: at,
            length: size,
        };
        each(place, payload);
        offset += length;
    }
    offset as u64
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
