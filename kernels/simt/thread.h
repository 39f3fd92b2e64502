/* thread.h: what force-inlined wrappers (host.h) see of the running thread, and the calls they make. Not for others. */
#ifndef KVS_KERNELS_SIMT_THREAD_H
#define KVS_KERNELS_SIMT_THREAD_H

#include "kernels/simt/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One for all threads of a block. */
typedef struct kvs_simt_view {
    kvs_dim3 block_index, block_dim, grid_dim;
    unsigned char *shared;
} kvs_simt_view;

typedef struct kvs_simt_thread {
    kvs_dim3 index;
    int watched; /* accesses are to be checked or recorded */
    const kvs_simt_view *view;
} kvs_simt_thread;

/* The kernel thread that runs on this thread of the host. */
extern __thread kvs_simt_thread *kvs_simt_self;

/* Where in the source; the file's name outlives the program's run. */
typedef struct kvs_simt_place {
    const char *file;
    int line, column; /* column: 0 where the compiler does not tell */
} kvs_simt_place;

/* Where all lanes of a warp meet. */
typedef enum kvs_simt_meeting {
    KVS_SIMT_SHFL,
    KVS_SIMT_SHFL_XOR,
    KVS_SIMT_SHFL_DOWN,
    KVS_SIMT_BALLOT,
    KVS_SIMT_ANY,
    KVS_SIMT_ALL,
    KVS_SIMT_SYNCWARP,
    KVS_SIMT_SYNCTHREADS,
    KVS_SIMT_LDMATRIX_ROWS,
    KVS_SIMT_LDMATRIX_COLUMNS,
    KVS_SIMT_MMA,
    KVS_SIMT_MEETINGS
} kvs_simt_meeting;

/* Checks and records one access before it is made; does not return when it must not be made. */
void kvs_simt_touch(kvs_simt_kind kind, const void *address, uint32_t width, kvs_simt_place place);

/* Waits until every live lane of the warp has come (SYNCTHREADS: every live thread of the block), then acts on all at
 * once: `in` and `out` (bytes each; matrix operations have fixed sizes) and `argument` are this lane's. */
void kvs_simt_meet(kvs_simt_meeting meeting, const void *in, void *out, uint32_t bytes, uint32_t argument,
                   kvs_simt_place place);

void kvs_simt_copy_begin(void *shared, const void *global, kvs_simt_place place);
void kvs_simt_copy_commit(void);
void kvs_simt_copy_wait(uint32_t open);

typedef struct kvs_simt_launch {
    const char *text; /* the launch's arguments in the source: begins with the kernel */
    kvs_dim3 grid, block;
    size_t shared_bytes;
    void (*run)(const void *closure); /* calls the kernel with its arguments */
    const void *closure;
} kvs_simt_launch;

/* Runs a whole grid. Returns 0, or the kvs_simt_fault that the report explains. */
int kvs_simt_run(const kvs_simt_launch *launch);

#ifdef __cplusplus
}
#endif
#endif
