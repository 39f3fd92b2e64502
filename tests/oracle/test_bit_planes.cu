/* Can a page of tcq's layout (kernels/schemes/tcq.c) be read with coalesced loads? A kernel decodes pages of random
 * content, in order of tokens, as the words of that description and kernels/trellis.h say them; its values equal the
 * CPU's bit for bit, and the transaction model counts what it read. */
#include "tests/parity/simt_test.h"

extern "C" {
#include <math.h>

#include "analysis/transactions.h"
#include "core/half.h"
#include "core/random.h"
#include "kernels/scheme.h"
#include "kernels/trellis.h"
}

enum { DIM = 128, TOKENS = 128, PLANES = 352, MOST = 7, STATES = KVS_TRELLIS_STATES };
enum { MEANS = 0, SCALES = DIM, WIDTHS = 2 * DIM, STEP = WIDTHS + 3 * DIM / 8, CODES = (STEP + 2 + 31) / 32 * 32 };
enum { PLANE_BYTES = TOKENS / 8, PAGE_BYTES = CODES + PLANES * PLANE_BYTES, PAGES = 4 };

/* --- the kernel: a block of head_dim threads has one page ----------------------------------------------------------
 */

enum { SHARED_STARTS = (PAGE_BYTES + 127) / 128 * 128, SHARED_BYTES = SHARED_STARTS + 4 * (DIM + 1) };

KVS_DEVICE int width_of(const unsigned char *page, int channel) {
    int width = 0;
    for (int plane = 0; plane < 3; plane++) {
        uint32_t bits = kvs_ld_shared(page + WIDTHS + plane * DIM / 8 + channel / 8);
        width |= (int)(bits >> channel % 8 & 1u) << plane;
    }
    return width;
}

KVS_DEVICE float scale_of(int stored, const float *eighths) {
    return stored > 0 ? ldexpf(kvs_ld_global_nc(eighths + stored % 8), stored / 8 - 15) : 0.0f;
}

/* Calls put(t, level) for the tokens of a channel whose planes start there. */
template <class Put>
KVS_DEVICE void decode_channel(const unsigned char *planes, int width, const float *levels, Put put) {
    uint32_t state = 0;
    int before = width > 0 ? (KVS_TRELLIS_STATE_BITS + width - 1) / width - 1 : 0;
    for (int t = -before; t < TOKENS; t++) {
        int token = (t + TOKENS) % TOKENS;
        uint32_t code = 0;
        for (int plane = 0; plane < width; plane++)
            code |= ((uint32_t)kvs_ld_shared(planes + plane * PLANE_BYTES + token / 8) >> token % 8 & 1u) << plane;
        state = (state << width | code) & (STATES - 1);
        if (t >= 0) put(t, width > 0 ? kvs_ld_global_nc(levels + width * STATES + state) : 0.0f);
    }
}

/* A calibrated page (kernels/calibrated.h): planes alone; where those of a component start, its width and its deviation
 * are constants of the head. */
KVS_KERNEL(DIM, 1)
decode_calibrated(const unsigned char *pages, int page_bytes, const int *starts, const int *widths,
                  const float *deviations, const float *levels, float *values) {
    const unsigned char *global = pages + (size_t)blockIdx.x * page_bytes;
    int component = (int)threadIdx.x;
    for (int at = component; at < page_bytes / 16; at += DIM) kvs_cp_async16(KVS_SHARED + 16 * at, global + 16 * at);
    kvs_cp_async_commit();
    kvs_cp_async_wait<0>();
    kvs_syncthreads();
    float deviation = kvs_ld_global_nc(deviations + component);
    float *out = values + (size_t)blockIdx.x * TOKENS * DIM + component;
    decode_channel(KVS_SHARED + kvs_ld_global_nc(starts + component) * PLANE_BYTES,
                   kvs_ld_global_nc(widths + component), levels,
                   [=](int t, float level) { kvs_st_global(out + (size_t)t * DIM, deviation * level); });
}

/* levels [MOST + 1][STATES], eighths [8]: 2^(n / 8); values [PAGES][TOKENS][DIM] */
KVS_KERNEL(DIM, 1) decode_pages(const unsigned char *pages, const float *levels, const float *eighths, float *values) {
    const unsigned char *global = pages + (size_t)blockIdx.x * PAGE_BYTES;
    unsigned char *page = KVS_SHARED;
    uint32_t *starts = (uint32_t *)(void *)(KVS_SHARED + SHARED_STARTS);
    int channel = (int)threadIdx.x;
    for (int at = channel; at < PAGE_BYTES / 16; at += DIM) kvs_cp_async16(page + 16 * at, global + 16 * at);
    kvs_cp_async_commit();
    kvs_cp_async_wait<0>();
    kvs_syncthreads();
    int width = width_of(page, channel);
    kvs_st_shared(starts + channel + 1, (uint32_t)width);
    kvs_syncthreads();
    if (channel == 0) { /* a prefix sum; in one thread, for it is not what is counted here */
        kvs_st_shared(starts, 0u);
        for (int d = 1; d <= DIM; d++)
            kvs_st_shared(starts + d, kvs_ld_shared(starts + d - 1) + kvs_ld_shared(starts + d));
    }
    kvs_syncthreads();
    const unsigned char *planes = page + CODES + kvs_ld_shared(starts + channel) * PLANE_BYTES;
    float step = kvs_half_to_float(kvs_ld_shared((const uint16_t *)(const void *)(page + STEP)));
    float mean = step * (float)(int)(signed char)kvs_ld_shared(page + MEANS + channel);
    float scale = scale_of(kvs_ld_shared(page + SCALES + channel), eighths);
    float *out = values + (size_t)blockIdx.x * TOKENS * DIM + channel;
    decode_channel(planes, width, levels,
                   [=](int t, float level) { kvs_st_global(out + (size_t)t * DIM, mean + scale * level); });
}

/* --- pages of random content ---------------------------------------------------------------------------------------
 */

/* Widths of 0 to MOST bits that sum up to PLANES. */
static void draw_widths(uint64_t key, uint8_t *widths) {
    memset(widths, 0, DIM);
    for (uint64_t i = 0, given = 0; given < PLANES; i++) {
        uint64_t channel = kvs_random_bits(key, i) % DIM;
        channel = channel * channel / DIM; /* some get more */
        if (widths[channel] == MOST) continue;
        widths[channel]++;
        given++;
    }
}

static void make_page(uint64_t key, unsigned char *page, float *values) {
    uint8_t widths[DIM], codes[TOKENS];
    uint16_t step = kvs_float_to_half(0.01f * (1.0f + kvs_random_unit(key, 1)));
    int plane = 0;
    memset(page, 0, PAGE_BYTES);
    memcpy(page + STEP, &step, sizeof step);
    draw_widths(key + 1, widths);
    for (int d = 0; d < DIM; d++) {
        int mean = (int)(kvs_random_bits(key + 2, (uint64_t)d) % 255) - 127;
        int scale = (int)(kvs_random_bits(key + 3, (uint64_t)d) % 256);
        float level[TOKENS] = {0};
        page[MEANS + d] = (unsigned char)mean;
        page[SCALES + d] = (unsigned char)scale;
        for (int bit = 0; bit < 3; bit++) page[WIDTHS + bit * DIM / 8 + d / 8] |= (widths[d] >> bit & 1) << d % 8;
        for (int t = 0; t < TOKENS; t++)
            codes[t] = (uint8_t)(kvs_random_bits(key + 4, (uint64_t)(d * TOKENS + t)) & ((1u << widths[d]) - 1));
        for (int bit = 0; bit < widths[d]; bit++, plane++)
            for (int t = 0; t < TOKENS; t++)
                page[CODES + plane * PLANE_BYTES + t / 8] |= (codes[t] >> bit & 1) << t % 8;
        if (widths[d] > 0) kvs_trellis_decode(widths[d], TOKENS, codes, level);
        float factor = scale > 0 ? (float)exp2((scale - 120.0) / 8.0) : 0.0f;
        for (int t = 0; t < TOKENS; t++)
            values[t * DIM + d] = kvs_half_to_float(step) * (float)mean + factor * level[t];
    }
    assert_int_equal(plane, PLANES);
}

static void pages_are_read_in_whole_sectors(void **) {
    device_array<unsigned char> pages(PAGES * PAGE_BYTES, "pages", KVS_SIMT_READ_ONLY);
    device_array<float> levels((MOST + 1) * STATES, "levels", KVS_SIMT_READ_ONLY), eighths(8, "eighths");
    device_array<float> values(PAGES * TOKENS * DIM, "values");
    float *want = (float *)malloc(sizeof(float) * PAGES * TOKENS * DIM);
    assert_non_null(want);
    for (int p = 0; p < PAGES; p++)
        make_page(100 + 10 * (uint64_t)p, pages.data + p * PAGE_BYTES, want + p * TOKENS * DIM);
    for (int bits = 1; bits <= MOST; bits++)
        memcpy(levels.data + bits * STATES, kvs_trellis_levels(bits), sizeof(float) * STATES);
    for (int i = 0; i < 8; i++) eighths[i] = (float)exp2(i / 8.0);

    kvs_transactions counted;
    kvs_error error;
    kvs_transactions_begin(&counted);
    kvs_simt_settings()->record = kvs_transactions_record;
    kvs_simt_settings()->record_context = &counted;
    launched(kvs_launch(decode_pages, PAGES, DIM, SHARED_BYTES, nullptr, (const unsigned char *)pages.data,
                        (const float *)levels.data, (const float *)eighths.data, values.data));
    assert_int_equal(kvs_transactions_finish(&counted, &error), KVS_OK);
    kvs_transaction_counts reads = kvs_transactions_sum(&counted, "decode_pages", KVS_KINDS_COPY);
    kvs_transactions_clear(&counted);
    for (int i = 0; i < PAGES * TOKENS * DIM; i++)
        if (values[(size_t)i] != want[i]) fail_msg("value %d: %g, wanted %g", i, values[(size_t)i], want[i]);
    free(want);
    printf("# a page of K: %.0f requests, %.0f sectors, %.2f useful bytes a sector\n", (double)reads.requests / PAGES,
           (double)reads.sectors / PAGES, kvs_bytes_per_sector(&reads));
    /* 10 sectors of metadata and 176 of codes; a warp's full request reads 16. */
    assert_int_equal(reads.sectors, PAGES * (10 + 176));
    assert_int_equal(reads.requests, PAGES * ((PAGE_BYTES + 511) / 512));
    assert_int_equal(reads.useful_bytes, PAGES * PAGE_BYTES);
}

/* A head of 321 planes, an odd number: zeros fill the last sector. */
static void calibrated_pages_are_read_in_whole_sectors(void **) {
    enum { OWN = 321, BYTES = (OWN + 1) / 2 * 32 };
    device_array<unsigned char> pages(PAGES * BYTES, "pages", KVS_SIMT_READ_ONLY);
    device_array<int> starts(DIM, "starts", KVS_SIMT_READ_ONLY), widths(DIM, "widths", KVS_SIMT_READ_ONLY);
    device_array<float> deviations(DIM, "deviations"), levels((MOST + 1) * STATES, "levels", KVS_SIMT_READ_ONLY);
    device_array<float> values(PAGES * TOKENS * DIM, "values");
    float *want = (float *)calloc(PAGES * TOKENS * DIM, sizeof(float));
    assert_non_null(want);
    memset(pages.data, 0, PAGES * BYTES);
    int start = 0;
    for (int d = 0; d < DIM; d++) { /* widths fall from 7 to 0, as variances of components do */
        deviations[(size_t)d] = 1.0f + kvs_random_unit(50, (uint64_t)d);
        starts[(size_t)d] = start;
        int width = d < 64 ? MOST - d / 16 : d < 97 ? 3 : 0;
        widths[(size_t)d] = width < OWN - start ? width : OWN - start;
        for (int p = 0; p < PAGES; p++) {
            uint8_t codes[TOKENS];
            float level[TOKENS] = {0};
            for (int t = 0; t < TOKENS; t++) {
                codes[t] = (uint8_t)(kvs_random_bits(51, (uint64_t)((p * DIM + d) * TOKENS + t)) &
                                     ((1u << widths[(size_t)d]) - 1));
                for (int bit = 0; bit < widths[(size_t)d]; bit++)
                    pages.data[p * BYTES + (start + bit) * PLANE_BYTES + t / 8] |= (codes[t] >> bit & 1) << t % 8;
            }
            if (widths[(size_t)d] > 0) kvs_trellis_decode(widths[(size_t)d], TOKENS, codes, level);
            for (int t = 0; t < TOKENS; t++) want[(p * TOKENS + t) * DIM + d] = deviations[(size_t)d] * level[t];
        }
        start += widths[(size_t)d];
    }
    assert_int_equal(start, OWN);
    for (int bits = 1; bits <= MOST; bits++)
        memcpy(levels.data + bits * STATES, kvs_trellis_levels(bits), sizeof(float) * STATES);

    kvs_transactions counted;
    kvs_error error;
    kvs_transactions_begin(&counted);
    kvs_simt_settings()->record = kvs_transactions_record;
    kvs_simt_settings()->record_context = &counted;
    launched(kvs_launch(decode_calibrated, PAGES, DIM, BYTES, nullptr, (const unsigned char *)pages.data, (int)BYTES,
                        (const int *)starts.data, (const int *)widths.data, (const float *)deviations.data,
                        (const float *)levels.data, values.data));
    assert_int_equal(kvs_transactions_finish(&counted, &error), KVS_OK);
    kvs_transaction_counts reads = kvs_transactions_sum(&counted, "decode_calibrated", KVS_KINDS_COPY);
    kvs_transactions_clear(&counted);
    for (int i = 0; i < PAGES * TOKENS * DIM; i++)
        if (values[(size_t)i] != want[i]) fail_msg("value %d: %g, wanted %g", i, values[(size_t)i], want[i]);
    free(want);
    printf("# a calibrated page of %d planes: %.0f requests, %.0f sectors\n", (int)OWN, (double)reads.requests / PAGES,
           (double)reads.sectors / PAGES);
    assert_int_equal(reads.sectors, PAGES * BYTES / 32);
    assert_int_equal(reads.requests, PAGES * ((BYTES + 511) / 512));
    assert_int_equal(reads.useful_bytes, PAGES * BYTES);
}

/* Those bytes are what the scheme's account charges. */
static void the_account_charges_these_bytes(void **) {
    kvs_scheme *scheme;
    kvs_error error;
    assert_int_equal(kvs_scheme_open("tcq", DIM, &scheme, &error), KVS_OK);
    kvs_bits k = scheme->k.codec->page_bits(&scheme->k), v = scheme->v.codec->page_bits(&scheme->v);
    assert_true(kvs_bits_sum(k) == 8.0 * PAGE_BYTES);
    assert_true(kvs_bits_sum(v) == 8.0 * (CODES + 2 * DIM * PLANE_BYTES));
    assert_true(kvs_bits_sum(kvs_scheme_page_bits(scheme)) == 2.53125);
    kvs_scheme_close(scheme);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(pages_are_read_in_whole_sectors, default_options),
        cmocka_unit_test_setup(calibrated_pages_are_read_in_whole_sectors, default_options),
        cmocka_unit_test_setup(the_account_charges_these_bytes, default_options),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
