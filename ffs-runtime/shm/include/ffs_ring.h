/*
 * The bytes of a ring, ABI version 2: for programs in other languages that take an end of one.
 *
 * The documentation of the crate (src/lib.rs) draws them and says in which order they are read and written. Numbers are
 * those of the machine; what has no name is zero and reserved. C11, no dependencies.
 */
#ifndef FFS_RING_H
#define FFS_RING_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define FFS_RING_MAGIC UINT64_C(0x00474e4952534646) /* "FFSRING\0" */
#define FFS_RING_ABI 2
#define FFS_RING_HEADER_BYTES 4096
#define FFS_RING_MAX_SLOTS 65536
#define FFS_RING_ALIGN 64
#define FFS_RING_MAX_TENSORS 16
#define FFS_RING_MAX_DIMS 8
#define FFS_RING_TEXT_BYTES 240
/* Where in a slot the first tensor may begin. */
#define FFS_RING_DATA_AT 2496

enum ffs_ring_state { FFS_RING_PRODUCER_CLOSED = 1, FFS_RING_CONSUMER_CLOSED = 2, FFS_RING_POISONED = 4 };
enum ffs_ring_asleep { FFS_RING_AWAKE = 0, FFS_RING_ASLEEP = 1 };
enum ffs_ring_reason {
    FFS_RING_PEER_DIED = 1,
    FFS_RING_STOPPED = 2,
    FFS_RING_CORRUPT = 3,
    FFS_RING_FAILED = 4
};
enum ffs_ring_kind {
    FFS_RING_VOID = 0, /* given up by its producer: pass over it */
    FFS_RING_TENSORS = 1,
    FFS_RING_JSON = 2,
    FFS_RING_ERROR = 3,
    FFS_RING_CONTROL = 4
};
enum ffs_ring_dtype {
    FFS_RING_FLOAT16 = 1,
    FFS_RING_BFLOAT16 = 2,
    FFS_RING_FLOAT32 = 3,
    FFS_RING_FLOAT64 = 4,
    FFS_RING_INT8 = 5,
    FFS_RING_UINT8 = 6,
    FFS_RING_INT16 = 7,
    FFS_RING_INT32 = 8,
    FFS_RING_INT64 = 9,
    FFS_RING_BOOL = 10,
    FFS_RING_BYTES = 11
};

/* First bytes of the file. */
struct ffs_ring_header {
    _Alignas(128) uint64_t magic;
    uint32_t abi;
    uint32_t features; /* 0; a bit that a reader does not know means that it must not read */
    uint64_t header_bytes; /* where slot 0 begins */
    uint64_t bytes;        /* size of the file */
    uint64_t slot_bytes;   /* what a frame may use of a slot */
    uint64_t slot_stride;  /* from one slot to the next */
    uint32_t slots;
    _Atomic uint32_t consumers; /* 0, then 1 by compare and swap */
    uint64_t epoch;
    _Alignas(128) _Atomic uint64_t tail;   /* slots given back; consumer, release */
    _Alignas(128) _Atomic uint32_t frames; /* enum ffs_ring_asleep of the consumer; futex */
    _Alignas(128) _Atomic uint32_t room;   /* enum ffs_ring_asleep of the producer; futex */
    _Alignas(128) _Atomic uint32_t state;  /* enum ffs_ring_state, by fetch-or */
    _Alignas(128) _Atomic uint32_t claimed; /* 0, then 1 by compare and swap: who may leave a note */
    uint32_t reason;
    uint32_t text_bytes;
    uint32_t reserved;
    uint8_t text[FFS_RING_TEXT_BYTES];
};

struct ffs_ring_dim {
    uint64_t size;
    int64_t stride; /* in elements, not negative */
};

struct ffs_ring_tensor {
    uint16_t dtype;
    uint16_t ndim;
    uint32_t reserved;
    uint64_t at; /* from the beginning of the slot */
    uint64_t bytes;
    struct ffs_ring_dim dims[FFS_RING_MAX_DIMS];
};

/* First bytes of a slot. */
struct ffs_ring_frame {
    _Atomic uint64_t turn; /* 0, then the number of its frame counted from 1; stored last, release */
    uint16_t kind;
    uint16_t tensors;
    uint32_t flags;
    uint8_t request[16];
    uint64_t deadline_ms;
    uint64_t json_at; /* from the beginning of the slot */
    uint64_t json_bytes;
    uint64_t sent_ns;
    struct ffs_ring_tensor tensor[FFS_RING_MAX_TENSORS];
};

_Static_assert(offsetof(struct ffs_ring_header, slots) == 48, "slots");
_Static_assert(offsetof(struct ffs_ring_header, epoch) == 56, "epoch");
_Static_assert(offsetof(struct ffs_ring_header, tail) == 128, "tail");
_Static_assert(offsetof(struct ffs_ring_header, frames) == 256, "frames");
_Static_assert(offsetof(struct ffs_ring_header, room) == 384, "room");
_Static_assert(offsetof(struct ffs_ring_header, state) == 512, "state");
_Static_assert(offsetof(struct ffs_ring_header, claimed) == 640, "claimed");
_Static_assert(offsetof(struct ffs_ring_header, text) == 656, "text");
_Static_assert(offsetof(struct ffs_ring_frame, request) == 16, "request");
_Static_assert(offsetof(struct ffs_ring_frame, tensor) == 64, "tensor");
_Static_assert(sizeof(struct ffs_ring_tensor) == 152, "a descriptor");
_Static_assert(sizeof(struct ffs_ring_frame) == FFS_RING_DATA_AT, "header and descriptors");

#endif
