/* Stands in for CUDA's driver: writes each call to the file that FAKE_CUDA_CALLS names. */
#include <stdio.h>
#include <stdlib.h>

static int wrote(const char *call, const void *memory, size_t bytes) {
    FILE *calls = fopen(getenv("FAKE_CUDA_CALLS"), "a");
    if (!calls)
        return 999;
    fprintf(calls, "%s %p %zu\n", call, memory, bytes);
    return fclose(calls) == 0 ? 0 : 999;
}

int cuCtxGetCurrent(void **context) {
    const char *without = getenv("FAKE_CUDA_WITHOUT_CONTEXT");
    *context = without ? NULL : (void *)context;
    return 0;
}

int cuMemHostRegister_v2(void *memory, size_t bytes, unsigned flags) {
    const char *error = getenv("FAKE_CUDA_ERROR");
    if (error)
        return atoi(error);
    return flags == 1 ? wrote("register", memory, bytes) : 1;
}

int cuMemHostUnregister(void *memory) { return wrote("unregister", memory, 0); }
