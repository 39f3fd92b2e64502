#include "kernels/trellis.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include "core/half.h"
#include "core/random.h"
#include "core/simd.h"
#include "kernels/lloyd_max.h"

enum { STATES = KVS_TRELLIS_STATES, STATE_BITS = KVS_TRELLIS_STATE_BITS, MASK = STATES - 1, ANY = -1 };

/* --- the Viterbi algorithm -----------------------------------------------------------------------------------------
 *
 * State s = (p << bits | code) & MASK follows state p. Which p of the 2^bits that lead to s is best does not depend on
 * the code, so `from` has STATES >> bits entries a value: the best p's upper bits. */

KVS_SIMD static void advance(int bits, const float *restrict levels, float x, const float *restrict before,
                             float *restrict cost, uint8_t *restrict from) {
    int kept = STATES >> bits, branches = 1 << bits;
    float best[STATES], error[STATES];
    memcpy(best, before, sizeof *best * (size_t)kept);
    memset(from, 0, (size_t)kept);
    for (int upper = 1; upper < branches; upper++)
        for (int p = 0; p < kept; p++) {
            float other = before[upper * kept + p];
            int better = other < best[p];
            best[p] = better ? other : best[p];
            from[p] = better ? (uint8_t)upper : from[p];
        }
    for (int s = 0; s < STATES; s++) {
        float distance = x - levels[s];
        error[s] = distance * distance;
    }
    for (int p = 0; p < kept; p++)
        for (int code = 0; code < branches; code++) cost[p * branches + code] = best[p] + error[p * branches + code];
}

/* The values of a row in the order of a path through it: from `first` on, round the ring. */
typedef struct ring {
    const float *x;
    int count, first;
} ring;

/* states[i] of the best path over values first, first + 1, ...; start, end: the state before the first value and after
 * the last one, or ANY. */
static void best_path(int bits, const float *levels, ring row, int start, int end, uint8_t *from, uint8_t *states) {
    float costs[2][STATES];
    size_t kept = STATES >> bits;
    for (int s = 0; s < STATES; s++) costs[0][s] = start == ANY || s == start ? 0.0f : INFINITY;
    for (int i = 0, t = row.first; i < row.count; i++, t = t + 1 < row.count ? t + 1 : 0)
        advance(bits, levels, row.x[t], costs[i % 2], costs[(i + 1) % 2], from + (size_t)i * kept);
    const float *last = costs[row.count % 2];
    if (end == ANY) {
        end = 0;
        for (int s = 1; s < STATES; s++) end = last[s] < last[end] ? s : end;
    }
    for (int i = row.count - 1; i >= 0; i--) {
        int p = end >> bits;
        states[i] = (uint8_t)end;
        end = (from[(size_t)i * kept + (size_t)p] << (STATE_BITS - bits)) | p;
    }
}

size_t kvs_trellis_scratch(int count) {
    return (size_t)count * (STATES / 2 + 1) / sizeof(float) + 1;
}

void kvs_trellis_encode(int bits, int count, const float *x, uint8_t *codes, float *scratch) {
    const float *levels = kvs_trellis_levels(bits);
    uint8_t *from = (uint8_t *)scratch, *states = from + (size_t)count * (STATES / 2);
    int middle = count / 2;
    best_path(bits, levels, (ring){x, count, middle}, ANY, ANY, from, states);
    int seam = states[count - 1 - middle];
    best_path(bits, levels, (ring){x, count, 0}, seam, seam, from, states);
    for (int i = 0; i < count; i++) codes[i] = (uint8_t)(states[i] & ((1 << bits) - 1));
}

void kvs_trellis_decode(int bits, int count, const uint8_t *codes, float *values) {
    const float *levels = kvs_trellis_levels(bits);
    int needed = (STATE_BITS + bits - 1) / bits, state = 0;
    for (int i = count - needed; i < count; i++) state = (state << bits | codes[i < 0 ? i + count : i]) & MASK;
    for (int i = 0; i < count; i++) {
        state = (state << bits | codes[i]) & MASK;
        values[i] = levels[state];
    }
}

/* --- training the levels -------------------------------------------------------------------------------------------
 */

enum { ROWS = 256, ROW = 128, ROUNDS = 12, MAX_BITS = KVS_TRELLIS_MAX_BITS };

static struct codebook {
    float levels[STATES];
    double distortion;
} codebooks[MAX_BITS + 1];

/* order [count]: 0 to count - 1, shuffled (Fisher and Yates). */
static void shuffle(int count, uint64_t key, int *order) {
    for (int i = 0; i < count; i++) order[i] = i;
    for (int i = count - 1; i > 0; i--) {
        int j = (int)(kvs_random_bits(key, (uint64_t)i) % (uint64_t)(i + 1)), moved = order[i];
        order[i] = order[j];
        order[j] = moved;
    }
}

/* The branches of a state are spread over the range as a quantizer of 2^bits levels; those of different states are
 * shifted against each other, by chance. */
static void begin(int bits, float *levels) {
    double fine[STATES];
    int kept = STATES >> bits, shift[STATES], place[STATES];
    uint64_t key = kvs_random_key(2, (uint64_t)bits);
    double narrowing = pow(3.0, -(STATE_BITS - bits) / 12.0);
    kvs_lloyd_max_normal(STATE_BITS, fine);
    shuffle(kept, key, shift);
    for (int p = 0; p < kept; p++) {
        shuffle(1 << bits, kvs_random_key(key, (uint64_t)p + 1), place);
        for (int code = 0; code < 1 << bits; code++)
            levels[p << bits | code] = (float)(fine[place[code] * kept + shift[p]] * narrowing);
    }
}

/* Standard normal values by Box and Muller's transform. */
static void normal_sample(int count, float *x) {
    for (int i = 0; i < count; i += 2) {
        double radius = sqrt(-2.0 * log(1.0 - (double)kvs_random_unit(1, (uint64_t)i)));
        double angle = 2.0 * 3.14159265358979323846 * (double)kvs_random_unit(1, (uint64_t)i + 1);
        x[i] = (float)(radius * cos(angle));
        x[i + 1] = (float)(radius * sin(angle));
    }
}

/* One round: every level becomes the mean of the values that got it. Returns the mean squared error before that. */
static double improve(int bits, const float *x, float *levels) {
    double sums[STATES] = {0}, error = 0;
    int counts[STATES] = {0};
    uint8_t from[ROW * STATES / 2], states[ROW];
    for (int r = 0; r < ROWS; r++, x += ROW) {
        best_path(bits, levels, (ring){x, ROW, 0}, ANY, ANY, from, states);
        for (int i = 0; i < ROW; i++) {
            double distance = (double)x[i] - (double)levels[states[i]];
            error += distance * distance;
            sums[states[i]] += (double)x[i];
            counts[states[i]]++;
        }
    }
    for (int s = 0; s < STATES; s++)
        if (counts[s] > 0) levels[s] = (float)(sums[s] / counts[s]);
    return error / (ROWS * ROW);
}

static void train(void) {
    static float x[ROWS * ROW];
    normal_sample(ROWS * ROW, x);
    codebooks[0].distortion = 1.0;
    for (int bits = 1; bits <= MAX_BITS; bits++) {
        struct codebook *book = &codebooks[bits];
        begin(bits, book->levels);
        for (int round = 0; round < ROUNDS; round++) book->distortion = improve(bits, x, book->levels);
        for (int s = 0; s < STATES; s++) book->levels[s] = kvs_round_to_half(book->levels[s]);
    }
}

static const struct codebook *codebook_of(int bits) {
    static pthread_once_t trained = PTHREAD_ONCE_INIT;
    pthread_once(&trained, train);
    return &codebooks[bits];
}

const float *kvs_trellis_levels(int bits) {
    return codebook_of(bits)->levels;
}

double kvs_trellis_distortion(int bits) {
    return codebook_of(bits)->distortion;
}
