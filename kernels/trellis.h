/* trellis.h: trellis-coded quantization of rows of about normal values (Marcellin and Fischer 1990): at `bits` bits a
 * value most of what Lloyd-Max levels lose to the rate-distortion bound is won back.
 *
 * The trellis is a shift register: the state after a value is the last 8 bits of the row's codes, so a value is one
 * lookup in a table of 256 levels, and every value can be decoded by itself from its own code and the ceil(8 / bits) -
 * 1 codes before it. A row is a ring (the codes before its first value are its last ones), so rows stand alone and no
 * bit goes into a starting state. The encoder finds the codes of least squared error by the Viterbi algorithm: once to
 * choose the state of the seam, with the seam in the middle of the row, and once with the seam held to it.
 *
 * At 7 bits hardly anything is left to win, and at 8 a value has the register for itself: Lloyd-Max levels.
 *
 * The levels are computed where they are first used, by Lloyd's iteration on a normal sample by chance of fixed seed,
 * and are binary16 values. */
#ifndef KVS_KERNELS_TRELLIS_H
#define KVS_KERNELS_TRELLIS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_TRELLIS_STATES = 256, KVS_TRELLIS_STATE_BITS = 8, KVS_TRELLIS_MAX_BITS = 8 };

/* levels [KVS_TRELLIS_STATES] of the values whose codes leave the register in each state; 1 <= bits <= MAX_BITS. */
const float *kvs_trellis_levels(int bits);

/* Mean squared error that a standard normal value is left with, as the training met it; 1 at 0 bits. */
double kvs_trellis_distortion(int bits);

/* Whether a row of count values fills the register: count * bits >= KVS_TRELLIS_STATE_BITS. */
static inline int kvs_trellis_admits(int bits, int count) {
    return bits * count >= KVS_TRELLIS_STATE_BITS;
}

/* codes[i], below 2^bits, for x [count] of variance about 1. scratch: kvs_trellis_scratch(count) floats. */
void kvs_trellis_encode(int bits, int count, const float *x, uint8_t *codes, float *scratch);
size_t kvs_trellis_scratch(int count);

/* values [count]: the level of the state after each code. */
void kvs_trellis_decode(int bits, int count, const uint8_t *codes, float *values);

#ifdef __cplusplus
}
#endif
#endif
