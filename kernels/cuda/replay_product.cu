/* replay_product.cu: the two matrix products of attention in binary32, tile by tile.
 *
 * 256 threads hold a tile of 64 x 64 sums, 4 x 4 each. Factors go through shared memory 16 terms at a time, laid so
 * that a thread reads its four rows and its four columns with one access each. Sums run over terms in ascending order.
 */
#include "kernels/replay_kernels.h"
#include "kernels/simt/simt.h"

namespace {

enum { TILE = 64, STEP = 16, THREADS = 256, PAD = TILE + 4, EACH = 4 };
enum { FACTOR_FLOATS = STEP * PAD, SHARED_BYTES = 2 * FACTOR_FLOATS * 4 };

struct alignas(16) four {
    float at[4];
};

KVS_DEVICE int index_of(const kvs_replay_rows &rows, int row) {
    return rows.first + row % rows.positions;
}

KVS_DEVICE int64_t sample_of(const kvs_replay_rows &rows, int row) {
    return (int64_t)(row / rows.positions) * rows.queries + index_of(rows, row);
}

/* The columns that the rows [first, first + TILE) have at least one of: ends ascend with the position. */
KVS_DEVICE int64_t tile_end(const kvs_replay_rows &rows, const int32_t *ends, int first, int64_t end) {
    int last = first + TILE <= rows.rows ? first + TILE - 1 : rows.rows - 1;
    int index = index_of(rows, last);
    if (first / rows.positions != last / rows.positions) index = rows.first + rows.positions - 1;
    int64_t most = kvs_ld_global_nc(ends + index);
    return most < end ? most : end;
}

/* Adds STEP terms to the thread's sums. */
KVS_DEVICE void add_terms(const float *left, const float *right, float (&sums)[EACH][EACH]) {
    int row = (int)threadIdx.x / 16 * EACH, column = (int)threadIdx.x % 16 * EACH;
#pragma unroll
    for (int k = 0; k < STEP; k++) {
        four a = kvs_ld_shared((const four *)(left + k * PAD + row));
        four b = kvs_ld_shared((const four *)(right + k * PAD + column));
#pragma unroll
        for (int i = 0; i < EACH; i++)
#pragma unroll
            for (int j = 0; j < EACH; j++) sums[i][j] = kvs_fma(a.at[i], b.at[j], sums[i][j]);
    }
}

/* Four terms of one row of a factor, one below the other. */
KVS_DEVICE void put_transposed(float *factor, int row, int term, four x) {
#pragma unroll
    for (int i = 0; i < 4; i++) kvs_st_shared(factor + (term + i) * PAD + row, x.at[i]);
}

KVS_KERNEL(THREADS, 2) scores(const kvs_scores_args args) {
    const kvs_replay_rows &rows = args.rows;
    float *left = (float *)KVS_SHARED, *right = left + FACTOR_FLOATS;
    int first_row = (int)blockIdx.y * TILE, head_dim = rows.head_dim;
    int64_t first = args.begin + (int64_t)blockIdx.x * TILE;
    if (first >= tile_end(rows, args.ends, first_row, args.end)) return;
    int lane_row = (int)threadIdx.x / 4, lane_term = (int)threadIdx.x % 4 * 4;
    int row = first_row + lane_row < rows.rows ? first_row + lane_row : rows.rows - 1;
    int64_t token = first + lane_row < args.end ? first + lane_row : args.end - 1;
    const float *a = args.a + sample_of(rows, row) * head_dim + lane_term;
    const float *b = args.b + (token - args.begin) * head_dim + lane_term;
    float sums[EACH][EACH] = {};
    for (int d = 0; d < head_dim; d += STEP) {
        four from_a = kvs_ld_global_nc((const four *)(a + d)), from_b = kvs_ld_global_nc((const four *)(b + d));
        kvs_syncthreads();
        put_transposed(left, lane_row, lane_term, from_a);
        put_transposed(right, lane_row, lane_term, from_b);
        kvs_syncthreads();
        add_terms(left, right, sums);
    }
    int tile_row = first_row + (int)threadIdx.x / 16 * EACH;
    int64_t column = first + (int)threadIdx.x % 16 * EACH;
#pragma unroll
    for (int i = 0; i < EACH; i++)
#pragma unroll
        for (int j = 0; j < EACH; j++)
            if (tile_row + i < rows.rows && column + j < args.end) {
                float *to = args.matrix + (tile_row + i) * args.stride + column + j;
                float before = args.add ? kvs_ld_global(to) : 0.0f;
                kvs_st_global(to, kvs_fma(args.scale, sums[i][j], before));
            }
}

/* Four weights of one row; 0 outside the row's range. */
KVS_DEVICE four weights_at(const kvs_mix_args &args, int row, int64_t token, int64_t last) {
    four x = {};
    if (row >= args.rows.rows) return x;
    int64_t end = kvs_ld_global_nc(args.ends + index_of(args.rows, row));
    if (end > last) end = last;
    const float *from = args.weights + row * args.stride + token;
    if (token >= args.begin && token + 3 < end) return kvs_ld_global_nc((const four *)from);
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (token + i >= args.begin && token + i < end) x.at[i] = kvs_ld_global_nc(from + i);
    return x;
}

KVS_KERNEL(THREADS, 2) mix(const kvs_mix_args args) {
    const kvs_replay_rows &rows = args.rows;
    float *left = (float *)KVS_SHARED, *right = left + FACTOR_FLOATS;
    int first_row = (int)blockIdx.y * TILE, first_channel = (int)blockIdx.x * TILE, head_dim = rows.head_dim;
    int64_t aligned = args.begin / STEP * STEP; /* four weights are read at once */
    int64_t steps = (args.end - aligned + STEP - 1) / STEP, share = (steps + args.splits - 1) / args.splits;
    int64_t from = aligned + (int64_t)blockIdx.z * share * STEP, to = from + share * STEP;
    int64_t last = tile_end(rows, args.ends, first_row, args.end);
    if (to < last) last = to;
    int lane_row = (int)threadIdx.x / 4, lane_term = (int)threadIdx.x % 4 * 4;
    int value_term = (int)threadIdx.x / 16, value_channel = first_channel + (int)threadIdx.x % 16 * 4;
    float sums[EACH][EACH] = {};
    for (int64_t t = from; t < last; t += STEP) {
        four weights = weights_at(args, first_row + lane_row, t + lane_term, last), values = {};
        int64_t token = t + value_term;
        if (token >= args.begin && token < last && value_channel < head_dim)
            values = kvs_ld_global_nc((const four *)(args.values + (token - args.begin) * head_dim + value_channel));
        kvs_syncthreads();
        put_transposed(left, lane_row, lane_term, weights);
        kvs_st_shared((four *)(right + value_term * PAD + (int)threadIdx.x % 16 * 4), values);
        kvs_syncthreads();
        add_terms(left, right, sums);
    }
    float *part = args.parts + (int64_t)blockIdx.z * rows.rows * head_dim;
    int tile_row = first_row + (int)threadIdx.x / 16 * EACH, channel = first_channel + (int)threadIdx.x % 16 * EACH;
#pragma unroll
    for (int i = 0; i < EACH; i++)
        if (tile_row + i < rows.rows && channel < head_dim)
            kvs_st_global((four *)(part + (int64_t)(tile_row + i) * head_dim + channel),
                          four{{sums[i][0], sums[i][1], sums[i][2], sums[i][3]}});
}

unsigned tiles(int64_t count) {
    return (unsigned)((count + TILE - 1) / TILE);
}

} // namespace

extern "C" int KVS_BACKEND(kvs_replay_scores)(const kvs_scores_args *args, void *stream) {
    if (args->end <= args->begin) return 0;
    dim3 grid(tiles(args->end - args->begin), tiles(args->rows.rows));
    return kvs_launch(scores, grid, dim3(THREADS), SHARED_BYTES, stream, *args);
}

extern "C" int KVS_BACKEND(kvs_replay_mix)(const kvs_mix_args *args, void *stream) {
    dim3 grid(tiles(args->rows.head_dim), tiles(args->rows.rows), (unsigned)args->splits);
    return kvs_launch(mix, grid, dim3(THREADS), SHARED_BYTES, stream, *args);
}
