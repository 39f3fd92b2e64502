/* test_closed_loop.c: one pass over a window equals a literal loop that decodes token by token.
 *
 * The loop below is written out from design.md ("a step appends, attends, then quantizes") with plain sums, and shares
 * with the pass only the rotary embedding and the scheme's page codec. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/random.h"
#include "sim/model/forward.h"
#include "sim/model/rope.h"

enum { LAYERS = 2, HIDDEN = 48, INNER = 64, HEADS = 4, GROUPS = 2, DIM = 32, VOCABULARY = 50, TOKENS = 150 };
enum { KV = GROUPS * DIM, Q = HEADS * DIM };

/* --- a random model in memory --------------------------------------------------------------------------------------
 */

static float *random_floats(size_t count, uint64_t key, double mean, double spread) {
    float *values = malloc(sizeof *values * count);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(mean + spread * ((double)kvs_random_unit(key, i) - 0.5) * 3.46);
    return values;
}

/* Random weights, as they are held. */
static kvs_matrix random_matrix(int rows, int columns, uint64_t key, double spread, kvs_number number) {
    size_t count = (size_t)rows * (size_t)columns;
    float *floats = random_floats(count, key, 0, spread);
    if (number == KVS_NUMBER_F32) return (kvs_matrix){floats, rows, columns, number};
    uint16_t *bfloats = malloc(sizeof *bfloats * count);
    assert_non_null(bfloats);
    kvs_floats_to_bfloats(floats, bfloats, count);
    free(floats);
    return (kvs_matrix){bfloats, rows, columns, number};
}

static kvs_model *make_model(kvs_number number) {
    kvs_model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->config = (kvs_model_config){.layers = LAYERS,
                                   .hidden = HIDDEN,
                                   .intermediate = INNER,
                                   .query_heads = HEADS,
                                   .kv_heads = GROUPS,
                                   .head_dim = DIM,
                                   .vocabulary = VOCABULARY,
                                   .max_positions = 4096,
                                   .qk_norm = 1,
                                   .tied = 1,
                                   .norm_epsilon = 1e-6};
    kvs_error error;
    assert_int_equal(kvs_rope_read("test", NULL, 1e4, DIM, 4096, &m->config.rope, &error), KVS_OK);
    m->directory = strdup("random");
    m->embedding = m->logit_head = random_matrix(VOCABULARY, HIDDEN, 1, 1, number);
    m->final_norm = random_floats(HIDDEN, 2, 1, 0.1);
    m->layers = calloc(LAYERS, sizeof *m->layers);
    assert_non_null(m->layers);
    for (uint64_t i = 0; i < LAYERS; i++)
        m->layers[i] = (kvs_layer){
            .input_norm = random_floats(HIDDEN, 10 * i + 11, 1, 0.1),
            .qkv = random_matrix(Q + 2 * KV, HIDDEN, 10 * i + 12, 0.15, number),
            .q_norm = random_floats(DIM, 10 * i + 13, 1.5, 0.3),
            .k_norm = random_floats(DIM, 10 * i + 14, 1.5, 0.3),
            .output = random_matrix(HIDDEN, Q, 10 * i + 15, 0.15, number),
            .post_norm = random_floats(HIDDEN, 10 * i + 16, 1, 0.1),
            .gate_up = random_matrix(2 * INNER, HIDDEN, 10 * i + 17, 0.15, number),
            .down = random_matrix(HIDDEN, INNER, 10 * i + 18, 0.15, number),
        };
    return m;
}

static void free_model(kvs_model *m) {
    for (int i = 0; i < LAYERS; i++) {
        kvs_layer *l = &m->layers[i];
        void *all[] = {l->input_norm,    l->qkv.values, l->q_norm,         l->k_norm,
                       l->output.values, l->post_norm,  l->gate_up.values, l->down.values};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++) free(all[j]);
    }
    free(m->layers);
    free(m->embedding.values);
    free(m->final_norm);
    free(m->directory);
    free(m);
}

/* --- the literal loop ----------------------------------------------------------------------------------------------
 */

/* What the cache holds of one head: each token is read in full precision or as stored. */
typedef struct held {
    float full[TOKENS][DIM], as_read[TOKENS][DIM];
    int64_t stored_end;
} held;

static held cache[LAYERS][GROUPS][2]; /* K, V */

static double element(const kvs_matrix *w, int row, int column) {
    int at = row * w->columns + column;
    return w->number == KVS_NUMBER_F32 ? (double)((const float *)w->values)[at]
                                       : (double)kvs_bfloat_to_float(((const uint16_t *)w->values)[at]);
}

static void times(const kvs_matrix *w, const float *x, float *y) {
    for (int r = 0; r < w->rows; r++) {
        double sum = 0;
        for (int c = 0; c < w->columns; c++) sum += element(w, r, c) * (double)x[c];
        y[r] = (float)sum;
    }
}

static void norm(int count, const float *x, const float *weight, float *y) {
    double sum = 0;
    for (int i = 0; i < count; i++) sum += (double)x[i] * (double)x[i];
    for (int i = 0; i < count; i++) y[i] = (float)((double)x[i] / sqrt(sum / count + 1e-6) * (double)weight[i]);
}

static void append(held *h, int token, const float *x) {
    for (int d = 0; d < DIM; d++) h->full[token][d] = h->as_read[token][d] = kvs_round_to_half(x[d]);
}

static void attend(const held *k, const held *v, const float *q, int token, float *out) {
    double weights[TOKENS], top = -1e300, total = 0, sums[DIM] = {0};
    for (int t = 0; t <= token; t++) {
        weights[t] = 0;
        for (int d = 0; d < DIM; d++) weights[t] += (double)q[d] * (double)k->as_read[t][d];
        weights[t] /= sqrt(DIM);
        top = weights[t] > top ? weights[t] : top;
    }
    for (int t = 0; t <= token; t++) total += weights[t] = exp(weights[t] - top);
    for (int t = 0; t <= token; t++)
        for (int d = 0; d < DIM; d++) sums[d] += weights[t] / total * (double)v->as_read[t][d];
    for (int d = 0; d < DIM; d++) out[d] = (float)sums[d];
}

static const double *frequencies; /* of the model's rotary embedding */

/* After the step that made `seen` tokens: stores every page that has become due, one page at a time. */
static void quantize_due(held *h, const kvs_store *store, int layer, int head, int64_t seen, int64_t prompt) {
    if (store->codec == NULL) return;
    int sink = store->window.sink_tokens, page_tokens = store->window.page_tokens;
    float *scratch = malloc(sizeof(float) * (kvs_store_scratch_floats(store) + 1));
    assert_non_null(scratch);
    if (h->stored_end < sink) h->stored_end = sink;
    for (; h->stored_end < kvs_window_stored_end(&store->window, seen, prompt); h->stored_end += page_tokens) {
        kvs_page_place place = {9, 3, layer, head, (int)((h->stored_end - sink) / page_tokens)};
        kvs_coded out = {.x_hat = h->as_read[h->stored_end]};
        kvs_page_context context = {.place = place,
                                    .rope = {DIM, 0, frequencies},
                                    .prefix = store->window.prefix_tokens > 0 ? h->full[0] : NULL};
        store->codec->pages(store, &context, 1, h->full[h->stored_end], out, scratch);
    }
    free(scratch);
}

static void step(const kvs_model *m, int token, int id, float *hidden) {
    float x[HIDDEN], h[HIDDEN], qkv[Q + 2 * KV], q[Q], k[KV], out[Q], more[HIDDEN], gate[2 * INNER];
    float cosines[DIM / 2], sines[DIM / 2];
    kvs_rope_table(&m->config.rope, token, 1, cosines, sines);
    for (int d = 0; d < HIDDEN; d++) x[d] = (float)element(&m->embedding, id, d);
    for (int i = 0; i < LAYERS; i++) {
        const kvs_layer *l = &m->layers[i];
        norm(HIDDEN, x, l->input_norm, h);
        times(&l->qkv, h, qkv);
        for (int head = 0; head < HEADS; head++) {
            norm(DIM, qkv + head * DIM, l->q_norm, q + head * DIM);
            kvs_rope_rotate(&m->config.rope, cosines, sines, q + head * DIM);
        }
        for (int head = 0; head < GROUPS; head++) {
            norm(DIM, qkv + Q + head * DIM, l->k_norm, k + head * DIM);
            kvs_rope_rotate(&m->config.rope, cosines, sines, k + head * DIM);
            append(&cache[i][head][0], token, k + head * DIM);
            append(&cache[i][head][1], token, qkv + Q + KV + head * DIM);
        }
        for (int head = 0; head < HEADS; head++)
            attend(&cache[i][head / 2][0], &cache[i][head / 2][1], q + head * DIM, token, out + head * DIM);
        times(&l->output, out, more);
        for (int d = 0; d < HIDDEN; d++) x[d] += more[d];
        norm(HIDDEN, x, l->post_norm, h);
        times(&l->gate_up, h, gate);
        for (int d = 0; d < INNER; d++) gate[d] = gate[d] / (1 + expf(-gate[d])) * gate[INNER + d];
        times(&l->down, gate, more);
        for (int d = 0; d < HIDDEN; d++) x[d] += more[d];
    }
    norm(HIDDEN, x, m->final_norm, hidden);
}

/* lag: steps by which quantization comes late, which is wrong unless 0. */
static void decode(const kvs_model *m, const kvs_scheme *scheme, const int32_t *ids, int prompt, int lag,
                   float *hidden) {
    memset(cache, 0, sizeof cache);
    for (int t = 0; t < TOKENS; t++) {
        step(m, t, ids[t], hidden + (size_t)t * HIDDEN);
        if (t + 1 < prompt) continue; /* a prompt is quantized once all of it is there */
        for (int i = 0; i < LAYERS; i++)
            for (int head = 0; head < GROUPS; head++) {
                quantize_due(&cache[i][head][0], &scheme->k, i, head, t + 1 - lag, prompt);
                quantize_due(&cache[i][head][1], &scheme->v, i, head, t + 1 - lag, prompt);
            }
    }
}

/* --- the comparison ------------------------------------------------------------------------------------------------
 */

static double distance(const float *a, const float *b) {
    double worst = 0;
    for (int t = 0; t < TOKENS; t++) {
        double difference = 0, size = 0;
        for (int d = 0; d < HIDDEN; d++) {
            double x = (double)a[t * HIDDEN + d], y = (double)b[t * HIDDEN + d];
            difference += (x - y) * (x - y);
            size += y * y;
        }
        worst = fmax(worst, sqrt(difference / size));
    }
    return worst;
}

static float loop_rows[TOKENS * HIDDEN], pass_rows[TOKENS * HIDDEN];

/* The same sequence in parts: a prompt or a first chunk at once, then chunks, then single tokens. */
static void run_in_parts(const kvs_model *m, const kvs_model_pass *pass, const int32_t *ids, float *hidden) {
    kvs_session *session;
    kvs_error error;
    int first = pass->prompt_tokens > 0 ? pass->prompt_tokens : 33;
    assert_int_equal(kvs_session_open(m, pass, TOKENS, &session, &error), KVS_OK);
    for (int t = 0, chunk; t < TOKENS; t += chunk) {
        chunk = t == 0 ? first : t < 100 ? 7 : 1;
        chunk = chunk < TOKENS - t ? chunk : TOKENS - t;
        assert_int_equal(kvs_session_run(session, ids + t, chunk, hidden + (size_t)t * HIDDEN, &error), KVS_OK);
    }
    assert_int_equal(kvs_session_run(session, ids, 1, hidden, &error), KVS_INPUT);
    kvs_session_close(session);
}

static void compare(const kvs_model *m, const char *spec, int prompt) {
    int32_t ids[TOKENS];
    for (int t = 0; t < TOKENS; t++) ids[t] = (int32_t)(kvs_random_bits(77, (uint64_t)t) % VOCABULARY);
    kvs_scheme *scheme;
    kvs_error error;
    assert_int_equal(kvs_scheme_open(spec, DIM, &scheme, &error), KVS_OK);
    kvs_model_pass pass = {.scheme = scheme, .prompt_tokens = prompt, .seed = 9, .sequence = 3};
    assert_int_equal(kvs_model_forward(m, &pass, ids, TOKENS, pass_rows, &error), KVS_OK);
    decode(m, scheme, ids, prompt, 0, loop_rows);
    double good = distance(pass_rows, loop_rows);
    run_in_parts(m, &pass, ids, pass_rows);
    good = fmax(good, distance(pass_rows, loop_rows));
    decode(m, scheme, ids, prompt, 1, loop_rows);
    double late = distance(pass_rows, loop_rows);
    printf("# %s, prompt %d: %.2g; one step late: %.2g\n", spec, prompt, good, late);
    if (good > 1e-3) fail_msg("%s, prompt %d: rows differ by %g", spec, prompt, good);
    if (scheme->k.codec != NULL && late < 10 * good + 1e-3) fail_msg("%s: one step late is not seen", spec);
    kvs_scheme_close(scheme);
}

static void a_pass_equals_the_loop(void **state) {
    (void)state;
    static const char *const specs[] = {"fp16",
                                        "int:bits=3,group=16",
                                        "int:bits=2,group=32,sink=5,window=20",
                                        "kivi:bits=2,group=16,residual=32",
                                        "kitty:boost=0.25,page=16,v_group=32,sink=4,window=16",
                                        "kitty:boost=0.25,page=32,v_group=16,sink=3,window=0,variant=simulator",
                                        "kitty:boost=0.5,page=16,rank=random,sink=0,window=7",
                                        "kvquant:bits=2,prefix=40,page=8",
                                        "rotatekv:bits=3,prefix=30,sink=2",
                                        "skvq:bits=3,group=8,prefix=30,window=20",
                                        "gear:group=16,page=16,rank=2"};
    for (int wide = 0; wide < 2; wide++) {
        kvs_model *m = make_model(wide ? KVS_NUMBER_F32 : KVS_NUMBER_BF16);
        frequencies = m->config.rope.inverse_frequency;
        for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
            compare(m, specs[i], 0);
            if (wide || i % 3 == 0) compare(m, specs[i], 70);
        }
        free_model(m);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_pass_equals_the_loop)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
