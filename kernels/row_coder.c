#include "kernels/row_coder.h"

#include <math.h>
#include <string.h>

#include "kernels/lloyd_max.h"

const char *const kvs_row_coding_choices[] = {"trellis", "lloyd-max", NULL};

static double normal_below(double x) {
    return 0.5 * erfc(-x * sqrt(0.5));
}

/* Fills the Lloyd-Max levels of one width. They are centroids, so what they miss is 1 - sum of P(level) * level^2. */
static double make_levels(int bits, float *levels) {
    double exact[1 << KVS_ROW_MAX_BITS], missed = 1.0, below = 0.0;
    int count = 1 << bits;
    kvs_lloyd_max_normal(bits, exact);
    for (int j = 0; j < count; j++) {
        double next = j + 1 < count ? normal_below(0.5 * (exact[j] + exact[j + 1])) : 1.0;
        missed -= (next - below) * exact[j] * exact[j];
        below = next;
        levels[j] = (float)exact[j];
    }
    return missed;
}

void kvs_row_coder_make(kvs_row_coding coding, kvs_row_coder *coder) {
    *coder = (kvs_row_coder){.coding = coding, .distortion = {1.0}};
    for (int bits = 1; bits <= KVS_ROW_MAX_BITS; bits++)
        coder->distortion[bits] =
            coding == KVS_ROW_TRELLIS ? kvs_trellis_distortion(bits) : make_levels(bits, coder->levels[bits]);
}

static int nearest(int bits, const float *levels, float x) {
    int at = 0;
    for (int half = 1 << (bits - 1); half > 0; half /= 2)
        if (x > 0.5f * (levels[at + half - 1] + levels[at + half])) at += half;
    return at;
}

void kvs_row_encode(const kvs_row_coder *coder, int bits, int count, const float *x, uint8_t *codes, float *values,
                    float *scratch) {
    if (bits == 0) {
        memset(codes, 0, (size_t)count);
        memset(values, 0, sizeof *values * (size_t)count);
    } else if (coder->coding == KVS_ROW_TRELLIS) {
        kvs_trellis_encode(bits, count, x, codes, scratch);
        kvs_trellis_decode(bits, count, codes, values);
    } else {
        for (int i = 0; i < count; i++) {
            codes[i] = (uint8_t)nearest(bits, coder->levels[bits], x[i]);
            values[i] = coder->levels[bits][codes[i]];
        }
    }
}
