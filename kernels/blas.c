#include "kernels/blas.h"

#include <cblas.h>
#include <omp.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
    BUFFER_BYTES = 32 << 22, /* BUFFER_SIZE of OpenBLAS 0.3.21 on x86-64 and 64-bit Arm */
    SIDE = 192,              /* of matrices large enough for the buffer to be used */
    CALLS = 4                /* a thread: so that those of all threads overlap */
};

/* Calls of all threads at once, so that each has its buffer. It needs no other memory; memory [threads +
 * 1][SIDE][SIDE].
 */
static void call_all(int threads, float *memory) {
#pragma omp parallel num_threads(threads)
    {
        float *product = memory + (size_t)(omp_get_thread_num() + 1) * SIDE * SIDE;
#pragma omp barrier
        for (int i = 0; i < CALLS; i++)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, SIDE, SIDE, SIDE, 1.0f, memory, SIDE, memory, SIDE,
                        0.0f, product, SIDE);
    }
}

static int has_room(size_t bytes) {
    void *room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return room != MAP_FAILED && munmap(room, bytes) == 0;
}

kvs_status kvs_blas_begin(kvs_error *error) {
    static int ready;
    int threads = omp_get_max_threads();
    openblas_set_num_threads(1);
    if (threads <= ready) return KVS_OK;
    size_t bytes = (size_t)(threads - ready) * BUFFER_BYTES;
    float *memory = calloc(((size_t)threads + 1) * SIDE * SIDE, sizeof *memory);
    int started = 0;
#pragma omp parallel num_threads(threads) reduction(+ : started)
    started++; /* the stacks of the threads are there before the room is measured */
    if (memory == NULL || started == 0 || !has_room(bytes)) {
        free(memory);
        return kvs_fail(error, KVS_INPUT, NULL, NULL,
                        "out of memory: OpenBLAS needs %zu MiB of address space for %d more threads", bytes >> 20,
                        threads - ready);
    }
    call_all(threads, memory);
    free(memory);
    ready = threads;
    return KVS_OK;
}
