/* bench_inputs.c: what a benchmark on a device reads: random elements, and a pool of memory that is filled with them.
 */
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/random.h"
#include "sim/bench_run.h"

size_t kvs_bench_element_bytes(const kvs_bench_run *r) {
    return 2 * (size_t)r->bench->elements;
}

kvs_status kvs_bench_upload_elements(kvs_bench_run *r, kvs_error *error) {
    uint16_t *x = malloc(kvs_bench_element_bytes(r));
    if (x == NULL) return kvs_fail(error, KVS_INPUT, "bench", NULL, "out of memory");
    for (int i = 0; i < r->bench->elements; i++) {
        uint64_t bits = kvs_random_bits(r->bench->seed, (uint64_t)i);
        float sum = 0;
        for (int j = 0; j < 4; j++) sum += (float)(bits >> 16 * j & 0xffff) / 65536.0f - 0.5f;
        if (i % 16 == 3) sum = 4.0f * sum + 8.0f; /* channels with outliers, as keys have them */
        x[i] = kvs_float_to_half(sum);
    }
    kvs_status status = r->executor->allocate(kvs_bench_element_bytes(r), "elements", &r->elements, error);
    if (status == KVS_OK) status = r->executor->upload(r->elements, x, kvs_bench_element_bytes(r), error);
    free(x);
    return status;
}

kvs_status kvs_bench_repeat(kvs_bench_run *r, void *begin, size_t whole, const void *source, size_t bytes,
                            kvs_error *error) {
    for (size_t at = 0; at < whole; at += bytes) {
        size_t piece = whole - at < bytes ? whole - at : bytes;
        char *to = (char *)begin + at;
        if (to == source) continue;
        KVS_TRY(kvs_executor_copy(r->executor, source, to, piece / 16 * 16, NULL, error));
    }
    return r->executor->synchronize(error);
}

kvs_status kvs_bench_fill_pool(kvs_bench_run *r, kvs_error *error) {
    return kvs_bench_repeat(r, r->pool, r->pool_bytes, r->elements, kvs_bench_element_bytes(r), error);
}

kvs_status kvs_bench_new_pool(kvs_bench_run *r, size_t bytes, kvs_error *error) {
    r->executor->release(r->pool);
    r->pool = NULL;
    r->pool_bytes = (bytes + 255) / 256 * 256;
    return r->executor->allocate(r->pool_bytes, "pages", &r->pool, error);
}

kvs_format kvs_bench_format(const kvs_bench_run *r, const char *layout) {
    const kvs_device_bench *b = r->bench;
    kvs_page_shape shape = {b->head_dim, b->page_tokens, b->kv_heads, 2, 4, b->boost_channels, 2, 0, 0};
    kvs_format format;
    if (kvs_format_make(kvs_layout_find(layout), &shape, &format, NULL) != KVS_OK) format = (kvs_format){.tensors = 0};
    return format;
}

kvs_affine_rule kvs_bench_rule(void) {
    return (kvs_affine_rule){KVS_ROUND_HALF_UP, KVS_META_BINARY16, KVS_DIVIDE_BY_WORKING, 1e-6f, 0};
}

double kvs_bench_part_bytes(const kvs_format *format, int values) {
    double bytes = 0;
    for (int i = 0; i < format->sections_count; i++)
        if ((strncmp(format->sections[i].name, "value", 5) == 0) == values) bytes += format->sections[i].bytes;
    return format->keys == KVS_KEYS_FULL ? bytes / format->shape.kv_heads : bytes;
}
