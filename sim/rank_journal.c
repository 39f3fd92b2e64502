/* rank_journal.c: what is finished of a ranking study, unit by unit. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/version.h"
#include "sim/rank_study.h"

/* Everything that the judgement depends on, as a text; the caller's. NULL when memory is short. */
static char *key_of(const kvs_rank_study *s) {
    const kvs_rank_options *o = s->options;
    char *key = NULL;
    size_t bytes = 0;
    FILE *text = open_memstream(&key, &bytes);
    if (text == NULL) return NULL;
    fprintf(text, "version %s\ntrace %s\nseed %llu\nsink %d\npage %d\nwindow %d\npages %d\nqueries %d\nprefix %d\n",
            KVS_VERSION, s->results->trace_sha256, (unsigned long long)o->seed, o->sink, o->page, o->window, o->pages,
            o->queries, o->prefix);
    fprintf(text, "budgets %d\n", s->results->budgets);
    for (int i = 0; i < s->results->ratios_count; i++) fprintf(text, "ratio %.17g\n", s->results->ratios[i].ratio);
    for (int m = 0; m < o->metrics_count; m++) fprintf(text, "metric %s\n", o->metrics[m]->name);
    if (ferror(text) | fclose(text)) {
        free(key);
        return NULL;
    }
    return key;
}

/* --- a page's numbers, in one order for writing and reading --------------------------------------------------------
 */

typedef struct cursor {
    cJSON *written;    /* an array to add to, or */
    const cJSON *read; /* the next number of one */
    int failed;
} cursor;

static void pass(cursor *c, double *value) {
    if (c->written != NULL) {
        char text[32];
        kvs_real_text(*value, text, sizeof text); /* cJSON would round */
        c->failed |= !cJSON_AddItemToArray(c->written, cJSON_CreateRaw(text));
        return;
    }
    if (c->read == NULL || !(cJSON_IsNumber(c->read) || cJSON_IsNull(c->read))) {
        c->failed = 1;
        return;
    }
    *value = cJSON_IsNull(c->read) ? (double)NAN : c->read->valuedouble;
    c->read = c->read->next;
}

static void pass_greedy(const kvs_rank_study *s, cursor *c, int page) {
    const kvs_rank_results *r = s->results;
    int16_t *ranks = r->ranks + kvs_rank_row(r, kvs_rank_greedy(r), page) * (size_t)r->head_dim;
    for (int d = 0; d < r->head_dim; d++) {
        double rank = ranks[d];
        pass(c, &rank);
        c->failed |= !(rank >= -1 && rank < r->head_dim);
        if (!c->failed) ranks[d] = (int16_t)rank;
    }
    for (int i = 0; i <= s->most; i++) pass(c, &kvs_rank_greedy_of(s, page)[i]);
}

static void pass_page(const kvs_rank_study *s, cursor *c, int page) {
    const kvs_rank_results *r = s->results;
    kvs_rank_page *own = &r->pages[page];
    double *single[] = {&own->none, &own->four_greedy, &own->four_exhaustive};
    for (int i = 0; i < 3; i++) pass(c, single[i]);
    for (int d = 0; d < r->head_dim; d++) {
        float *value = &r->sensitivity[(size_t)page * (size_t)r->head_dim + (size_t)d];
        double wide = (double)*value;
        pass(c, &wide);
        *value = (float)wide;
    }
    pass_greedy(s, c, page);
    for (int metric = 0; metric < r->metrics_count; metric++) {
        kvs_rank_agreement *a = &r->agreements[kvs_rank_row(r, metric, page)];
        double *three[] = {&a->spearman, &a->kendall, &a->top_k_overlap};
        for (int i = 0; i < 3; i++) pass(c, three[i]);
        for (int way = 0; way < KVS_SELECTIONS * KVS_BUDGETS; way++)
            for (int ratio = 0; ratio < r->ratios_count && r->budgets & 1 << way % KVS_BUDGETS; ratio++)
                pass(c, &kvs_rank_errors_of(r, metric, way / KVS_BUDGETS, way % KVS_BUDGETS, page)[ratio]);
    }
}

/* --- lines ---------------------------------------------------------------------------------------------------------
 */

static kvs_status take_unit(const cJSON *line, const char *path, const char *object, void *context, kvs_error *error) {
    kvs_rank_study *s = context;
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(line, "unit");
    const cJSON *pages = cJSON_GetObjectItemCaseSensitive(line, "pages");
    double index = cJSON_IsNumber(number) ? number->valuedouble : -1;
    if (!(index >= 0 && index < s->units_count) || !cJSON_IsArray(pages))
        return kvs_journal_refuse(path, object, error);
    kvs_rank_unit *unit = &s->units[(int)index];
    const cJSON *page = pages->child;
    for (int i = unit->first; i < unit->last; i++, page = page->next) {
        cursor c = {.read = cJSON_IsArray(page) ? page->child : NULL};
        pass_page(s, &c, i);
        if (c.failed || c.read != NULL) return kvs_journal_refuse(path, object, error);
    }
    unit->done = 1;
    return KVS_OK;
}

kvs_status kvs_rank_journal_open(kvs_rank_study *study, kvs_journal **journal, kvs_error *error) {
    const kvs_journal_reader reader = {"rank", take_unit, study};
    char *key = key_of(study);
    kvs_status status =
        key != NULL ? kvs_journal_begin(study->options->journal, key, study->options->restart, &reader, journal, error)
                    : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    free(key);
    return status;
}

kvs_status kvs_rank_journal_add(const kvs_rank_study *study, kvs_journal *journal, int unit, kvs_error *error) {
    cJSON *line = cJSON_CreateObject();
    cJSON_AddNumberToObject(line, "unit", unit);
    cJSON *pages = cJSON_AddArrayToObject(line, "pages");
    int failed = pages == NULL;
    for (int i = study->units[unit].first; !failed && i < study->units[unit].last; i++) {
        cursor c = {.written = cJSON_CreateArray()};
        failed = c.written == NULL || !cJSON_AddItemToArray(pages, c.written);
        if (!failed) pass_page(study, &c, i);
        failed |= c.failed;
    }
    if (failed) {
        cJSON_Delete(line);
        line = NULL;
    }
    return kvs_journal_add(journal, line, error);
}
