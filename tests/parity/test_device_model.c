/* test_device_model.c: a model on a device gives what it gives on the CPU, with and without a scheme in its cache. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/model/forward.h"

enum { TOKENS = 150, HIDDEN = 64, VOCABULARY = 61 };

static char directory[] = "/tmp/kvs_device_model_XXXXXX";
static int32_t ids[TOKENS];

static int write_config(const char *number) {
    char path[64];
    snprintf(path, sizeof path, "%s/config.json", directory);
    FILE *file = fopen(path, "w");
    if (file == NULL) return -1;
    fprintf(file,
            "{\"architectures\": [\"Qwen3ForCausalLM\"], \"model_type\": \"qwen3\", \"hidden_size\": %d, "
            "\"num_hidden_layers\": 2, \"num_attention_heads\": 6, \"num_key_value_heads\": 2, \"head_dim\": 64, "
            "\"intermediate_size\": 96, \"vocab_size\": %d, \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000.0, "
            "\"max_position_embeddings\": 1024, \"tie_word_embeddings\": false, \"hidden_act\": \"silu\", "
            "\"torch_dtype\": \"%s\"}",
            HIDDEN, VOCABULARY, number);
    return fclose(file);
}

static int begin(void **state) {
    (void)state;
    for (int i = 0; i < TOKENS; i++) ids[i] = (i * i + 7 * i) % VOCABULARY;
    return mkdtemp(directory) == NULL;
}

static int end(void **state) {
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "%s/config.json", directory);
    unlink(path);
    return rmdir(directory);
}

static kvs_model *open_model(const kvs_executor *executor) {
    kvs_error error;
    kvs_model *model;
    kvs_model_options how = {.executor = executor, .random_weights = 1, .seed = 5};
    assert_int_equal(kvs_model_open_with(directory, &how, &model, &error), KVS_OK);
    return model;
}

/* Rows behind the final norm, in calls of `first` tokens and then one at a time (first 0: all at once). */
static float *run(const kvs_model *model, const char *spec, int prompt, int first) {
    kvs_error error;
    kvs_scheme *scheme = NULL;
    kvs_session *session;
    float *rows = calloc((size_t)TOKENS * HIDDEN, sizeof *rows);
    assert_non_null(rows);
    if (spec != NULL) assert_int_equal(kvs_scheme_open(spec, 64, &scheme, &error), KVS_OK);
    kvs_model_pass pass = {.scheme = scheme, .prompt_tokens = prompt, .seed = 3};
    assert_int_equal(kvs_session_open(model, &pass, TOKENS, &session, &error), KVS_OK);
    int done = 0, count = first > 0 ? first : TOKENS;
    for (; done < TOKENS; done += count, count = 1)
        assert_int_equal(kvs_session_run(session, ids + done, count, rows + (size_t)done * HIDDEN, &error), KVS_OK);
    kvs_session_close(session);
    kvs_scheme_close(scheme);
    return rows;
}

/* |a - b| over all rows. */
static double distance(const float *a, const float *b) {
    double sum = 0;
    for (size_t i = 0; i < (size_t)TOKENS * HIDDEN; i++) {
        double difference = (double)a[i] - (b != NULL ? (double)b[i] : 0);
        sum += difference * difference;
    }
    return sqrt(sum);
}

/* The devices of this build that are there. */
static int device_is_there(const kvs_executor *executor) {
    kvs_executor_facts facts;
    kvs_error error;
    int there = executor->open(&facts, &error) == KVS_OK;
    if (!there) printf("# %s is not there: skipped\n", executor->name);
    return there;
}

/* Binary16 queries, keys and values are all that differs: 1e-3 of a row; what a wrong row or position does is 0.1 and
 * more. */
static void test_full_precision(void **state) {
    (void)state;
    static const struct {
        const char *number;
        double tolerance;
    } numbers[] = {{"float32", 2e-3}, {"float16", 5e-3}, {"bfloat16", 3e-2}};
    for (int n = 0; n < 3; n++) {
        assert_int_equal(write_config(numbers[n].number), 0);
        kvs_model *cpu = open_model(NULL);
        float *right = run(cpu, NULL, 0, 0), logits[2][VOCABULARY];
        kvs_error error;
        assert_int_equal(kvs_model_logits(cpu, right, 1, logits[0], &error), KVS_OK);
        for (int e = 0; kvs_executors[e] != NULL; e++) {
            if (!device_is_there(kvs_executors[e])) continue;
            kvs_model *device = open_model(kvs_executors[e]);
            assert_int_equal(device->parameters, cpu->parameters);
            float *rows = run(device, NULL, 0, 0);
            assert_true(distance(rows, right) < numbers[n].tolerance * distance(right, NULL));
            assert_int_equal(kvs_model_logits(device, right, 1, logits[1], &error), KVS_OK);
            double wrong = 0, all = 0;
            for (int i = 0; i < VOCABULARY; i++) {
                wrong += fabs((double)(logits[1][i] - logits[0][i]));
                all += fabs((double)logits[0][i]);
            }
            assert_true(wrong < numbers[n].tolerance * all);
            free(rows);
            kvs_model_close(device);
        }
        free(right);
        kvs_model_close(cpu);
    }
}

/* What storing changes is the same change: the devices differ by a tenth of it at most (a code here and there turns
 * with the last bit of a key). */
static void test_schemes(void **state) {
    (void)state;
    static const struct {
        const char *spec;
        int prompt, first;
    } cases[] = {
        {"kitty:page=32,sink=8,window=32,boost=0.25", 0, 0},
        {"kitty:page=32,sink=8,window=32,boost=0.25", 0, 120},
        {"kitty:page=32,sink=0,window=0,boost=0.5,rank=random", 0, 0},
        {"kitty:page=32,sink=8,window=32,boost=0.25", 100, 100},
        {"kitty:page=32,sink=5,window=32,bits=4,boost=0", 0, 0},
    };
    assert_int_equal(write_config("float32"), 0);
    kvs_model *cpu = open_model(NULL);
    float *full = run(cpu, NULL, 0, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float *right = run(cpu, cases[i].spec, cases[i].prompt, cases[i].first);
        double change = distance(right, full);
        assert_true(change > 5e-3 * distance(full, NULL));
        for (int e = 0; kvs_executors[e] != NULL; e++) {
            if (!device_is_there(kvs_executors[e])) continue;
            kvs_model *device = open_model(kvs_executors[e]);
            float *rows = run(device, cases[i].spec, cases[i].prompt, cases[i].first);
            print_message("# %s on %s: %.3g of the change\n", cases[i].spec, kvs_executors[e]->name,
                          distance(rows, right) / change);
            assert_true(distance(rows, right) < 0.1 * change);
            free(rows);
            kvs_model_close(device);
        }
        free(right);
    }
    free(full);
    kvs_model_close(cpu);
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *spec, *object;
    } cases[] = {
        {"int:bits=4", "k"},
        {"kitty:page=32,v_window=token", "v"},
        {"kitty:page=32,rank=query_error", "rank"},
    };
    assert_int_equal(write_config("float32"), 0);
    kvs_model *device = open_model(kvs_executors[0]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kvs_error error;
        kvs_scheme *scheme;
        kvs_session *session;
        assert_int_equal(kvs_scheme_open(cases[i].spec, 64, &scheme, &error), KVS_OK);
        kvs_model_pass pass = {.scheme = scheme};
        kvs_status status = kvs_session_open(device, &pass, TOKENS, &session, &error);
        assert_int_equal(status, KVS_USAGE);
        assert_null(session);
        kvs_scheme_close(scheme);
    }
    kvs_model_close(device);
}

/* --- the observer --------------------------------------------------------------------------------------------------
 */

enum { Q_HEADS = 6, KV_HEADS = 2, DIM = 64, LAYERS = 2 };

/* What was shown, by layer; queries of the first call and of single tokens lie as they came. */
typedef struct shown {
    int tokens;
    float q[LAYERS][Q_HEADS][TOKENS][DIM], k[LAYERS][KV_HEADS][TOKENS][DIM], v[LAYERS][KV_HEADS][TOKENS][DIM];
} shown;

static kvs_status keep(void *user, int layer, const kvs_projections *now, kvs_error *error) {
    (void)error;
    shown *s = user;
    for (int h = 0; h < Q_HEADS; h++)
        memcpy(s->q[layer][h][now->first], now->q + h * now->tokens * DIM, sizeof(float[DIM]) * (size_t)now->tokens);
    size_t tokens = (size_t)(now->first + now->tokens);
    for (int h = 0; h < KV_HEADS; h++) {
        memcpy(s->k[layer][h], now->k + h * now->stride * DIM, sizeof(float[DIM]) * tokens);
        memcpy(s->v[layer][h], now->v + h * now->stride * DIM, sizeof(float[DIM]) * tokens);
    }
    s->tokens += layer == 0 ? now->tokens : 0;
    return KVS_OK;
}

static void observe(const kvs_model *model, int first, shown *s) {
    float *rows = malloc(sizeof *rows * TOKENS * HIDDEN);
    kvs_session *session;
    kvs_error error;
    kvs_model_pass pass = {.observe = keep, .user = s};
    assert_non_null(rows);
    memset(s, 0, sizeof *s);
    assert_int_equal(kvs_session_open(model, &pass, TOKENS, &session, &error), KVS_OK);
    for (int done = 0, count = first; done < TOKENS; done += count, count = 1)
        assert_int_equal(kvs_session_run(session, ids + done, count, rows, &error), KVS_OK);
    kvs_session_close(session);
    free(rows);
    assert_int_equal(s->tokens, TOKENS);
}

static void assert_near(const float *a, const float *b, size_t count) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    assert_true(size > 0 && sqrt(difference / size) < 2e-3);
}

static void test_observer(void **state) {
    (void)state;
    static shown right, found;
    assert_int_equal(write_config("float32"), 0);
    kvs_model *cpu = open_model(NULL);
    observe(cpu, TOKENS - 3, &right);
    for (int e = 0; kvs_executors[e] != NULL; e++) {
        if (!device_is_there(kvs_executors[e])) continue;
        kvs_model *device = open_model(kvs_executors[e]);
        observe(device, TOKENS - 3, &found);
        for (int layer = 0; layer < LAYERS; layer++) {
            assert_near(found.q[layer][0][0], right.q[layer][0][0], Q_HEADS * TOKENS * DIM);
            assert_near(found.k[layer][0][0], right.k[layer][0][0], KV_HEADS * TOKENS * DIM);
            assert_near(found.v[layer][0][0], right.v[layer][0][0], KV_HEADS * TOKENS * DIM);
        }
        kvs_session *session;
        kvs_error error;
        kvs_model_pass early = {.observe = keep, .user = &found, .before_rope = 1};
        assert_int_equal(kvs_session_open(device, &early, TOKENS, &session, &error), KVS_USAGE);
        kvs_model_close(device);
    }
    kvs_model_close(cpu);
}

/* A row goes wrong by name where an id is outside the vocabulary. */
static void test_bad_ids(void **state) {
    (void)state;
    assert_int_equal(write_config("float32"), 0);
    kvs_model *device = open_model(kvs_executors[0]);
    int32_t bad[2] = {1, VOCABULARY};
    float rows[2 * HIDDEN];
    kvs_error error;
    kvs_model_pass pass = {0};
    assert_int_equal(kvs_model_forward(device, &pass, bad, 2, rows, &error), KVS_INPUT);
    assert_non_null(strstr(error.rule, "outside the vocabulary"));
    kvs_model_close(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_precision), cmocka_unit_test(test_schemes), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_observer),       cmocka_unit_test(test_bad_ids),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, begin, end);
}
