/* transform_maps.c: the maps of kernels/transform.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/random.h"
#include "core/simd.h"
#include "kernels/hadamard.h"
#include "kernels/transform.h"

/* --- undoing the rotary embedding ----------------------------------------------------------------------------------
 */

/* Cosines and sines of one position, and of one step, a pair each. */
typedef struct angles {
    double cosine[KVS_MAX_HEAD_DIM / 2], sine[KVS_MAX_HEAD_DIM / 2];
} angles;

static void set_angles(kvs_rope_pairs rope, double position, angles *a) {
    for (int i = 0; i < rope.rotary_dim / 2; i++) {
        a->cosine[i] = cos(position * rope.inverse_frequency[i]);
        a->sine[i] = sin(position * rope.inverse_frequency[i]);
    }
}

KVS_SIMD static void advance(int pairs, const angles *step, angles *at) {
    for (int i = 0; i < pairs; i++) {
        double cosine = at->cosine[i] * step->cosine[i] - at->sine[i] * step->sine[i];
        at->sine[i] = at->sine[i] * step->cosine[i] + at->cosine[i] * step->sine[i];
        at->cosine[i] = cosine;
    }
}

KVS_SIMD static void turn_row(kvs_rope_pairs rope, double sign, const angles *a, float *x) {
    int half = rope.rotary_dim / 2, next = rope.interleaved ? 2 : 1, partner = rope.interleaved ? 1 : half;
    for (int i = 0; i < half; i++) {
        float cosine = (float)a->cosine[i], sine = (float)(sign * a->sine[i]);
        float u = x[i * next], v = x[i * next + partner];
        x[i * next] = u * cosine - v * sine;
        x[i * next + partner] = v * cosine + u * sine;
    }
}

/* Angles are exact at every RESTART-th position and go on step by step from there, in binary64: what a position gets
 * does not depend on where the rows begin. */
static void turn(kvs_map_rows rows, double sign, float *x) {
    enum { RESTART = 64 };
    kvs_rope_pairs rope = rows.context->rope;
    if (rope.inverse_frequency == NULL) return;
    angles at, step;
    set_angles(rope, 1.0, &step);
    int64_t position = rows.first_token / RESTART * RESTART;
    for (; position < rows.first_token + rows.tokens; position++) {
        if (position % RESTART == 0)
            set_angles(rope, (double)position, &at);
        else
            advance(rope.rotary_dim / 2, &step, &at);
        if (position >= rows.first_token) turn_row(rope, sign, &at, x + (position - rows.first_token) * rows.head_dim);
    }
}

static void unturn(const kvs_map *map, kvs_map_rows rows, const float *state, float *x) {
    (void)map, (void)state;
    turn(rows, -1.0, x);
}

static void turn_again(const kvs_map *map, kvs_map_rows rows, const float *state, float *x) {
    (void)map, (void)state;
    turn(rows, 1.0, x);
}

const kvs_map_type kvs_map_unturn = {.name = "unturn", .unturns = 1, .forward = unturn, .back = turn_again};

/* --- rotation ------------------------------------------------------------------------------------------------------
 */

/* Multiplies every channel by a sign that depends on the model's place alone. */
static void change_signs(kvs_map_rows rows, float *x) {
    const kvs_page_place *place = &rows.context->place;
    float signs[KVS_HADAMARD_MAX];
    uint64_t key = kvs_random_key(kvs_random_key(place->seed, (uint64_t)place->layer), (uint64_t)place->kv_head);
    for (int d = 0; d < rows.head_dim; d++) signs[d] = kvs_random_bits(key, (uint64_t)d) >> 63 ? -1.0f : 1.0f;
    for (int64_t t = 0; t < rows.tokens; t++, x += rows.head_dim)
        for (int d = 0; d < rows.head_dim; d++) x[d] *= signs[d];
}

static void rotate(const kvs_map *map, kvs_map_rows rows, const float *state, float *x) {
    (void)state;
    if (map->count == 1) change_signs(rows, x);
    kvs_hadamard_rows(rows.head_dim, rows.tokens, x);
}

static void rotate_back(const kvs_map *map, kvs_map_rows rows, const float *state, float *x) {
    (void)state;
    kvs_hadamard_rows_back(rows.head_dim, rows.tokens, x);
    if (map->count == 1) change_signs(rows, x);
}

const kvs_map_type kvs_map_rotate = {
    .name = "a Hadamard rotation",
    .admits = kvs_hadamard_admits,
    .what_admits = "2^k, 12 * 2^k or 20 * 2^k channels",
    .forward = rotate,
    .back = rotate_back,
};

/* --- scales of channels --------------------------------------------------------------------------------------------
 */

static size_t one_a_channel(int head_dim) {
    return (size_t)head_dim;
}

static void fit_smooth(const kvs_map *map, int head_dim, int64_t tokens, const float *prefix,
                       const kvs_page_context *context, float *scales) {
    for (int d = 0; d < head_dim; d++) scales[d] = 0.0f;
    for (int64_t t = 0; t < tokens; t++)
        for (int d = 0; d < head_dim; d++) scales[d] = fmaxf(scales[d], fabsf(prefix[t * head_dim + d]));
    for (int d = 0; d < head_dim; d++) {
        int e = kvs_rope_partner(context->rope, d);
        if (e < d) continue;
        float most = fmaxf(scales[d], scales[e]);
        scales[d] = scales[e] = most > 0.0f ? (float)pow((double)most, map->strength) : 1.0f;
    }
}

static void smooth(const kvs_map *map, kvs_map_rows rows, const float *scales, float *x) {
    (void)map;
    for (int64_t t = 0; t < rows.tokens; t++, x += rows.head_dim)
        for (int d = 0; d < rows.head_dim; d++) x[d] /= scales[d];
}

static void roughen(const kvs_map *map, kvs_map_rows rows, const float *scales, float *x) {
    (void)map;
    for (int64_t t = 0; t < rows.tokens; t++, x += rows.head_dim)
        for (int d = 0; d < rows.head_dim; d++) x[d] *= scales[d];
}

const kvs_map_type kvs_map_smooth = {
    .name = "smooth", .state_floats = one_a_channel, .fit = fit_smooth, .forward = smooth, .back = roughen};

/* --- orders of channels: state [i] is the channel that stands at i --------------------------------------------------
 */

typedef struct keyed {
    double key;
    int channel;
} keyed;

static int rising(const void *a, const void *b) {
    const keyed *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->channel - y->channel;
}

static void order_by(int head_dim, keyed *entries, float *order) {
    qsort(entries, (size_t)head_dim, sizeof *entries, rising);
    for (int i = 0; i < head_dim; i++) order[i] = (float)entries[i].channel;
}

static void fit_sort(const kvs_map *map, int head_dim, int64_t tokens, const float *prefix,
                     const kvs_page_context *context, float *order) {
    (void)map, (void)context;
    keyed entries[KVS_MAX_HEAD_DIM];
    for (int d = 0; d < head_dim; d++) {
        entries[d] = (keyed){0.0, d};
        for (int64_t t = 0; t < tokens; t++) entries[d].key += fabs((double)prefix[t * head_dim + d]);
    }
    order_by(head_dim, entries, order);
}

enum { CLUSTER_ROUNDS = 20 };

typedef struct corner {
    double low, high;
} corner;

static int nearest(corner x, const corner *centres, int count) {
    int best = 0;
    double least = INFINITY;
    for (int c = 0; c < count; c++) {
        double low = x.low - centres[c].low, high = x.high - centres[c].high, distance = low * low + high * high;
        if (distance < least) best = c, least = distance;
    }
    return best;
}

/* k-means of the corners from centres at evenly spaced ranks of the range; of[d] is the cluster of channel d. */
static void cluster(int head_dim, const corner *corners, int count, corner *centres, int *of) {
    keyed ranges[KVS_MAX_HEAD_DIM];
    for (int d = 0; d < head_dim; d++) ranges[d] = (keyed){corners[d].high - corners[d].low, d};
    qsort(ranges, (size_t)head_dim, sizeof *ranges, rising);
    for (int c = 0; c < count; c++) centres[c] = corners[ranges[(2 * c + 1) * head_dim / (2 * count)].channel];
    for (int round = 0; round < CLUSTER_ROUNDS; round++) {
        for (int d = 0; d < head_dim; d++) of[d] = nearest(corners[d], centres, count);
        for (int c = 0; c < count; c++) {
            corner sum = {0, 0};
            int members = 0;
            for (int d = 0; d < head_dim; d++) {
                if (of[d] != c) continue;
                sum.low += corners[d].low, sum.high += corners[d].high;
                members++;
            }
            if (members > 0) centres[c] = (corner){sum.low / members, sum.high / members};
        }
    }
}

static void fit_cluster(const kvs_map *map, int head_dim, int64_t tokens, const float *prefix,
                        const kvs_page_context *context, float *order) {
    (void)context;
    corner corners[KVS_MAX_HEAD_DIM], centres[KVS_MAX_HEAD_DIM];
    keyed entries[KVS_MAX_HEAD_DIM];
    int of[KVS_MAX_HEAD_DIM];
    for (int d = 0; d < head_dim; d++) {
        corners[d] = (corner){(double)prefix[d], (double)prefix[d]};
        for (int64_t t = 1; t < tokens; t++) {
            corners[d].low = fmin(corners[d].low, (double)prefix[t * head_dim + d]);
            corners[d].high = fmax(corners[d].high, (double)prefix[t * head_dim + d]);
        }
    }
    cluster(head_dim, corners, head_dim / map->count, centres, of);
    for (int d = 0; d < head_dim; d++) entries[d] = (keyed){centres[of[d]].high - centres[of[d]].low, d};
    order_by(head_dim, entries, order);
}

static void arrange(const kvs_map *map, kvs_map_rows rows, const float *order, float *x) {
    (void)map;
    float row[KVS_MAX_HEAD_DIM];
    for (int64_t t = 0; t < rows.tokens; t++, x += rows.head_dim) {
        memcpy(row, x, sizeof *x * (size_t)rows.head_dim);
        for (int i = 0; i < rows.head_dim; i++) x[i] = row[(int)order[i]];
    }
}

static void rearrange(const kvs_map *map, kvs_map_rows rows, const float *order, float *x) {
    (void)map;
    float row[KVS_MAX_HEAD_DIM];
    for (int64_t t = 0; t < rows.tokens; t++, x += rows.head_dim) {
        memcpy(row, x, sizeof *x * (size_t)rows.head_dim);
        for (int i = 0; i < rows.head_dim; i++) x[(int)order[i]] = row[i];
    }
}

const kvs_map_type kvs_map_cluster = {
    .name = "cluster", .state_floats = one_a_channel, .fit = fit_cluster, .forward = arrange, .back = rearrange};
const kvs_map_type kvs_map_sort = {
    .name = "sort", .state_floats = one_a_channel, .fit = fit_sort, .forward = arrange, .back = rearrange};
