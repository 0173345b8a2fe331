/* Reads a ring to its end and prints one line for each frame: number, kind, request, sum of the bytes of each tensor,
 * JSON. Usage: reader /dev/shm/NAME EPOCH. Ends with 0 when the producer closes the ring, else with 1 and a sentence. */
#include "ffs_ring.h"
#include <fcntl.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void refuse(const char *what, uint64_t found) {
    fprintf(stderr, "%s is %" PRIu64 "\n", what, found);
    exit(1);
}

static struct ffs_ring_header *ring;
/* Copied once and checked: the producer may change them at any time. */
static uint64_t slots, slots_at, stride, slot_bytes;

static void open_ring(const char *path, uint64_t epoch) {
    struct stat file;
    int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &file) != 0 || file.st_uid != geteuid() || file.st_size < FFS_RING_HEADER_BYTES)
        refuse("the file", 0);
    ring = mmap(NULL, file.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ring == MAP_FAILED)
        refuse("the mapping", 0);
    if (ring->magic != FFS_RING_MAGIC || ring->abi != FFS_RING_ABI || ring->features != 0)
        refuse("abi", ring->abi);
    if (ring->epoch != epoch)
        refuse("epoch", ring->epoch);
    slots = ring->slots, slots_at = ring->header_bytes, stride = ring->slot_stride, slot_bytes = ring->slot_bytes;
    uint64_t size = file.st_size;
    if (slots == 0 || slots > FFS_RING_MAX_SLOTS || slot_bytes < FFS_RING_DATA_AT || slot_bytes > stride ||
        stride > size / slots || slots_at < FFS_RING_HEADER_BYTES || slots_at > size - slots * stride ||
        (slots_at | stride | slot_bytes) % FFS_RING_ALIGN != 0)
        refuse("the geometry's slots", slots);
    uint32_t nobody = 0;
    if (!atomic_compare_exchange_strong(&ring->consumers, &nobody, 1))
        refuse("consumers", nobody);
}

/* Waits for the turn of the slot to change from `stale`; false when the ring has ended. */
static bool wait_for(_Atomic uint64_t *turn, uint64_t stale) {
    for (;;) {
        uint32_t state = atomic_load_explicit(&ring->state, memory_order_acquire); /* before the turn */
        if (state & FFS_RING_POISONED)
            refuse("poisoned, for reason", ring->reason);
        if (state > FFS_RING_POISONED)
            refuse("state", state);
        if (atomic_load_explicit(turn, memory_order_acquire) != stale)
            return true;
        if (state & FFS_RING_PRODUCER_CLOSED)
            return false;
        atomic_exchange(&ring->frames, FFS_RING_ASLEEP);
        atomic_thread_fence(memory_order_seq_cst); /* pairs with the producer's, between turn and bell */
        if (atomic_load(turn) == stale && atomic_load(&ring->state) == 0)
            syscall(SYS_futex, &ring->frames, FUTEX_WAIT, FFS_RING_ASLEEP, NULL);
        atomic_exchange(&ring->frames, FFS_RING_AWAKE);
    }
}

static void give_back(uint64_t frames) {
    atomic_store_explicit(&ring->tail, frames, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst); /* pairs with the producer's, between bell and tail */
    if (atomic_exchange(&ring->room, FFS_RING_AWAKE) != FFS_RING_AWAKE)
        syscall(SYS_futex, &ring->room, FUTEX_WAKE, 1);
}

static void print(const uint8_t *slot, uint64_t number) {
    struct ffs_ring_frame frame; /* a copy: what was checked is what is used */
    memcpy(&frame, slot, sizeof frame);
    if (frame.tensors > FFS_RING_MAX_TENSORS)
        refuse("frame.tensors", frame.tensors);
    printf("%" PRIu64 " %u ", number, frame.kind);
    for (int i = 0; i < 16; i++)
        printf("%02x", frame.request[i]);
    uint64_t end = FFS_RING_DATA_AT;
    for (int t = 0; t < frame.tensors; t++) {
        uint64_t at = frame.tensor[t].at, bytes = frame.tensor[t].bytes, sum = 0;
        if (at < end || at > slot_bytes || bytes > slot_bytes - at)
            refuse("tensor.at", at);
        for (uint64_t i = 0; i < bytes; i++)
            sum += slot[at + i];
        printf(" %u:%" PRIu64, frame.tensor[t].dtype, sum);
        end = at + bytes;
    }
    if (frame.json_bytes > 0) {
        if (frame.json_at < end || frame.json_at > slot_bytes || frame.json_bytes > slot_bytes - frame.json_at)
            refuse("frame.json_at", frame.json_at);
        printf(" %.*s", (int)frame.json_bytes, (const char *)slot + frame.json_at);
    }
    printf("\n");
}

int main(int count, char **arguments) {
    if (count != 3)
        refuse("the number of arguments", count - 1);
    open_ring(arguments[1], strtoull(arguments[2], NULL, 10));
    for (uint64_t number = 0;; number++) {
        uint8_t *slot = (uint8_t *)ring + slots_at + number % slots * stride;
        _Atomic uint64_t *turn = &((struct ffs_ring_frame *)slot)->turn;
        if (!wait_for(turn, number < slots ? 0 : number + 1 - slots))
            return 0;
        if (atomic_load_explicit(turn, memory_order_acquire) != number + 1)
            refuse("turn", *turn);
        if (((struct ffs_ring_frame *)slot)->kind != FFS_RING_VOID)
            print(slot, number);
        give_back(number + 1);
    }
}
