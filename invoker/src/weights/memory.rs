//! Memory with the content of one file, which nobody can change any more: a sealed memfd. It is there as long as
//! anybody holds or maps it, and no longer: a killed daemon leaves nothing behind.

use super::header::{self, LENGTH, Malformed};
use super::ledger::Digest;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the file is not a whole safetensors file: {0}")]
    Malformed(#[from] Malformed),
    #[error("the file became shorter while it was read")]
    Shortened,
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    #[error("memory for weights cannot be made")]
    Make(#[source] io::Error),
}

/// Sealed memory.
#[derive(Debug)]
pub(super) struct Memory {
    file: File,
    bytes: u64,
}

impl Memory {
    /// Reads all `bytes` of `file`, a safetensors file; also says what the content is called.
    ///
    /// # Errors
    /// It is no such file, or it cannot be read.
    pub(super) fn read(file: &File, bytes: u64) -> Result<(Self, Digest), Error> {
        check(file, bytes)?;
        let sealable = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let made = memfd_create("ffs-weights", sealable).map_err(|error| Error::Make(error.into()))?;
        let memory = Self {
            file: made.into(),
            bytes,
        };
        let mut hash = Sha256::new();
        let mut piece = vec![0; PIECE];
        each_piece(bytes, |at, length| {
            let piece = &mut piece[..length];
            read(file, piece, at)?;
            hash.update(&piece);
            memory.file.write_all_at(piece, at).map_err(Error::Make)
        })?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        fcntl_add_seals(&memory.file, seals).map_err(|error| Error::Make(error.into()))?;
        // Whose file it is may write into it while it is read: what counts is what has been read.
        check(&memory.file, bytes)?;
        Ok((memory, hash.finalize().into()))
    }

    /// Whether `file`, which is of the same size, has the same content.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn equals(&self, file: &File) -> Result<bool, Error> {
        let (mut ours, mut theirs) = (vec![0; PIECE], vec![0; PIECE]);
        let mut equal = true;
        each_piece(self.bytes, |at, length| {
            if equal {
                let (ours, theirs) = (&mut ours[..length], &mut theirs[..length]);
                read(&self.file, ours, at)?;
                read(file, theirs, at)?;
                equal = ours == theirs;
            }
            Ok(())
        })?;
        Ok(equal)
    }

    /// Opens it to be given away, for reading only.
    ///
    /// # Errors
    /// There is no `/proc`, or no descriptor is left.
    pub(super) fn reader(&self) -> Result<File, Error> {
        File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd())).map_err(Error::Make)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn check(file: &File, bytes: u64) -> Result<(), Error> {
    if bytes < LENGTH {
        return Err(Malformed::Short(bytes).into());
    }
    let mut first = [0; LENGTH as usize];
    read(file, &mut first, 0)?;
    let mut header = vec![0; header::length(first, bytes)? as usize];
    read(file, &mut header, LENGTH)?;
    Ok(header::check(&header, bytes)?)
}

fn each_piece(bytes: u64, mut each: impl FnMut(u64, usize) -> Result<(), Error>) -> Result<(), Error> {
    for at in (0..bytes).step_by(PIECE) {
        each(at, PIECE.min((bytes - at) as usize))?;
    }
    Ok(())
}

fn read(file: &File, piece: &mut [u8], at: u64) -> Result<(), Error> {
    file.read_exact_at(piece, at).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => Error::Shortened,
        _ => Error::Read(error),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Write;

    /// A file of one tensor with these bytes.
    pub(in super::super) fn file(content: &[u8]) -> File {
        let header = format!(
            r#"{{"w":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#,
            content.len()
        );
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&(header.len() as u64).to_le_bytes())
            .expect("room");
        file.write_all(header.as_bytes()).expect("room");
        file.write_all(content).expect("room");
        file
    }

    pub(in super::super) fn size(file: &File) -> u64 {
        file.metadata().expect("its size").len()
    }

    fn content() -> Vec<u8> {
        let bytes = (0..3 * PIECE as u32 / 2).map(|number| (number % 251) as u8);
        bytes.collect() // more than one piece, and not whole ones
    }

    #[test]
    fn memory_has_the_files_content_and_its_name() {
        let file = file(&content());
        let bytes = size(&file);
        let (memory, digest) = Memory::read(&file, bytes).expect("a whole file");

        let mut whole = vec![0; bytes as usize];
        file.read_exact_at(&mut whole, 0).expect("readable");
        let mut read = vec![0; bytes as usize];
        let reader = memory.reader().expect("open");
        reader.read_exact_at(&mut read, 0).expect("readable");
        assert!(whole == read);
        assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(&whole)));
        assert!(memory.equals(&file).expect("readable"));
    }

    #[test]
    fn nobody_can_change_it() {
        let (memory, _) = Memory::read(&file(b"weights"), size(&file(b"weights"))).expect("a whole file");
        let reader = memory.reader().expect("open");
        assert!(reader.write_at(b"poison", 0).is_err());
        assert!(memory.file.write_at(b"poison", 0).is_err(), "not even we");
        assert!(memory.file.set_len(1).is_err());
        assert!(fcntl_add_seals(&memory.file, SealFlags::empty()).is_err());
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        if let Ok(writer) = File::options().write(true).open(path) {
            assert!(
                writer.write_at(b"poison", 0).is_err(),
                "opened anew it is sealed, too"
            );
        }
    }

    #[test]
    fn one_bit_makes_another_content() {
        let (memory, _) = Memory::read(&file(&content()), size(&file(&content()))).expect("a whole file");
        let mut other = content();
        let last = other.len() - 1;
        other[last] ^= 1;
        assert!(!memory.equals(&file(&other)).expect("readable"));
    }

    #[test]
    fn what_is_cut_off_or_no_such_file_is_refused() {
        let whole = file(b"weights");
        let bytes = size(&whole);
        whole.set_len(bytes - 1).expect("ours");
        let error = Memory::read(&whole, bytes).expect_err("cut off after it was measured");
        assert!(matches!(error, Error::Shortened), "{error}");
        let error = Memory::read(&whole, bytes - 1).expect_err("cut off before");
        assert!(
            matches!(error, Error::Malformed(Malformed::End { .. })),
            "{error}"
        );

        let mut text = tempfile::tempfile().expect("a file");
        text.write_all(b"#!/bin/sh\necho these are no weights\n")
            .expect("room");
        let error = Memory::read(&text, size(&text)).expect_err("text");
        assert!(
            matches!(error, Error::Malformed(Malformed::Length { .. })),
            "{error}"
        );
        let empty = tempfile::tempfile().expect("a file");
        let error = Memory::read(&empty, 0).expect_err("empty");
        assert!(matches!(error, Error::Malformed(Malformed::Short(0))), "{error}");
    }
}
