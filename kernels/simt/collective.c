/* What the lanes of a warp do together. The matrix fragments follow the PTX ISA (mma.m16n8k16, ldmatrix):
 * with g = lane / 4 and t = lane % 4, register r of A holds row g + 8 (r % 2), columns 2t + 8 (r / 2) and the next;
 * register r of B rows 2t + 8r and the next of column g; C and D row g + 8 (r / 2), column 2t + r % 2. */
#include <string.h>

#include "core/half.h"
#include "core/simd.h"
#include "kernels/simt/internal.h"

enum { M = 16, N = 8, K = 16 };

/* d += a b with exact products, added in binary32 one by one for k ascending. */
KVS_SIMD static void multiply(const float a[M * K], const float b[K * N], float d[M * N]) {
    for (int m = 0; m < M; m++) {
        float sums[N];
        memcpy(sums, d + m * N, sizeof sums);
        for (int k = 0; k < K; k++)
            for (int n = 0; n < N; n++) sums[n] += a[m * K + k] * b[k * N + n];
        memcpy(d + m * N, sums, sizeof sums);
    }
}

static void put_pair(uint16_t *low, uint16_t *high, uint32_t pair) {
    *low = (uint16_t)pair;
    *high = (uint16_t)(pair >> 16);
}

/* `in` of each lane: { a, b }; `out`: d. */
static void multiply_matrices(kvs_simt_warp *warp) {
    uint16_t halves[M * K + K * N];
    float a[M * K], b[K * N], d[M * N];
    uint16_t *half_a = halves, *half_b = halves + M * K;
    for (uint32_t l = 0; l < KVS_SIMT_LANES; l++) {
        const uint32_t *const *in = warp->lanes[l].in;
        const float *sums = warp->lanes[l].out;
        uint32_t g = l / 4, t = l % 4;
        for (uint32_t r = 0; r < 4; r++) {
            uint16_t *pair = half_a + (g + 8 * (r % 2)) * K + 2 * t + 8 * (r / 2);
            put_pair(pair, pair + 1, in[0][r]);
            d[(g + 8 * (r / 2)) * N + 2 * t + r % 2] = sums[r];
        }
        for (uint32_t r = 0; r < 2; r++) {
            uint16_t *pair = half_b + (2 * t + 8 * r) * N + g;
            put_pair(pair, pair + N, in[1][r]);
        }
    }
    kvs_halves_to_floats(half_a, a, M * K);
    kvs_halves_to_floats(half_b, b, K * N);
    multiply(a, b, d);
    for (uint32_t l = 0; l < KVS_SIMT_LANES; l++) {
        float *sums = warp->lanes[l].out;
        for (uint32_t r = 0; r < 4; r++) sums[r] = d[(l / 4 + 8 * (r / 2)) * N + 2 * (l % 4) + r % 2];
    }
}

/* `in` of lane 8i + j: row j of matrix i, 8 halves; `out`: one register of each matrix. */
static void load_matrices(kvs_simt_warp *warp, int transposed) {
    for (uint32_t l = 0; l < KVS_SIMT_LANES; l++) {
        uint32_t *out = warp->lanes[l].out;
        uint32_t g = l / 4, t = l % 4;
        for (uint32_t i = 0; i < 4; i++) {
            uint16_t pair[2];
            for (uint32_t h = 0; h < 2; h++) {
                uint32_t row = transposed ? 2 * t + h : g, column = transposed ? g : 2 * t + h;
                memcpy(&pair[h], (const char *)warp->lanes[8 * i + row].in + 2 * column, 2);
            }
            out[i] = pair[0] | (uint32_t)pair[1] << 16;
        }
    }
}

static void shuffle(kvs_simt_warp *warp) {
    for (uint32_t l = 0; l < warp->lane_count; l++) {
        kvs_simt_lane *lane = &warp->lanes[l];
        uint32_t from = lane->argument;
        if (lane->state == KVS_SIMT_ENDED) continue;
        if (lane->meeting == KVS_SIMT_SHFL) from %= KVS_SIMT_LANES;
        if (lane->meeting == KVS_SIMT_SHFL_XOR) from ^= l;
        if (lane->meeting == KVS_SIMT_SHFL_DOWN) from = from < KVS_SIMT_LANES ? l + from : KVS_SIMT_LANES;
        if (from >= KVS_SIMT_LANES) from = l; /* beyond the warp: a lane keeps its own */
        if (from >= warp->lane_count || warp->lanes[from].state == KVS_SIMT_ENDED) {
            kvs_simt_note(warp->worker, lane, KVS_SIMT_INACTIVE_LANE, lane->place,
                          "wants a value of lane %u, which has ended or never was", from);
            return;
        }
        memcpy(lane->out, warp->lanes[from].in, lane->bytes);
    }
}

/* `argument` of each lane: the predicate. `out`: 32 bits. */
static void vote(kvs_simt_warp *warp, kvs_simt_meeting meeting) {
    uint32_t votes = 0, live = 0;
    for (uint32_t l = 0; l < warp->lane_count; l++) {
        if (warp->lanes[l].state == KVS_SIMT_ENDED) continue;
        live |= 1u << l;
        if (warp->lanes[l].argument != 0) votes |= 1u << l;
    }
    uint32_t result = meeting == KVS_SIMT_BALLOT ? votes : meeting == KVS_SIMT_ANY ? votes != 0 : votes == live;
    for (uint32_t l = 0; l < warp->lane_count; l++)
        if (live >> l & 1) memcpy(warp->lanes[l].out, &result, sizeof result);
}

/* Matrix instructions need every lane. */
static int whole(kvs_simt_warp *warp, const kvs_simt_lane *first) {
    uint32_t live = 0;
    for (uint32_t l = 0; l < warp->lane_count; l++) live += warp->lanes[l].state != KVS_SIMT_ENDED;
    if (live == KVS_SIMT_LANES) return 1;
    kvs_simt_note(warp->worker, first, KVS_SIMT_INACTIVE_LANE, first->place,
                  "a matrix instruction of %u lanes; it takes 32", live);
    return 0;
}

void kvs_simt_act(kvs_simt_warp *warp, kvs_simt_lane *first) {
    switch (first->meeting) {
    case KVS_SIMT_SHFL:
    case KVS_SIMT_SHFL_XOR:
    case KVS_SIMT_SHFL_DOWN:
        shuffle(warp);
        break;
    case KVS_SIMT_BALLOT:
    case KVS_SIMT_ANY:
    case KVS_SIMT_ALL:
        vote(warp, first->meeting);
        break;
    case KVS_SIMT_SYNCWARP:
        warp->epoch++;
        break;
    case KVS_SIMT_LDMATRIX_ROWS:
    case KVS_SIMT_LDMATRIX_COLUMNS:
        if (whole(warp, first)) load_matrices(warp, first->meeting == KVS_SIMT_LDMATRIX_COLUMNS);
        break;
    case KVS_SIMT_MMA:
        if (whole(warp, first)) multiply_matrices(warp);
        break;
    case KVS_SIMT_SYNCTHREADS:
    case KVS_SIMT_MEETINGS:
        break; /* the block's affair (block.c) */
    }
}
