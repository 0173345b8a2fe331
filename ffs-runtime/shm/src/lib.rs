//! Rings: single-producer single-consumer buffers in POSIX shared memory, by which the lanes of a pipeline hand
//! tensors to each other without copying them.
//!
//! A ring is one file under `/dev/shm`, mapped read-write by two processes. The [`Producer`] makes it, reserves a slot
//! ([`FrameMut`]), fills it in place and commits; the [`Consumer`] receives a [`Frame`], reads or changes it in place
//! and releases the slot by dropping it. Who waits spins briefly, then sleeps on a futex; an idle ring costs nothing.
//! A [`Handle`] ends the ring from any thread, and whoever waits in it, in either process, wakes at once.
//!
//! Left to others: which rings there are and how large (the assignment), who may open them (the instance's own tmpfs,
//! mode and uid), whether the process at the other end still lives (the control socket; a lane that learns of a death
//! poisons its rings), and what JSON and flags mean.
//!
//! # The bytes, ABI version 2
//!
//! Numbers are those of the machine (little-endian on all we run on). What is not named is zero and reserved.
//!
//! ```text
//!  file        0 ┌──────────────────────────────────────────────────────────────────────────────┐
//!                │ control block, 4096 bytes                                                    │
//!   header_bytes ├──────────────────────────────────────────────────────────────────────────────┤
//!                │ slot 0: slot_stride bytes, of which a frame may use slot_bytes               │
//!                ├──────────────────────────────────────────────────────────────────────────────┤
//!                │ slot 1 …   frame n is in slot n mod slots                                    │
//!          bytes └──────────────────────────────────────────────────────────────────────────────┘
//!
//!  control block                                                      written by
//!     0  u64  magic          "FFSRING\0"                              producer, before the ring has its name
//!     8  u32  abi            2                                        producer, before
//!    12  u32  features       0; a bit that a reader does not know means it must not read
//!    16  u64  header_bytes   where slot 0 begins: 4096                producer, before
//!    24  u64  bytes          size of the file                         producer, before
//!    32  u64  slot_bytes     multiple of 64, at least 2496            producer, before
//!    40  u64  slot_stride    multiple of 64, at least slot_bytes      producer, before
//!    48  u32  slots          1 to 65536                               producer, before
//!    52  u32  consumers      0, then 1 (compare and swap)             consumer, when it opens
//!    56  u64  epoch          of the assignment                        producer, before
//!   128  u64  tail           slots given back                         consumer, Release
//!   256  u32  frames         1 while the consumer sleeps, else 0      both; futex
//!   384  u32  room           1 while the producer sleeps, else 0      both; futex
//!   512  u32  state          bit 0: closed by the producer, bit 1: by the consumer, bit 2: poisoned    both, fetch_or
//!                           other bits never
//!   640  u32  claimed        0, then 1 (compare and swap)             whoever poisons first
//!   644  u32  reason         1 peer died, 2 stopped, 3 corrupt, 4 failed
//!   648  u32  text_bytes     0 to 240; note and text are complete before `state` says poisoned
//!   656  u8[240] text        UTF-8
//!
//!  slot
//!     0  u64  turn           0, then the number of its frame, counted from 1; stored last, Release
//!     8  u16  kind           0 void (pass over it), 1 tensors, 2 JSON, 3 error, 4 control
//!    10  u16  tensors        0 to 16
//!    12  u32  flags          the two ends' own
//!    16  u8[16] request      activation id, in the order of its hexadecimal digits
//!    32  u64  deadline_ms    since 1970, 0 for none
//!    40  u64  json_at        from the beginning of the slot; behind the last tensor
//!    48  u64  json_bytes     0 for none
//!    56  u64  sent_ns        CLOCK_MONOTONIC at the commit
//!    64  descriptor of tensor 0, then 152 bytes further that of tensor 1, …
//!           0  u16  dtype    1 float16, 2 bfloat16, 3 float32, 4 float64, 5 int8, 6 uint8, 7 int16, 8 int32,
//!                            9 int64, 10 bool, 11 bytes
//!           2  u16  ndim     0 to 8
//!           8  u64  at       from the beginning of the slot; multiple of 64, at least 2496, behind the tensor before
//!          16  u64  bytes    (1 + Σ (size − 1) · stride) · size of dtype; 0 if a dimension is 0
//!          24  u64  size, i64 stride of dimension 0, then of dimension 1, …; stride in elements, not negative
//!  2496  the tensors, then the JSON
//! ```
//!
//! # The steps
//! For whoever takes an end in another language; `include/ffs_ring.h` has these bytes, `tests/c/reader.c` these steps.
//! - The **consumer** maps the file, checks a copy of what is fixed, and changes `consumers` from 0 to 1. Frame n is there
//!   when the `turn` of slot n mod slots is n + 1 (Acquire); before that it is n + 1 − slots, or 0 in the first round. It
//!   reads the slot, gives it back by storing n + 1 to `tail` (Release) when all slots before are given back too, and
//!   rings `room`. To end in good order it sets bit 1 of `state` and wakes both bells.
//! - The **producer** may write frame n when `tail` (Acquire) is above n − slots. It writes all but the turn, stores the
//!   turn (Release) and rings `frames`. To end in good order it sets bit 0 of `state` and wakes both bells.
//! - **To sleep** at a bell: swap 1 in, full fence, look once more at turn or tail and at `state`, futex wait for 1, swap
//!   0 in, look again. **To ring** it: full fence; if it does not hold 0, swap 0 in and futex wake. The futexes are shared ones.
//! - `state` is looked at before the turn: what was published before the ring was closed is still read, what was published
//!   before it was poisoned is not.
//!
//! # Invariants
//! 1. Frame n + slots is written after `tail` has passed frame n. A slot is the consumer's from its turn to `tail`, and
//!    the producer's otherwise.
//! 2. What the other process wrote is copied, then checked, then used; what fails is an [`Error::Corrupt`] and the
//!    ring is poisoned. Only tensors are used where they lie, and all bytes are valid in them.
//! 3. What this process has checked or decided (geometry, its own index, its verdict, the frames in its hands) it keeps
//!    for itself.
//! 4. Nobody sleeps before having told so, and nobody tells before looking once more: see `futex.rs`.
//!
//! What cannot be defended: a peer that truncates the file makes the next access raise SIGBUS. It is of the same tenant.
//! A process that forks must not use its rings in the child.
//!
//! # The model
//! `tests/loom.rs` runs this code under every interleaving and every reordering that the memory model allows:
//! ```text
//! RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p shm --test loom --release
//! ```

#[cfg(all(feature = "baseline", not(loom)))]
pub mod baseline;
mod producer;
mod reservation;
mod consumer;
mod delivery;
mod ring;
#[cfg(loom)]
mod model;
#[cfg(not(loom))]
mod numa;
#[cfg(not(loom))]
mod pin;
#[cfg(not(loom))]
mod segment;
mod sheet;
mod name;
mod header;
mod layout;
mod frame;
mod tensor;
mod futex;
mod spin;
mod clock;
mod error;
mod dtype;
mod sync;

pub use consumer::Consumer;
pub use delivery::Frame;
pub use dtype::Dtype;
pub use error::{Error, Fault, LayoutError, Poison, Reason, Side};
pub use frame::{ALIGN, Kind, MAX_TENSORS};
pub use header::{ABI_VERSION, MAX_SLOTS};
pub use layout::FrameLayout;
#[cfg(not(loom))]
pub use numa::prefer_node;
pub use producer::{Producer, RingSpec};
pub use reservation::FrameMut;
pub use ring::Handle;
pub use spin::Spin;
pub use tensor::{MAX_DIMS, TensorLayout};

/// Both ends of a ring in the model's memory.
///
/// # Errors
/// [`Fault`] for a geometry that no ring can have.
#[cfg(loom)]
pub fn modelled(slots: u32, slot_bytes: u64) -> Result<(Producer, Consumer), Fault> {
    let name = name::Name::of(std::path::Path::new("/dev/shm/model")).expect("it is a plain name");
    let (ours, theirs) = model::create(slots, slot_bytes)?;
    Ok((Producer::of(ours, name.clone()), Consumer::of(theirs, name)))
}
