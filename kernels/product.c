#include "kernels/product.h"

#include <cblas.h>
#include <string.h>

enum { PANEL = KVS_PRODUCT_PANEL }; /* two 512-bit vectors */

size_t kvs_product_packed_floats(int64_t columns, int dim) {
    return (size_t)((columns + PANEL - 1) / PANEL * PANEL) * (size_t)dim;
}

/* --- OpenBLAS ------------------------------------------------------------------------------------------------------
 */

static void blas_pack(const float *keys, int64_t columns, int dim, float *packed) {
    memcpy(packed, keys, (size_t)columns * (size_t)dim * sizeof *keys);
}

static void blas_scores(int rows, int64_t columns, int dim, float alpha, const float *a, const float *packed, int add,
                        float *c, int64_t stride) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, (int)columns, dim, alpha, a, dim, packed, dim,
                add ? 1.0f : 0.0f, c, (int)stride);
}

static void blas_mix(int rows, int64_t columns, int dim, const float *weights, int64_t stride, const float *values,
                     int add, float *c) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, dim, (int)columns, 1.0f, weights, (int)stride, values,
                dim, add ? 1.0f : 0.0f, c, dim);
}

static const kvs_product blas = {"openblas", blas_pack, blas_scores, blas_mix};

/* --- AVX-512 -------------------------------------------------------------------------------------------------------
 */

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f")))
enum { ROWS = 8, STEPS = 256 }; /* rows of a tile; terms that are summed before they go to memory */

/* c [rows][PANEL] (= or +=) alpha sum over i of a[row][i] b[i][PANEL], with rows a constant where it is inlined.
 * Sixteen sums stay in registers: twice what hides the latency of a fused multiply-add. masks: the columns that are
 * there. */
static inline AVX512 __attribute__((always_inline)) void tile(int rows, int64_t steps, float alpha, const float *a,
                                                              int64_t a_stride, const float *b, int64_t b_stride,
                                                              const __mmask16 masks[2], int add, float *c,
                                                              int64_t c_stride) {
    __m512 sums[ROWS][2];
    for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (int64_t i = 0; i < steps; i++) {
        __m512 low = _mm512_maskz_loadu_ps(masks[0], b + i * b_stride);
        __m512 high = _mm512_maskz_loadu_ps(masks[1], b + i * b_stride + 16);
        for (int r = 0; r < rows; r++) {
            __m512 factor = _mm512_set1_ps(a[r * a_stride + i]);
            sums[r][0] = _mm512_fmadd_ps(factor, low, sums[r][0]);
            sums[r][1] = _mm512_fmadd_ps(factor, high, sums[r][1]);
        }
    }
    __m512 scale = _mm512_set1_ps(alpha);
    for (int r = 0; r < rows; r++)
        for (int half = 0; half < 2; half++) {
            float *at = c + r * c_stride + 16 * half;
            __m512 before = add ? _mm512_maskz_loadu_ps(masks[half], at) : _mm512_setzero_ps();
            _mm512_mask_storeu_ps(at, masks[half], _mm512_fmadd_ps(scale, sums[r][half], before));
        }
}

/* The same for any number of rows. */
AVX512 static void tiles(int rows, int64_t steps, float alpha, const float *a, int64_t a_stride, const float *b,
                         int64_t b_stride, int64_t columns, int add, float *c, int64_t c_stride) {
    uint32_t present = columns >= PANEL ? 0xffffffffu : (1u << columns) - 1u;
    const __mmask16 masks[2] = {(__mmask16)present, (__mmask16)(present >> 16)};
    int row = 0;
    for (; row + ROWS <= rows; row += ROWS)
        tile(ROWS, steps, alpha, a + row * a_stride, a_stride, b, b_stride, masks, add, c + row * c_stride, c_stride);
    for (; row + 4 <= rows; row += 4)
        tile(4, steps, alpha, a + row * a_stride, a_stride, b, b_stride, masks, add, c + row * c_stride, c_stride);
    for (; row < rows; row++)
        tile(1, steps, alpha, a + row * a_stride, a_stride, b, b_stride, masks, add, c + row * c_stride, c_stride);
}

/* packed is [panels][dim][PANEL], zero beyond the last key. */
AVX512 static void avx512_pack(const float *keys, int64_t columns, int dim, float *packed) {
    const __m512i places = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                              _mm512_set1_epi32(dim));
    for (int64_t first = 0; first < columns; first += PANEL) {
        const float *from = keys + first * dim;
        float *to = packed + first * dim;
        uint32_t present = columns - first >= PANEL ? 0xffffffffu : (1u << (columns - first)) - 1u;
        for (int d = 0; d < dim; d++)
            for (int half = 0; half < 2; half++)
                _mm512_store_ps(to + (size_t)d * PANEL + 16 * half,
                                _mm512_mask_i32gather_ps(_mm512_setzero_ps(), (__mmask16)(present >> (16 * half)),
                                                         places, from + (size_t)(16 * half) * (size_t)dim + d, 4));
    }
}

static void avx512_scores(int rows, int64_t columns, int dim, float alpha, const float *a, const float *packed, int add,
                          float *c, int64_t stride) {
    for (int64_t first = 0; first < columns; first += PANEL)
        tiles(rows, dim, alpha, a, dim, packed + first * dim, PANEL, columns - first, add, c + first, stride);
}

static void avx512_mix(int rows, int64_t columns, int dim, const float *weights, int64_t stride, const float *values,
                       int add, float *c) {
    if (columns == 0 && !add) memset(c, 0, (size_t)rows * (size_t)dim * sizeof *c);
    for (int64_t first = 0; first < columns; first += STEPS) {
        int64_t steps = columns - first < STEPS ? columns - first : STEPS;
        for (int d = 0; d < dim; d += PANEL)
            tiles(rows, steps, 1.0f, weights + first, stride, values + first * dim + d, dim, dim - d, add || first > 0,
                  c + d, dim);
    }
}

static const kvs_product avx512 = {"avx512", avx512_pack, avx512_scores, avx512_mix};

static int has_avx512(void) {
    return __builtin_cpu_supports("avx512f");
}
#else
static const kvs_product avx512 = {NULL, NULL, NULL, NULL};

static int has_avx512(void) {
    return 0;
}
#endif

/* --- which ---------------------------------------------------------------------------------------------------------
 */

const kvs_product *const *kvs_products(void) {
    static const kvs_product *const with[] = {&avx512, &blas, NULL}, *const without[] = {&blas, NULL};
    openblas_set_num_threads(1);
    return has_avx512() ? with : without;
}

const kvs_product *kvs_product_best(void) {
    return kvs_products()[0];
}
