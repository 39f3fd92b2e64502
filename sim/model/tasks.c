#include "sim/model/tasks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/progress.h"
#include "core/random.h"
#include "sim/model/forward.h"
#include "sim/model/vector.h"

/* --- making texts --------------------------------------------------------------------------------------------------
 */

enum { WORD = 4, COPY_TOKENS = 40, COPY_CUE = 8, TEXT_BYTES = 1 << 16 };

/* A word of random letters: nothing but the context tells it. */
static void random_word(uint64_t key, uint64_t number, char word[WORD + 1]) {
    uint64_t bits = kvs_random_bits(key, number);
    for (int i = 0; i < WORD; i++, bits /= 26) word[i] = (char)('a' + bits % 26);
    word[WORD] = '\0';
}

static kvs_status encode(const kvs_task_source *source, const char *text, int32_t **ids, int *count, kvs_error *error) {
    size_t made;
    KVS_TRY(kvs_tokenizer_encode(source->tokenizer, "task", text, strlen(text), ids, &made, error));
    *count = (int)made;
    return KVS_OK;
}

/* Running text from a random place of the filler, going round at its end. */
static void fill(const kvs_task_source *source, uint64_t number, int32_t *ids, int count) {
    int64_t at = (int64_t)(kvs_random_bits(source->key, number) % (uint64_t)source->filler->count);
    for (int i = 0; i < count; i++, at++) ids[i] = source->filler->ids[at % source->filler->count];
}

/* filler, passage, filler, passage: its second half, behind a cue of a few tokens, is the answer. */
static kvs_status make_copy(const kvs_task_source *source, int distance, kvs_task_text *text, kvs_error *error) {
    char words[COPY_TOKENS * (WORD + 1) + 1];
    size_t used = 0;
    for (uint64_t i = 0; i < COPY_TOKENS; i++) { /* a word is one token or more */
        words[used++] = ' ';
        random_word(source->key, i + 2, words + used);
        used += WORD;
    }
    int32_t *passage;
    int count;
    KVS_TRY(encode(source, words, &passage, &count, error));
    int before = text->context - COPY_TOKENS - distance;
    if (count < COPY_TOKENS || distance < COPY_TOKENS || before < 0) {
        free(passage);
        return kvs_fail(error, KVS_USAGE, "task copy", NULL, "a distance of %d does not fit %d to %d tokens", distance,
                        COPY_TOKENS, text->context - COPY_TOKENS);
    }
    fill(source, 0, text->ids, before);
    memcpy(text->ids + before, passage, sizeof *passage * COPY_TOKENS);
    fill(source, 1, text->ids + before + COPY_TOKENS, distance - COPY_TOKENS);
    memcpy(text->ids + before + distance, passage, sizeof *passage * COPY_TOKENS);
    text->answer = COPY_TOKENS - COPY_CUE;
    free(passage);
    return KVS_OK;
}

static size_t write_pair(const kvs_task_source *source, uint64_t number, char *text, size_t bytes) {
    char key[WORD + 1], value[WORD + 1];
    random_word(source->key, 2 * number, key);
    random_word(source->key, 2 * number + 1, value);
    return (size_t)snprintf(text, bytes, "    \"%s\": \"%s\",\n", key, value);
}

/* The ids of pair `number` alone (pairs are cut at their lines), and where its value stands among them. */
static kvs_status encode_pair(const kvs_task_source *source, uint64_t number, int32_t **ids, int *count,
                              int *value_begin, int *value_end, kvs_error *error) {
    char line[64];
    size_t length = write_pair(source, number, line, sizeof line);
    int32_t *part;
    KVS_TRY(encode(source, line, ids, count, error));
    int until[2] = {0, 0};
    for (int i = 0; i < 2; i++) { /* up to the value, and up to its end */
        line[length - 3 - (i == 0 ? WORD : 0)] = '\0';
        kvs_status status = encode(source, line, &part, &until[i], error);
        if (status != KVS_OK) {
            free(*ids);
            return status;
        }
        free(part);
        length = write_pair(source, number, line, sizeof line);
    }
    *value_begin = until[0];
    *value_end = until[1];
    return KVS_OK;
}

/* Lines of "key": "value" up to the context's end, then one of the keys again, whose value is the answer. */
static kvs_status make_retrieve(const kvs_task_source *source, int distance, kvs_task_text *text, kvs_error *error) {
    enum { LINE_LIMIT = 64 };
    int32_t *ids;
    int count, begin, end, used = 0, best = -1, best_at = 0;
    int room = text->context - LINE_LIMIT;
    /* Lines from the last one back would need their lengths first, so: lay out all lines, then choose the wanted. */
    int starts[1 << 12], lines = 0;
    for (; lines < 1 << 12; lines++) {
        KVS_TRY(encode_pair(source, (uint64_t)lines, &ids, &count, &begin, &end, error));
        if (used + count > room) {
            free(ids);
            break;
        }
        memcpy(text->ids + used, ids, sizeof *ids * (size_t)count);
        free(ids);
        starts[lines] = used;
        used += count;
    }
    for (int i = 0; i < lines; i++)
        if (best < 0 || abs(used - starts[i] - distance) < abs(used - best_at - distance)) {
            best = i;
            best_at = starts[i];
        }
    if (best < 0 || distance > used)
        return kvs_fail(error, KVS_USAGE, "task retrieve", NULL, "a distance of %d does not fit %d tokens", distance,
                        used > 0 ? used : text->context);
    KVS_TRY(encode_pair(source, (uint64_t)best, &ids, &count, &begin, &end, error));
    memcpy(text->ids + used, ids, sizeof *ids * (size_t)end);
    free(ids);
    text->context = used + end;
    text->answer = end - begin;
    return KVS_OK;
}

static const kvs_task copy_task = {"copy", "repeat a passage of random words from far back", make_copy};
static const kvs_task retrieve_task = {"retrieve", "find a value by its key among many", make_retrieve};
const kvs_task *const kvs_tasks[] = {&copy_task, &retrieve_task, NULL};

const kvs_task *kvs_task_find(const char *name) {
    for (int i = 0; kvs_tasks[i] != NULL; i++)
        if (strcmp(kvs_tasks[i]->name, name) == 0) return kvs_tasks[i];
    return NULL;
}

/* --- scoring -------------------------------------------------------------------------------------------------------
 */

typedef struct task_run {
    const kvs_model *model;
    const kvs_task *task;
    const kvs_task_options *options;
    kvs_scheme *const *schemes;
    int runs;
    int32_t *ids;
    float *hidden, *logits; /* [context][hidden], [context][vocabulary] of the answer's rows */
} task_run;

/* How many answer tokens of a text one run predicts. */
static kvs_status count_right(const task_run *t, const kvs_task_text *text, int run, int sample, int *right,
                              kvs_error *error) {
    const kvs_model_config *c = &t->model->config;
    kvs_model_pass pass = {
        .scheme = run > 0 ? t->schemes[run - 1] : NULL, .seed = t->options->seed, .sequence = sample};
    KVS_TRY(kvs_model_forward(t->model, &pass, text->ids, text->context, t->hidden, error));
    int first = text->context - text->answer;
    KVS_TRY(kvs_model_logits(t->model, t->hidden + (size_t)(first - 1) * (size_t)c->hidden, text->answer, t->logits,
                             error));
    *right = 0;
    for (int i = 0; i < text->answer; i++) {
        const float *row = t->logits + (size_t)i * (size_t)c->vocabulary;
        *right += kvs_logits_top(c->vocabulary, row) == text->ids[first + i];
    }
    return KVS_OK;
}

/* The text of one sample; ids [context]. */
static kvs_status make_sample(const kvs_task *task, const kvs_task_source *source, const kvs_task_options *o,
                              int distance, int sample, int32_t *ids, kvs_task_text *text, kvs_error *error) {
    kvs_task_source one = *source;
    one.key = kvs_random_key(kvs_random_key(o->seed, (uint64_t)distance), (uint64_t)sample);
    *text = (kvs_task_text){ids, o->context, 0};
    return task->make(&one, distance, text, error);
}

kvs_status kvs_task_check(const kvs_model *model, const kvs_tokenizer *tokenizer, const kvs_tokens *filler,
                          const kvs_task *task, const kvs_task_options *options, kvs_error *error) {
    KVS_TRY(kvs_model_admits(model, options->context, error));
    int32_t *ids = malloc(sizeof *ids * (size_t)options->context);
    if (ids == NULL)
        return kvs_fail(error, KVS_INPUT, model->directory, NULL, "out of memory for %d tokens", options->context);
    kvs_task_source source = {tokenizer, filler, 0};
    kvs_status status = KVS_OK;
    for (int i = 0; i < options->distances_count && status == KVS_OK; i++) {
        kvs_task_text text;
        status = make_sample(task, &source, options, options->distances[i], 0, ids, &text, error);
    }
    free(ids);
    return status;
}

static kvs_status score_distance(const task_run *t, const kvs_task_source *source, int distance, kvs_task_score *scores,
                                 kvs_progress *progress, kvs_error *error) {
    const kvs_task_options *o = t->options;
    for (int run = 0; run < t->runs; run++) scores[run] = (kvs_task_score){0};
    for (int sample = 0; sample < o->samples; sample++) {
        kvs_task_text text;
        KVS_TRY(make_sample(t->task, source, o, distance, sample, t->ids, &text, error));
        for (int run = 0; run < t->runs; run++) {
            int right;
            KVS_TRY(count_right(t, &text, run, sample, &right, error));
            scores[run].answer_tokens += text.answer;
            scores[run].token_accuracy += right;
            scores[run].exact += right == text.answer;
        }
        kvs_progress_add(progress, 1);
    }
    for (int run = 0; run < t->runs; run++) {
        scores[run].token_accuracy /= (double)scores[run].answer_tokens;
        scores[run].exact /= o->samples;
    }
    return KVS_OK;
}

kvs_status kvs_task_run(const kvs_model *model, const kvs_tokenizer *tokenizer, const kvs_tokens *filler,
                        const kvs_task *task, kvs_scheme *const *schemes, int count, const kvs_task_options *options,
                        kvs_task_score *scores, kvs_error *error) {
    const kvs_model_config *c = &model->config;
    size_t context = (size_t)options->context;
    task_run t = {.model = model, .task = task, .options = options, .schemes = schemes, .runs = count + 1};
    kvs_task_source source = {tokenizer, filler, 0};
    t.ids = malloc(sizeof *t.ids * context);
    t.hidden = malloc(sizeof *t.hidden * context * (size_t)c->hidden);
    t.logits = malloc(sizeof *t.logits * COPY_TOKENS * (size_t)c->vocabulary);
    kvs_status status = t.ids && t.hidden && t.logits ? KVS_OK
                                                      : kvs_fail(error, KVS_INPUT, model->directory, NULL,
                                                                 "out of memory for %zu tokens", context);
    kvs_progress progress;
    kvs_progress_begin(&progress, task->name, "samples", (double)options->distances_count * options->samples,
                       options->quiet);
    for (int i = 0; i < options->distances_count && status == KVS_OK; i++)
        status = score_distance(&t, &source, options->distances[i], scores + (size_t)i * (size_t)(count + 1), &progress,
                                error);
    kvs_progress_end(&progress);
    free(t.ids);
    free(t.hidden);
    free(t.logits);
    return status;
}
