#include "kernels/calibrated.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/simd.h"
#include "kernels/row_coder.h"

enum { SECTOR = 32 }; /* bytes that memory moves at least */

/* One tensor of one layer and head. */
typedef struct head_constants {
    float *mean;  /* [channels] */
    float *basis; /* [components][channels] */
    float *forth; /* [channels][components], its inverse: z = sum over d of (x_d - mean_d) forth[d] */
    uint8_t *widths;
} head_constants;

typedef struct config {
    kvs_row_coder coder;
    int kv_heads;
    /* Of the mean head: bit planes of a page, what it lacks to whole sectors, bits of constants charged to it. */
    double page_planes, page_padding, page_constants;
    head_constants *heads; /* [layers * kv_heads] */
} config;

/* --- the codec -----------------------------------------------------------------------------------------------------
 */

typedef struct work {
    float *rows, *values, *components, *row_scratch; /* rows: [components][page_tokens]; components: [head_dim] */
    uint8_t *codes;
} work;

static size_t divide(const kvs_store *store, float *scratch, work *w) {
    size_t dim = (size_t)store->head_dim, tokens = (size_t)store->window.page_tokens, at = 0;
    float **parts[] = {&w->rows, &w->values, &w->components, &w->row_scratch};
    size_t floats[] = {dim * tokens, tokens, dim, kvs_trellis_scratch((int)tokens)};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
        *parts[i] = scratch + at;
        at += floats[i];
    }
    w->codes = (uint8_t *)(scratch + at);
    return at + (tokens + sizeof(float) - 1) / sizeof(float);
}

/* y += a x */
KVS_SIMD static void add_scaled(int count, float a, const float *restrict x, float *restrict y) {
#pragma omp simd
    for (int i = 0; i < count; i++) y[i] += a * x[i];
}

static void to_components(int dim, int tokens, const head_constants *h, const float *x, work *w) {
    for (int t = 0; t < tokens; t++, x += dim) {
        memset(w->components, 0, sizeof *w->components * (size_t)dim);
        for (int d = 0; d < dim; d++)
            add_scaled(dim, x[d] - h->mean[d], h->forth + (size_t)d * (size_t)dim, w->components);
        for (int c = 0; c < dim; c++) w->rows[(size_t)c * (size_t)tokens + (size_t)t] = w->components[c];
    }
}

static void to_channels(int dim, int tokens, const head_constants *h, const work *w, float *x_hat) {
    for (int t = 0; t < tokens; t++, x_hat += dim) {
        memcpy(x_hat, h->mean, sizeof *x_hat * (size_t)dim);
        for (int c = 0; c < dim; c++)
            if (h->widths[c] > 0)
                add_scaled(dim, w->rows[(size_t)c * (size_t)tokens + (size_t)t], h->basis + (size_t)c * (size_t)dim,
                           x_hat);
    }
}

static void code_page(const kvs_store *store, const head_constants *h, const float *x, float *x_hat, uint8_t *codes,
                      work *w) {
    const config *c = store->config;
    int dim = store->head_dim, tokens = store->window.page_tokens;
    to_components(dim, tokens, h, x, w);
    for (int i = 0; i < dim; i++) {
        float *row = w->rows + (size_t)i * (size_t)tokens;
        kvs_row_encode(&c->coder, h->widths[i], tokens, row, w->codes, w->values, w->row_scratch);
        memcpy(row, w->values, sizeof *row * (size_t)tokens);
        for (int t = 0; t < tokens && codes != NULL; t++) codes[(size_t)t * (size_t)dim + (size_t)i] = w->codes[t];
    }
    if (x_hat != NULL) to_channels(dim, tokens, h, w, x_hat);
}

static void pages(const kvs_store *store, const kvs_page_context *first, int64_t count, const float *x, kvs_coded out,
                  float *scratch) {
    const config *c = store->config;
    const head_constants *h = &c->heads[first->place.layer * c->kv_heads + first->place.kv_head];
    size_t elements = (size_t)store->window.page_tokens * (size_t)store->head_dim;
    work w;
    divide(store, scratch, &w);
    for (int64_t p = 0; p < count; p++) {
        size_t at = (size_t)p * elements;
        code_page(store, h, x + at, out.x_hat != NULL ? out.x_hat + at : NULL,
                  out.codes != NULL ? out.codes + at : NULL, &w);
    }
}

static size_t scratch_floats(const kvs_store *store) {
    work unused;
    return divide(store, NULL, &unused);
}

/* Heads may have pages of different sizes; this is the mean one. */
static kvs_bits page_bits(const kvs_store *store) {
    const config *c = store->config;
    return (kvs_bits){.payload = c->page_planes * store->window.page_tokens,
                      .metadata = c->page_constants,
                      .padding = c->page_padding};
}

static const kvs_codec codec = {pages, scratch_floats, NULL, page_bits};

/* --- opening -------------------------------------------------------------------------------------------------------
 */

/* inverse = that of a [n][n], by Gauss and Jordan with rows exchanged; a is destroyed. 0 where there is none. */
static int invert(int n, double *a, double *inverse) {
    memset(inverse, 0, sizeof *inverse * (size_t)n * (size_t)n);
    for (int i = 0; i < n; i++) inverse[(size_t)i * (size_t)n + (size_t)i] = 1.0;
    for (int column = 0; column < n; column++) {
        int pivot = column;
        for (int row = column; row < n; row++) {
            double here = a[(size_t)row * (size_t)n + (size_t)column],
                   best = a[(size_t)pivot * (size_t)n + (size_t)column];
            pivot = here * here > best * best ? row : pivot;
        }
        double *top = a + (size_t)column * (size_t)n, *chosen = a + (size_t)pivot * (size_t)n;
        double *top_inverse = inverse + (size_t)column * (size_t)n,
               *chosen_inverse = inverse + (size_t)pivot * (size_t)n;
        if (chosen[column] == 0.0) return 0;
        for (int j = 0; j < n; j++) {
            double moved = top[j], moved_inverse = top_inverse[j];
            top[j] = chosen[j], chosen[j] = moved;
            top_inverse[j] = chosen_inverse[j], chosen_inverse[j] = moved_inverse;
        }
        double factor = 1.0 / top[column];
        for (int j = 0; j < n; j++) top[j] *= factor, top_inverse[j] *= factor;
        for (int row = 0; row < n; row++) {
            double *other = a + (size_t)row * (size_t)n, *other_inverse = inverse + (size_t)row * (size_t)n;
            double times = row != column ? other[column] : 0.0;
            for (int j = 0; j < n && times != 0.0; j++)
                other[j] -= times * top[j], other_inverse[j] -= times * top_inverse[j];
        }
    }
    return 1;
}

/* Fills h from a record. x = mean + z basis, so z = (x - mean) basis^-1, whose row d is what channel d adds. */
static int unpack(int dim, kvs_constants_record r, double *matrix, double *inverse, head_constants *h) {
    size_t elements = (size_t)dim * (size_t)dim;
    kvs_halves_to_floats(r.basis, h->basis, elements);
    kvs_halves_to_floats(r.mean, h->mean, (size_t)dim);
    memcpy(h->widths, r.widths, (size_t)dim);
    for (size_t i = 0; i < elements; i++) matrix[i] = (double)h->basis[i];
    if (!invert(dim, matrix, inverse)) return 0;
    for (size_t i = 0; i < elements; i++) h->forth[i] = (float)inverse[i];
    return kvs_first_nonfinite(h->forth, elements) == elements;
}

/* Adds a head's part of the mean page: planes of whole bytes, and all of them whole sectors. */
static void add_planes(const uint8_t *widths, const kvs_constants_header *header, int page_tokens, config *c) {
    int planes = 0, heads = header->layers * header->kv_heads;
    for (int d = 0; d < header->head_dim; d++) planes += widths[d];
    int bytes = planes * ((page_tokens + 7) / 8), whole = (bytes + SECTOR - 1) / SECTOR * SECTOR;
    c->page_planes += (double)planes / heads;
    c->page_padding += (8.0 * whole - (double)planes * page_tokens) / heads;
}

static kvs_status unpack_all(kvs_scheme *scheme, const char *path, const kvs_constants_header *header, uint8_t *records,
                             int tensor, int page_tokens, double *matrix, config *c, kvs_error *error) {
    size_t dim = (size_t)header->head_dim;
    for (int i = 0; i < header->layers * header->kv_heads; i++) {
        int layer = i / header->kv_heads, head = i % header->kv_heads;
        head_constants *h = &c->heads[i];
        h->mean = kvs_scheme_alloc(scheme, sizeof(float) * (2 * dim * dim + dim) + dim);
        if (h->mean == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
        h->basis = h->mean + dim;
        h->forth = h->basis + dim * dim;
        h->widths = (uint8_t *)(h->forth + dim * dim);
        kvs_constants_record r = kvs_constants_at(header, records, tensor, layer, head);
        if (!unpack(header->head_dim, r, matrix, matrix + dim * dim, h))
            return kvs_fail(error, KVS_INPUT, path, NULL, "the basis of %s of layer %d, head %d has no inverse",
                            tensor == KVS_CONSTANTS_K ? "K" : "V", layer, head);
        add_planes(h->widths, header, page_tokens, c);
    }
    return KVS_OK;
}

kvs_status kvs_calibrated_store(kvs_scheme *scheme, kvs_store *store, kvs_window window, const char *path,
                                const kvs_constants_header *header, uint8_t *records, int tensor, kvs_error *error) {
    config c = {.kv_heads = header->kv_heads};
    size_t dim = (size_t)header->head_dim, heads = (size_t)header->layers * (size_t)header->kv_heads;
    c.page_constants =
        8.0 * (double)kvs_constants_record_bytes(header->head_dim) * window.page_tokens / KVS_CONSTANTS_TOKENS;
    c.heads = kvs_scheme_alloc(scheme, sizeof *c.heads * heads);
    double *matrix = malloc(sizeof *matrix * 2 * dim * dim);
    kvs_status status = KVS_OK;
    if (c.heads == NULL || matrix == NULL) status = kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    if (status == KVS_OK)
        status = unpack_all(scheme, path, header, records, tensor, window.page_tokens, matrix, &c, error);
    free(matrix);
    KVS_TRY(status);
    kvs_row_coder_make(KVS_ROW_TRELLIS, &c.coder);
    scheme->model_layers = header->layers;
    scheme->model_kv_heads = header->kv_heads;
    char *name = kvs_scheme_alloc(scheme, sizeof header->model);
    if (name == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    memcpy(name, header->model, sizeof header->model);
    scheme->model_name = name;
    scheme->constants = path;
    return kvs_store_make(scheme, store, window, &codec, &c, sizeof c, error);
}
