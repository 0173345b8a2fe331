/* Stands in for CUDA's driver: writes each call to the file that FAKE_CUDA_CALLS names. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int wrote(const char *call, const void *memory, size_t bytes) {
    FILE *calls = fopen(getenv("FAKE_CUDA_CALLS"), "a");
    if (!calls)
        return 999;
    fprintf(calls, "%s %p %zu\n", call, memory, bytes);
    return fclose(calls) == 0 ? 0 : 999;
}

/* The first thread that asks is the one that uses CUDA; another has a context only while it has pushed that one. */
static int the_context;
static pid_t user;
static __thread void *pushed;

int cuCtxGetCurrent(void **context) {
    if (!user)
        user = gettid();
    int without = getenv("FAKE_CUDA_WITHOUT_CONTEXT") != NULL;
    *context = without ? NULL : gettid() == user ? &the_context : pushed;
    return 0;
}

int cuCtxPushCurrent_v2(void *context) {
    pushed = context;
    return context == &the_context ? 0 : 201;
}

int cuCtxPopCurrent_v2(void **context) {
    *context = pushed;
    pushed = NULL;
    return 0;
}

int cuMemHostRegister_v2(void *memory, size_t bytes, unsigned flags) {
    const char *error = getenv("FAKE_CUDA_ERROR");
    if (error)
        return atoi(error);
    return flags == 1 ? wrote("register", memory, bytes) : 1;
}

int cuMemHostUnregister(void *memory) {
    void *context;
    cuCtxGetCurrent(&context);
    return context ? wrote("unregister", memory, 0) : 201; /* CUDA_ERROR_INVALID_CONTEXT */
}
