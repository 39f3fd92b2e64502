/* test_kitty.c: equality, bit for bit, with what the public Kitty simulator returned.
 *
 * The file is $KVS_GOLDEN (make golden GOLDEN=FILE), or else the cut that ships here and, where it stands, the whole
 * ../shared/golden/kitty_reference.h5. Its layout and semantics: that folder's README. */
#include <hdf5.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* cmocka.h wants these first */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/scheme.h"

#define CUT   "tests/golden/kitty_cut.h5"
#define WHOLE "../shared/golden/kitty_reference.h5"

typedef struct golden {
    hid_t file;
    int key_pages, cache_runs;
    int64_t elements;  /* compared */
    int free_channels; /* whose boost rests on a tie of scores */
    char fault[512];   /* the first difference or unreadable thing; "" if none */
} golden;

static void fault(golden *g, const char *text, ...) {
    if (g->fault[0] != '\0') return;
    va_list list;
    va_start(list, text);
    vsnprintf(g->fault, sizeof g->fault, text, list);
    va_end(list);
}

/* --- reading -------------------------------------------------------------------------------------------------------
 */

/* A dataset of three dimensions (two count as the last two) in binary32, or NULL. The caller frees it. */
static float *read_floats(golden *g, hid_t group, const char *name, hsize_t dims[3]) {
    hid_t data = H5Dopen2(group, name, H5P_DEFAULT);
    hid_t space = data >= 0 ? H5Dget_space(data) : -1;
    float *values = NULL;
    int rank = space >= 0 ? H5Sget_simple_extent_ndims(space) : -1;
    dims[0] = 1;
    if ((rank == 2 || rank == 3) && H5Sget_simple_extent_dims(space, dims + (3 - rank), NULL) == rank) {
        values = malloc(sizeof *values * (size_t)(dims[0] * dims[1] * dims[2]));
        if (values != NULL && H5Dread(data, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0) {
            free(values);
            values = NULL;
        }
    }
    if (values == NULL) fault(g, "%s: cannot be read", name);
    if (space >= 0) H5Sclose(space);
    if (data >= 0) H5Dclose(data);
    return values;
}

static double number(golden *g, hid_t group, const char *name) {
    double value = NAN;
    hid_t attribute = H5Aexists(group, name) > 0 ? H5Aopen(group, name, H5P_DEFAULT) : -1;
    if (attribute < 0 || H5Aread(attribute, H5T_NATIVE_DOUBLE, &value) < 0) fault(g, "%s: no such attribute", name);
    if (attribute >= 0) H5Aclose(attribute);
    return value;
}

static int whole(golden *g, hid_t group, const char *name) {
    double value = number(g, group, name);
    return isnan(value) ? 0 : (int)value;
}

/* A string of variable or fixed length. */
static void text(golden *g, hid_t group, const char *name, char out[64]) {
    hid_t attribute = H5Aexists(group, name) > 0 ? H5Aopen(group, name, H5P_DEFAULT) : -1;
    hid_t type = attribute >= 0 ? H5Aget_type(attribute) : -1;
    int good = 0;
    memset(out, 0, 64);
    if (type >= 0 && H5Tis_variable_str(type) > 0) {
        char *value = NULL;
        good = H5Aread(attribute, type, &value) >= 0 && value != NULL;
        if (good) strncpy(out, value, 63);
        H5free_memory(value);
    } else if (type >= 0 && H5Tget_size(type) < 64)
        good = H5Aread(attribute, type, out) >= 0;
    if (!good) fault(g, "%s: no such text", name);
    if (type >= 0) H5Tclose(type);
    if (attribute >= 0) H5Aclose(attribute);
}

static kvs_scheme *open_scheme(golden *g, const char *spec, hsize_t head_dim) {
    kvs_scheme *scheme;
    kvs_error error;
    if (kvs_scheme_open(spec, (int)head_dim, &scheme, &error) == KVS_OK) return scheme;
    fault(g, "%s: %s: %s", spec, error.object, error.rule);
    return NULL;
}

static void *allocate(size_t bytes) {
    void *memory = malloc(bytes);
    assert_non_null(memory);
    return memory;
}

/* --- key pages -----------------------------------------------------------------------------------------------------
 */

/* Scores in binary64, from the definition. */
static void exact_scores(const float *k, int tokens, int head_dim, int variance, double *scores) {
    for (int d = 0; d < head_dim; d++) {
        double mean = 0, sum = 0;
        for (int t = 0; t < tokens; t++) mean += (double)k[t * head_dim + d] / tokens;
        for (int t = 0; t < tokens; t++) {
            double x = k[t * head_dim + d];
            sum += variance ? (x - mean) * (x - mean) : fabs(x);
        }
        scores[d] = sum / tokens;
    }
}

/* Whether the two masks boost as many channels, and differ only between scores that agree within 1e-6. */
static int masks_agree(const double *scores, const float *want, const uint8_t *ranks, int count, int head_dim,
                       golden *g) {
    double least = INFINITY, most = 0;
    int wanted = 0, got = 0, differ = 0;
    for (int d = 0; d < head_dim; d++) {
        int boosted = ranks[d] < count;
        wanted += want[d] != 0, got += boosted;
        if (boosted == (want[d] != 0)) continue;
        differ++;
        if (scores[d] < least) least = scores[d];
        if (scores[d] > most) most = scores[d];
    }
    g->free_channels += differ;
    return wanted == got && (differ == 0 || most - least <= 1e-6 * most);
}

static void compare_page_head(golden *g, const kvs_scheme *scheme, int variance, const float *k, const float *mask,
                              const float *want) {
    int tokens = scheme->k.window.page_tokens, head_dim = scheme->head_dim, count = 0;
    size_t elements = (size_t)tokens * (size_t)head_dim;
    float *x_hat = allocate(sizeof *x_hat * elements);
    float *scratch = allocate(sizeof *scratch * kvs_store_scratch_floats(&scheme->k));
    double *scores = allocate(sizeof *scores * (size_t)head_dim);
    uint8_t *ranks = allocate((size_t)head_dim);
    kvs_coded out = {.x_hat = x_hat, .ranks = ranks};
    scheme->k.codec->pages(&scheme->k, &(kvs_page_context){.place = {0}}, 1, k, out, scratch);
    for (int d = 0; d < head_dim; d++) count += mask[d] != 0;
    exact_scores(k, tokens, head_dim, variance, scores);
    if (count < head_dim && !masks_agree(scores, mask, ranks, count, head_dim, g)) fault(g, "boost_mask differs");
    for (size_t i = 0; i < elements; i++) {
        int d = (int)(i % (size_t)head_dim);
        if (count < head_dim && (ranks[d] < count) != (mask[d] != 0)) continue;
        g->elements++;
        if (memcmp(&x_hat[i], &want[i], sizeof *want) != 0)
            fault(g, "k_dequantized: token %zu, channel %d: %.9g, not %.9g", i / (size_t)head_dim, d, (double)x_hat[i],
                  (double)want[i]);
    }
    free(x_hat), free(scratch), free(scores), free(ranks);
}

static void compare_key_page(golden *g, hid_t group) {
    hsize_t dims[3], mask_dims[3], want_dims[3];
    char ranking[64], spec[256];
    float *k = read_floats(g, group, "k", dims);
    float *mask = read_floats(g, group, "boost_mask", mask_dims);
    float *want = read_floats(g, group, "k_dequantized", want_dims);
    text(g, group, "ranking", ranking);
    snprintf(
        spec, sizeof spec,
        "kitty:variant=simulator,range_floor=1e-6,sink=0,bits=%d,boost_bits=%d,boost=%.17g,rank=%s,page=%d,group=%d",
        whole(g, group, "bits"), whole(g, group, "boost_bits"), number(g, group, "boost_ratio"), ranking,
        whole(g, group, "tokens"), whole(g, group, "group_tokens"));
    kvs_scheme *scheme = g->fault[0] == '\0' ? open_scheme(g, spec, dims[2]) : NULL;
    if (scheme != NULL && (memcmp(dims, want_dims, sizeof dims) != 0 || mask_dims[2] != dims[2] ||
                           mask_dims[1] * mask_dims[0] != dims[0] || dims[1] != (hsize_t)scheme->k.window.page_tokens))
        fault(g, "shapes disagree");
    for (hsize_t h = 0; scheme != NULL && g->fault[0] == '\0' && h < dims[0]; h++)
        compare_page_head(g, scheme, strcmp(ranking, "variance") == 0, k + h * dims[1] * dims[2], mask + h * dims[2],
                          want + h * dims[1] * dims[2]);
    kvs_scheme_close(scheme);
    free(k), free(mask), free(want);
    g->key_pages++;
}

/* --- cache runs ----------------------------------------------------------------------------------------------------
 */

/* The cache's content after `tokens` tokens and their quantization: what is stored, and the rest as it was. */
static void compare_cache(golden *g, hid_t group, const kvs_store *store, const char *input, const char *expected,
                          int tokens, int prefill) {
    hsize_t dims[3], want_dims[3];
    float *x = read_floats(g, group, input, dims), *want = read_floats(g, group, expected, want_dims);
    if (g->fault[0] == '\0' && (memcmp(dims, want_dims, sizeof dims) != 0 || (hsize_t)tokens > dims[1]))
        fault(g, "%s: shape disagrees", expected);
    if (g->fault[0] == '\0') {
        size_t elements = (size_t)(dims[1] * dims[2]);
        float *cache = allocate(sizeof *cache * elements);
        float *scratch = allocate(sizeof *scratch * kvs_store_scratch_floats(store));
        for (hsize_t h = 0; h < dims[0]; h++) {
            memcpy(cache, x + h * elements, sizeof *cache * elements);
            kvs_store_pages(store, &(kvs_page_context){.place = {0}},
                            kvs_window_stored_end(&store->window, tokens, prefill), x + h * elements, cache, NULL,
                            scratch);
            for (size_t i = 0; i < elements; i++)
                if (memcmp(&cache[i], &want[h * elements + i], sizeof *want) != 0)
                    fault(g, "%s: token %zu, channel %zu: %.9g, not %.9g", expected, i / (size_t)dims[2],
                          i % (size_t)dims[2], (double)cache[i], (double)want[h * elements + i]);
            g->elements += (int64_t)elements;
        }
        free(cache), free(scratch);
    }
    free(x), free(want);
}

static void compare_cache_run(golden *g, hid_t group) {
    char ranking[64], spec[320];
    int prefill = whole(g, group, "prefill_tokens"), tokens = prefill + whole(g, group, "decode_tokens");
    int buffer = whole(g, group, "buffer_tokens"), size = whole(g, group, "group_size");
    text(g, group, "ranking", ranking);
    snprintf(spec, sizeof spec,
             "kitty:variant=simulator,range_floor=1e-6,sink=%d,page=%d,window=%d,group=%d,v_group=%d,bits=%d,v_bits=%d,"
             "boost_bits=%d,boost=%.17g,rank=%s",
             whole(g, group, "sink_tokens"), buffer, buffer, size, size, whole(g, group, "key_bits"),
             whole(g, group, "value_bits"), whole(g, group, "boost_bits"), number(g, group, "boost_ratio"), ranking);
    kvs_scheme *scheme = g->fault[0] == '\0' ? open_scheme(g, spec, (hsize_t)whole(g, group, "head_dim")) : NULL;
    if (scheme != NULL) {
        compare_cache(g, group, &scheme->k, "k", "k_cache_after", tokens, prefill);
        compare_cache(g, group, &scheme->v, "v", "v_cache_after", tokens, prefill);
        compare_cache(g, group, &scheme->k, "k", "k_seen_by_last_step", tokens - 1, prefill);
        compare_cache(g, group, &scheme->v, "v", "v_seen_by_last_step", tokens - 1, prefill);
    }
    kvs_scheme_close(scheme);
    g->cache_runs++;
}

/* --- a file --------------------------------------------------------------------------------------------------------
 */

static void compare_case(golden *g, hid_t kind, const char *kind_name, hsize_t index) {
    char name[64] = "?", what[512];
    if (H5Lget_name_by_idx(kind, ".", H5_INDEX_NAME, H5_ITER_INC, index, name, sizeof name, H5P_DEFAULT) < 0)
        fault(g, "cannot be listed");
    hid_t group = H5Gopen2(kind, name, H5P_DEFAULT);
    if (group < 0) fault(g, "cannot be opened");
    if (group >= 0) {
        if (strcmp(kind_name, "key_page") == 0)
            compare_key_page(g, group);
        else
            compare_cache_run(g, group);
        H5Gclose(group);
    }
    if (g->fault[0] == '\0') return;
    snprintf(what, sizeof what, "%s", g->fault);
    snprintf(g->fault, sizeof g->fault, "%s/%s: %.400s", kind_name, name, what);
}

static golden compare_file(const char *path) {
    golden g = {.file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT)};
    const char *const kinds[] = {"key_page", "cache_run"};
    if (g.file < 0) fault(&g, "cannot be opened");
    for (int i = 0; i < 2 && g.file >= 0 && g.fault[0] == '\0'; i++) {
        hid_t kind = H5Lexists(g.file, kinds[i], H5P_DEFAULT) > 0 ? H5Gopen2(g.file, kinds[i], H5P_DEFAULT) : -1;
        H5G_info_t info = {.nlinks = 0};
        if (kind < 0) continue;
        if (H5Gget_info(kind, &info) < 0) fault(&g, "%s: cannot be listed", kinds[i]);
        for (hsize_t c = 0; c < info.nlinks && g.fault[0] == '\0'; c++) compare_case(&g, kind, kinds[i], c);
        H5Gclose(kind);
    }
    if (g.file >= 0) H5Fclose(g.file);
    if (g.key_pages + g.cache_runs == 0) fault(&g, "no key_page and no cache_run in it");
    return g;
}

static void require_equal(const char *path) {
    golden g = compare_file(path);
    if (g.fault[0] != '\0') fail_msg("%s: %s", path, g.fault);
    print_message("# %s: %d key pages, %d cache runs, %lld elements equal bit for bit; %d channels with tied scores\n",
                  path, g.key_pages, g.cache_runs, (long long)g.elements, g.free_channels);
}

/* --- tests ---------------------------------------------------------------------------------------------------------
 */

static void equals_the_golden_file(void **state) {
    (void)state;
    const char *path = getenv("KVS_GOLDEN");
    require_equal(path != NULL && path[0] != '\0' ? path : CUT);
}

static void equals_the_whole_reference(void **state) {
    (void)state;
    if (access(WHOLE, R_OK) != 0) skip();
    require_equal(WHOLE);
}

/* Copies the cut to a temporary file and changes the last place of one value. */
static void corrupt(const char *copy, const char *dataset) {
    char command[256];
    snprintf(command, sizeof command, "cp %s %s && chmod u+w %s", CUT, copy, copy);
    assert_int_equal(system(command), 0);
    hid_t file = H5Fopen(copy, H5F_ACC_RDWR, H5P_DEFAULT), data = H5Dopen2(file, dataset, H5P_DEFAULT);
    hid_t space = H5Dget_space(data);
    size_t count = (size_t)H5Sget_simple_extent_npoints(space);
    float *values = allocate(sizeof *values * count);
    assert_true(H5Dread(data, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    values[count / 2] = nextafterf(values[count / 2], INFINITY);
    assert_true(H5Dwrite(data, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    free(values);
    H5Sclose(space), H5Dclose(data), H5Fclose(file);
}

static void one_changed_bit_is_found(void **state) {
    (void)state;
    const char *const datasets[] = {"key_page/010/k_dequantized", "cache_run/007/k_cache_after",
                                    "cache_run/008/v_seen_by_last_step"};
    for (size_t i = 0; i < sizeof datasets / sizeof *datasets; i++) {
        char copy[] = "/tmp/kvs_golden_XXXXXX";
        int descriptor = mkstemp(copy);
        assert_true(descriptor >= 0);
        close(descriptor);
        corrupt(copy, datasets[i]);
        golden g = compare_file(copy);
        unlink(copy);
        assert_non_null(strstr(g.fault, strrchr(datasets[i], '/') + 1));
    }
}

static void a_file_without_cases_is_refused(void **state) {
    (void)state;
    char path[] = "/tmp/kvs_golden_XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    H5Fclose(H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    golden g = compare_file(path);
    unlink(path);
    assert_string_equal(g.fault, "no key_page and no cache_run in it");
    g = compare_file("/nonexistent.h5");
    assert_string_equal(g.fault, "cannot be opened");
}

int main(void) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_golden_file),
        cmocka_unit_test(equals_the_whole_reference),
        cmocka_unit_test(one_changed_bit_is_found),
        cmocka_unit_test(a_file_without_cases_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
