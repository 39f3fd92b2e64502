/* test_replay.c: does a replay find what a cache finds that is simulated token by token, in binary64?
 *
 * The oracle appends a token, lets its queries attend, and then quantizes the pages that became ready, one at a time.
 * It shares the page codec with the replay and nothing else. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/half.h"
#include "core/random.h"
#include "sim/replay.h"

typedef struct shape {
    int layers, query_heads, kv_heads, head_dim, tokens, prompt, every, causal;
    kvs_element element;
    int64_t from_position;
    int prompt_exact, threads;
    double size;      /* of logits: how far the attention is from uniform */
    double tolerance; /* relative; 0: 1e-4 */
} shape;

static char path[] = "/tmp/kvs_replay_XXXXXX";
static double tolerance;

/* --- a random trace ------------------------------------------------------------------------------------------------
 */

static float value(kvs_tensor tensor, int sequence, int layer, int head, int row, int channel, double size) {
    uint64_t key = kvs_random_key(kvs_random_key(kvs_random_key((uint64_t)tensor + 1, (uint64_t)sequence),
                                                 (uint64_t)layer * 1000 + (uint64_t)head),
                                  (uint64_t)row);
    double sum = 0;
    for (uint64_t i = 0; i < 4; i++) sum += (double)kvs_random_unit(key, (uint64_t)channel * 4 + i) - 0.5;
    double outlier = tensor == KVS_TENSOR_K && channel % 7 == 3 ? 5.0 : 1.0;
    return (float)(sum * outlier * (tensor == KVS_TENSOR_Q ? size : 1.0));
}

static int queries_of(const shape *s) {
    return s->every > 0 ? (s->tokens + s->every - 1) / s->every : 0;
}

static void write_head(kvs_trace_writer *writer, const shape *s, kvs_tensor tensor, int sequence, int layer, int head) {
    int rows = tensor == KVS_TENSOR_Q ? queries_of(s) : s->tokens;
    float *values = calloc((size_t)rows * (size_t)s->head_dim + 1, sizeof *values);
    kvs_error error;
    for (int r = 0; r < rows; r++)
        for (int d = 0; d < s->head_dim; d++) {
            float x = value(tensor, sequence, layer, head, r, d, s->size);
            values[r * s->head_dim + d] = s->element == KVS_ELEMENT_BINARY16 ? kvs_round_to_half(x) : x;
        }
    assert_int_equal(kvs_trace_write_rows(writer, tensor, layer, head, 0, rows, values, &error), KVS_OK);
    free(values);
}

enum { SEQUENCES = 2 };

static void write_trace(const shape *s) {
    kvs_trace_header header = {.model_name = "random",
                               .model_family = "test",
                               .layers = s->layers,
                               .query_heads = s->query_heads,
                               .kv_heads = s->kv_heads,
                               .head_dim = s->head_dim,
                               .softmax_scale = 1.0 / sqrt(s->head_dim),
                               .causal = s->causal,
                               .rotary_dim = s->head_dim,
                               .source_dtype = "float32",
                               .recorder = "test",
                               .created_utc = "2026-01-01T00:00:00Z",
                               .license = "CC0-1.0"};
    kvs_trace_writer *writer;
    kvs_error error;
    assert_int_equal(kvs_trace_create(path, &header, (kvs_trace_options){s->element, 0}, &writer, &error), KVS_OK);
    for (int i = 0; i < SEQUENCES; i++) {
        int queries = queries_of(s);
        int32_t *positions = calloc((size_t)queries + 1, sizeof *positions);
        for (int q = 0; q < queries; q++) positions[q] = q * s->every;
        kvs_sequence sequence = {.tokens = s->tokens, .prompt_tokens = s->prompt, .queries = queries, .task = "test"};
        assert_int_equal(kvs_trace_add_sequence(writer, &sequence, queries ? positions : NULL, NULL, &error), KVS_OK);
        free(positions);
        for (int layer = 0; layer < s->layers; layer++) {
            for (int head = 0; head < s->kv_heads; head++) {
                write_head(writer, s, KVS_TENSOR_K, i, layer, head);
                write_head(writer, s, KVS_TENSOR_V, i, layer, head);
            }
            for (int head = 0; queries > 0 && head < s->query_heads; head++)
                write_head(writer, s, KVS_TENSOR_Q, i, layer, head);
        }
    }
    assert_int_equal(kvs_trace_writer_finish(writer, &error), KVS_OK);
}

/* --- the oracle ----------------------------------------------------------------------------------------------------
 */

enum { MOST_SAMPLES = 4096 };

typedef struct samples {
    int count;
    double rel[MOST_SAMPLES], mse[MOST_SAMPLES], kl[MOST_SAMPLES], top1, top8, error, energy;
    double stored_error[2], stored_energy[2];
    int stored[2];
} samples;

/* One of K and V of a head: recorded, as the cache holds it, and how far it is stored. */
typedef struct line {
    const kvs_store *store;
    const float *recorded;
    float *half, *cache;
    int64_t end;
} line;

static void quantize(line *l, kvs_page_place place, int dim, int64_t seen, int lag) {
    if (l->store->codec == NULL) return;
    const kvs_window *w = &l->store->window;
    while (l->end + w->page_tokens + w->recent_tokens + lag <= seen) {
        int64_t first = l->end * dim;
        float *scratch = malloc(sizeof *scratch * (kvs_store_scratch_floats(l->store) + 1));
        place.page = (int)((l->end - w->sink_tokens) / w->page_tokens);
        l->store->codec->pages(l->store, &(kvs_page_context){.place = place}, 1, l->half + first,
                               (kvs_coded){.x_hat = l->cache + first}, scratch);
        free(scratch);
        l->end += w->page_tokens;
    }
}

static void find_top(const double *logits, int n, int k, int *top) {
    for (int i = 0; i < k; i++) {
        top[i] = -1;
        for (int t = 0; t < n; t++) {
            int taken = 0;
            for (int j = 0; j < i; j++) taken |= top[j] == t;
            if (!taken && (top[i] < 0 || logits[t] > logits[top[i]])) top[i] = t;
        }
    }
}

static double agreement(const double *a, const double *b, int n, int k) {
    int x[8], y[8], shared = 0;
    k = k < n ? k : n;
    find_top(a, n, k, x);
    find_top(b, n, k, y);
    for (int i = 0; i < k; i++)
        for (int j = 0; j < k; j++) shared += x[i] == y[j];
    return (double)shared / k;
}

static void attend(samples *s, int n, int dim, double scale, const float *q, const float *q_half, const line *k,
                   const line *v) {
    double *a = calloc((size_t)n, sizeof *a), *b = calloc((size_t)n, sizeof *b), max[2] = {-1e300, -1e300};
    double sum[2] = {0, 0}, mse = 0, kl = 0, error = 0, energy = 0;
    for (int t = 0; t < n; t++) {
        for (int d = 0; d < dim; d++) {
            a[t] += scale * (double)q[d] * (double)k->recorded[t * dim + d];
            b[t] += scale * (double)q_half[d] * (double)k->cache[t * dim + d];
        }
        mse += (a[t] - b[t]) * (a[t] - b[t]) / n;
        max[0] = fmax(max[0], a[t]);
        max[1] = fmax(max[1], b[t]);
    }
    s->top1 += agreement(a, b, n, 1);
    s->top8 += agreement(a, b, n, 8);
    for (int t = 0; t < n; t++) {
        sum[0] += exp(a[t] - max[0]);
        sum[1] += exp(b[t] - max[1]);
    }
    for (int t = 0; t < n; t++) {
        double before = a[t] - max[0] - log(sum[0]), after = b[t] - max[1] - log(sum[1]);
        kl += exp(before) * (before - after);
        a[t] = exp(before);
        b[t] = exp(after);
    }
    for (int d = 0; d < dim; d++) {
        double o = 0, change = 0;
        for (int t = 0; t < n; t++) {
            o += a[t] * (double)v->recorded[t * dim + d];
            change += b[t] * (double)v->cache[t * dim + d] - a[t] * (double)v->recorded[t * dim + d];
        }
        error += change * change;
        energy += o * o;
    }
    assert_true(s->count < MOST_SAMPLES);
    s->rel[s->count] = sqrt(error) / fmax(sqrt(energy), 1e-30);
    s->mse[s->count] = mse;
    s->kl[s->count++] = kl;
    s->error += error;
    s->energy += energy;
    free(a);
    free(b);
}

static void add_stored(samples *s, int which, const line *l, int tokens, int dim) {
    int64_t begin = l->store->codec != NULL ? l->store->window.sink_tokens : 0;
    int64_t end = l->store->codec != NULL ? l->end : tokens;
    for (int64_t i = begin * dim; i < end * dim; i++) {
        double change = (double)l->cache[i] - (double)l->recorded[i];
        s->stored_error[which] += change * change;
        s->stored_energy[which] += (double)l->recorded[i] * (double)l->recorded[i];
        s->stored[which]++;
    }
}

/* Decodes one sequence of one KV head. */
static void decode(const shape *s, kvs_trace *trace, const kvs_scheme *scheme, kvs_page_place place, samples *out) {
    int dim = s->head_dim, group = s->query_heads / s->kv_heads, queries = queries_of(s);
    size_t count = (size_t)s->tokens * (size_t)dim, query_count = (size_t)queries * (size_t)dim;
    float *memory = calloc(6 * count + 2 * (size_t)group * query_count + 1, sizeof *memory);
    float *q = memory + 6 * count, *q_half = q + (size_t)group * query_count;
    line lines[2];
    kvs_error error;
    for (int i = 0; i < 2; i++) {
        float *at = memory + 3 * count * (size_t)i;
        lines[i] = (line){i ? &scheme->v : &scheme->k, at, at + count, at + 2 * count, 0};
        lines[i].end = lines[i].store->window.sink_tokens;
        assert_int_equal(kvs_trace_read_head(trace, place.sequence, i ? KVS_TENSOR_V : KVS_TENSOR_K, place.layer,
                                             place.kv_head, 0, at, &error),
                         KVS_OK);
        kvs_round_floats_to_half(at, at + count, count);
    }
    for (int h = 0; queries > 0 && h < group; h++)
        assert_int_equal(kvs_trace_read_head(trace, place.sequence, KVS_TENSOR_Q, place.layer,
                                             place.kv_head * group + h, 0, q + (size_t)h * query_count, &error),
                         KVS_OK);
    kvs_round_floats_to_half(q, q_half, (size_t)group * query_count);
    int prefill = !s->causal ? s->tokens : s->prompt_exact ? s->prompt : 0;
    for (int p = 0; p < s->tokens; p++) { /* append */
        for (int i = 0; i < 2; i++)
            memcpy(lines[i].cache + p * dim, lines[i].half + p * dim, (size_t)dim * sizeof(float));
        if (!s->causal && p < s->tokens - 1) continue;
        for (int at = s->causal ? p : 0; at <= p; at++) { /* attend; without causality everything is there first */
            if (!s->causal && at == 0)
                for (int i = 0; i < 2; i++) quantize(&lines[i], place, dim, s->tokens, 0);
            if (queries == 0 || at % s->every != 0 || at < s->from_position) continue;
            for (int h = 0; h < group; h++) {
                size_t row = (size_t)h * query_count + (size_t)(at / s->every) * (size_t)dim;
                attend(out, s->causal ? at + 1 : s->tokens, dim, 1.0 / sqrt(dim), q + row, q_half + row, &lines[0],
                       &lines[1]);
            }
        }
        for (int i = 0; i < 2 && s->causal; i++) { /* quantize */
            if (p + 1 == prefill) quantize(&lines[i], place, dim, p + 1, 0);
            if (p + 1 > prefill) quantize(&lines[i], place, dim, p + 1, lines[i].store->window.decode_lag);
        }
    }
    for (int i = 0; i < 2; i++) add_stored(out, i, &lines[i], s->tokens, dim);
    free(memory);
}

/* --- the comparison ------------------------------------------------------------------------------------------------
 */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void assert_near(double found, double wanted, const char *what, const char *spec) {
    if (isnan(wanted) && isnan(found)) return;
    if (fabs(found - wanted) <= tolerance * fabs(wanted) + 1e-13) return;
    fail_msg("%s of %s: %.9g, wanted %.9g", what, spec, found, wanted);
}

static double rank_of(const double *sorted, int count, double q) {
    double place = q * (count - 1);
    int low = (int)place;
    return low + 1 < count ? sorted[low] + (sorted[low + 1] - sorted[low]) * (place - low) : sorted[low];
}

static void check_statistic(kvs_statistic found, double *x, int count, const char *what, const char *spec) {
    double sum = 0;
    for (int i = 0; i < count; i++) sum += x[i];
    qsort(x, (size_t)count, sizeof *x, ascending);
    assert_near(found.mean, count ? sum / count : NAN, what, spec);
    assert_near(found.median, count ? rank_of(x, count, 0.5) : NAN, what, spec);
    assert_near(found.p99, count ? rank_of(x, count, 0.99) : NAN, what, spec);
    assert_near(found.max, count ? x[count - 1] : NAN, what, spec);
}

static double nrmse_of(const samples *s) {
    return s->count ? sqrt(s->error) / fmax(sqrt(s->energy), 1e-30) : NAN;
}

static void check_errors(const kvs_errors *found, samples *s, double nrmse, const char *spec) {
    check_statistic(found->logit_mse, s->mse, s->count, "logit error", spec);
    check_statistic(found->attention_kl, s->kl, s->count, "divergence", spec);
    assert_near(found->attention_output_nrmse, nrmse, "nrmse", spec);
    assert_near(found->top1_agreement, s->count ? s->top1 / s->count : NAN, "top 1", spec);
    assert_near(found->top8_agreement, s->count ? s->top8 / s->count : NAN, "top 8", spec);
    for (int i = 0; i < 2; i++)
        assert_near(i ? found->value_rel_l2 : found->key_rel_l2,
                    s->stored[i] ? sqrt(s->stored_error[i]) / fmax(sqrt(s->stored_energy[i]), 1e-30) : NAN,
                    "stored error", spec);
}

static void merge(samples *all, const samples *head) {
    memcpy(all->rel + all->count, head->rel, (size_t)head->count * sizeof *all->rel);
    memcpy(all->mse + all->count, head->mse, (size_t)head->count * sizeof *all->mse);
    memcpy(all->kl + all->count, head->kl, (size_t)head->count * sizeof *all->kl);
    all->count += head->count;
    all->top1 += head->top1;
    all->top8 += head->top8;
    for (int i = 0; i < 2; i++) {
        all->stored[i] += head->stored[i];
        all->stored_error[i] += head->stored_error[i];
        all->stored_energy[i] += head->stored_energy[i];
    }
}

static void compare(const shape *s, kvs_trace *trace, const kvs_scheme *scheme, const kvs_result *result) {
    samples *all = calloc(1, sizeof *all), *head = calloc(1, sizeof *head);
    double nrmse = 0;
    for (int h = 0; h < s->layers * s->kv_heads; h++) {
        memset(head, 0, sizeof *head);
        for (int i = 0; i < SEQUENCES; i++)
            decode(s, trace, scheme,
                   (kvs_page_place){.seed = 5, .sequence = i, .layer = h / s->kv_heads, .kv_head = h % s->kv_heads},
                   head);
        nrmse += nrmse_of(head) / (s->layers * s->kv_heads);
        merge(all, head);
        check_errors(&result->heads[h].errors, head, nrmse_of(head), scheme->spec);
    }
    check_errors(&result->errors, all, nrmse, scheme->spec);
    free(all);
    free(head);
}

static const char *const specs[] = {
    "fp16",
    "int:bits=8",
    "int:bits=2,sink=3,window=5",
    "kitty:page=16,sink=4,window=8,boost=0.25",
    "kitty:page=16,sink=0,window=0,rank=random,boost=0.5",
    "kitty:variant=simulator,page=16,sink=5,window=16",
    "kivi:bits=2,group=16,residual=32",
    "kivi:bits=4,group=8,residual=8,sink=3",
    "kitty:page=16,sink=200,window=8",
    "int:bits=1",
};
enum { SPECS = sizeof specs / sizeof *specs };

static void replay_and_compare(const shape *s) {
    write_trace(s);
    tolerance = s->tolerance > 0 ? s->tolerance : 1e-4;
    kvs_error error = {0};
    kvs_trace *trace;
    kvs_scheme *schemes[SPECS];
    kvs_result results[SPECS] = {{0}};
    kvs_replay_options options = {.seed = 5,
                                  .from_position = s->from_position,
                                  .prompt_exact = s->prompt_exact,
                                  .threads = s->threads,
                                  .quiet = 1};
    assert_int_equal(kvs_backend_find("cpu", &options.backend, &error), KVS_OK);
    assert_int_equal(kvs_trace_open(path, &trace, &error), KVS_OK);
    assert_int_equal(kvs_replay_open_schemes(specs, SPECS, kvs_trace_header_of(trace), NULL, schemes, &error), KVS_OK);
    kvs_status status = kvs_replay(trace, (const kvs_scheme *const *)schemes, SPECS, &options, NULL, results, &error);
    if (status != KVS_OK) fail_msg("%s: %s", error.object, error.rule);
    for (int i = 0; i < SPECS; i++) {
        compare(s, trace, schemes[i], &results[i]);
        kvs_result_clear(&results[i]);
        kvs_scheme_close(schemes[i]);
    }
    kvs_trace_close(trace);
}

#define SHAPE(...) replay_and_compare(&(shape){__VA_ARGS__})
#define SMALL      .layers = 1, .size = 2.0, .threads = 2, .causal = 1

static void heads_that_share(void **state) {
    (void)state;
    SHAPE(SMALL, .query_heads = 2, .kv_heads = 2, .head_dim = 16, .tokens = 100, .every = 3);
    SHAPE(SMALL, .query_heads = 2, .kv_heads = 1, .head_dim = 32, .tokens = 117, .every = 5);
    SHAPE(SMALL, .query_heads = 8, .kv_heads = 2, .head_dim = 48, .tokens = 75, .every = 4);
}

static void several_layers(void **state) {
    (void)state;
    SHAPE(.layers = 3, .size = 4.0, .threads = 3, .causal = 1, .query_heads = 2, .kv_heads = 1, .head_dim = 16,
          .tokens = 70, .every = 6);
}

static void every_position_of_short_sequences(void **state) {
    (void)state;
    SHAPE(SMALL, .query_heads = 2, .kv_heads = 1, .head_dim = 16, .tokens = 60, .every = 1);
    SHAPE(SMALL, .query_heads = 1, .kv_heads = 1, .head_dim = 16, .tokens = 1, .every = 1);
    SHAPE(SMALL, .query_heads = 1, .kv_heads = 1, .head_dim = 16, .tokens = 9, .every = 1);
}

/* Logits of several hundred, in binary32, leave their mark; errors stay right to 1e-3. */
static void peaked_and_flat_attention(void **state) {
    (void)state;
    SHAPE(.layers = 1, .size = 60.0, .tolerance = 1e-3, .threads = 1, .causal = 1, .query_heads = 1, .kv_heads = 1,
          .head_dim = 32, .tokens = 90, .every = 2);
    SHAPE(.layers = 1, .size = 0.01, .threads = 1, .causal = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 32,
          .tokens = 90, .every = 2);
}

static void queries_that_see_all_keys(void **state) {
    (void)state;
    SHAPE(.layers = 1, .size = 2.0, .threads = 2, .causal = 0, .query_heads = 2, .kv_heads = 1, .head_dim = 16,
          .tokens = 100, .every = 7);
}

static void prompts_in_full_precision(void **state) {
    (void)state;
    SHAPE(SMALL, .query_heads = 2, .kv_heads = 1, .head_dim = 16, .tokens = 110, .every = 3, .prompt = 53,
          .prompt_exact = 1);
    SHAPE(SMALL, .query_heads = 2, .kv_heads = 1, .head_dim = 16, .tokens = 70, .every = 3, .prompt = 70,
          .prompt_exact = 1);
}

static void late_positions(void **state) {
    (void)state;
    SHAPE(SMALL, .query_heads = 2, .kv_heads = 1, .head_dim = 16, .tokens = 100, .every = 3, .from_position = 50);
    SHAPE(SMALL, .query_heads = 2, .kv_heads = 1, .head_dim = 16, .tokens = 100, .every = 3, .from_position = 1000);
}

static void traces_that_are_not_binary16(void **state) {
    (void)state;
    SHAPE(SMALL, .query_heads = 2, .kv_heads = 1, .head_dim = 32, .tokens = 100, .every = 3,
          .element = KVS_ELEMENT_BINARY32);
    SHAPE(SMALL, .query_heads = 2, .kv_heads = 1, .head_dim = 32, .tokens = 60, .every = 3,
          .element = KVS_ELEMENT_BFLOAT16);
    SHAPE(.layers = 1, .size = 2.0, .threads = 2, .causal = 0, .query_heads = 1, .kv_heads = 1, .head_dim = 16,
          .tokens = 80, .every = 7, .element = KVS_ELEMENT_BINARY32);
}

/* Threads beyond the units help inside them; the bytes stay the same. */
static void threads_inside_a_unit(void **state) {
    (void)state;
    shape s = {SMALL, .query_heads = 2, .kv_heads = 1, .head_dim = 32, .tokens = 300, .every = 1};
    write_trace(&s);
    kvs_error error;
    kvs_trace *trace;
    kvs_scheme *scheme;
    kvs_errors found[2];
    kvs_replay_options options = {.seed = 5, .quiet = 1};
    assert_int_equal(kvs_backend_find("cpu", &options.backend, &error), KVS_OK);
    assert_int_equal(kvs_trace_open(path, &trace, &error), KVS_OK);
    assert_int_equal(kvs_replay_open_schemes(specs + 3, 1, kvs_trace_header_of(trace), NULL, &scheme, &error), KVS_OK);
    for (int i = 0; i < 2; i++) {
        kvs_result result = {0};
        options.threads = i ? 9 : 1;
        assert_int_equal(kvs_replay(trace, (const kvs_scheme *const *)&scheme, 1, &options, NULL, &result, &error),
                         KVS_OK);
        found[i] = result.errors;
        kvs_result_clear(&result);
    }
    assert_memory_equal(&found[0], &found[1], sizeof found[0]);
    assert_true(found[0].attention_kl.mean > 1e-6);
    kvs_scheme_close(scheme);
    kvs_trace_close(trace);
}

static void traces_without_queries(void **state) {
    (void)state;
    SHAPE(SMALL, .query_heads = 2, .kv_heads = 1, .head_dim = 16, .tokens = 100, .every = 0);
}

static int set_up(void **state) {
    (void)state;
    int file = mkstemp(path);
    return file < 0 || close(file) != 0;
}

static int tear_down(void **state) {
    (void)state;
    return unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_that_share),
        cmocka_unit_test(several_layers),
        cmocka_unit_test(every_position_of_short_sequences),
        cmocka_unit_test(peaked_and_flat_attention),
        cmocka_unit_test(queries_that_see_all_keys),
        cmocka_unit_test(prompts_in_full_precision),
        cmocka_unit_test(late_positions),
        cmocka_unit_test(traces_that_are_not_binary16),
        cmocka_unit_test(threads_inside_a_unit),
        cmocka_unit_test(traces_without_queries),
    };
    return cmocka_run_group_tests_name("replay", tests, set_up, tear_down);
}
