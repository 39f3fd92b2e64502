#include "analysis/tally.h"

#include <math.h>
#include <stdlib.h>

#include "analysis/distribution.h"

enum { MEASURES = 3 }; /* rel_l2, logit_mse, attention_kl */

/* Of one head, or of all. */
typedef struct sums {
    int64_t samples;
    double top1, top8, output_error, output_energy;
    kvs_stored_error key, value;
    kvs_distribution *distributions[MEASURES];
} sums;

struct kvs_tally {
    int exact;
    sums head, all;
    double nrmse; /* summed over heads */
    int64_t nrmse_heads;
};

kvs_status kvs_unit_errors_alloc(int64_t samples, kvs_unit_errors *errors, kvs_error *error) {
    size_t n = (size_t)samples;
    *errors = (kvs_unit_errors){0};
    if (n == 0) return KVS_OK;
    errors->output_error = calloc(n, 2 * sizeof(double) + 5 * sizeof(float)); /* one block for all arrays */
    if (errors->output_error == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    errors->output_energy = errors->output_error + n;
    errors->rel_l2 = (float *)(errors->output_energy + n);
    errors->logit_mse = errors->rel_l2 + n;
    errors->attention_kl = errors->logit_mse + n;
    errors->top1 = errors->attention_kl + n;
    errors->top8 = errors->top1 + n;
    return KVS_OK;
}

void kvs_unit_errors_free(kvs_unit_errors *errors) {
    free(errors->output_error);
    *errors = (kvs_unit_errors){0};
}

static kvs_status open_sums(sums *s, int64_t samples, int exact, kvs_error *error) {
    for (int i = 0; i < MEASURES; i++) KVS_TRY(kvs_distribution_open(samples, exact, &s->distributions[i], error));
    return KVS_OK;
}

kvs_status kvs_tally_open(int64_t samples, int64_t most_of_head, kvs_tally **tally, kvs_error *error) {
    *tally = calloc(1, sizeof **tally);
    if (*tally == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    (*tally)->exact = samples <= KVS_EXACT_SAMPLES;
    kvs_status status = open_sums(&(*tally)->head, most_of_head, (*tally)->exact, error);
    if (status == KVS_OK) status = open_sums(&(*tally)->all, samples, (*tally)->exact, error);
    if (status != KVS_OK) {
        kvs_tally_close(*tally);
        *tally = NULL;
    }
    return status;
}

void kvs_tally_close(kvs_tally *tally) {
    for (int i = 0; tally != NULL && i < MEASURES; i++) {
        kvs_distribution_close(tally->head.distributions[i]);
        kvs_distribution_close(tally->all.distributions[i]);
    }
    free(tally);
}

int64_t kvs_tally_bytes(int64_t samples, int64_t most_of_head) {
    int exact = samples <= KVS_EXACT_SAMPLES;
    return MEASURES * (kvs_distribution_bytes(samples, exact) + kvs_distribution_bytes(most_of_head, exact));
}

const char *kvs_tally_percentiles(const kvs_tally *tally) {
    return tally->exact ? "exact" : "histogram";
}

static void add_stored(kvs_stored_error *sum, const kvs_stored_error *one) {
    sum->elements += one->elements;
    sum->error += one->error;
    sum->energy += one->energy;
}

static kvs_status add(sums *s, const kvs_unit_errors *unit, int64_t samples, kvs_error *error) {
    const float *measures[MEASURES] = {unit->rel_l2, unit->logit_mse, unit->attention_kl};
    for (int i = 0; i < MEASURES; i++)
        KVS_TRY(kvs_distribution_add(s->distributions[i], measures[i], (size_t)samples, error));
    for (int64_t i = 0; i < samples; i++) {
        s->top1 += (double)unit->top1[i];
        s->top8 += (double)unit->top8[i];
        s->output_error += unit->output_error[i];
        s->output_energy += unit->output_energy[i];
    }
    s->samples += samples;
    add_stored(&s->key, &unit->key);
    add_stored(&s->value, &unit->value);
    return KVS_OK;
}

kvs_status kvs_tally_add(kvs_tally *tally, const kvs_unit_errors *unit, int64_t samples, kvs_error *error) {
    KVS_TRY(add(&tally->head, unit, samples, error));
    return add(&tally->all, unit, samples, error);
}

/* sqrt(error / energy), where an energy of 0 counts as 1e-60, as in rel_l2. */
static double ratio(double error, double energy) {
    return sqrt(error) / fmax(sqrt(energy), 1e-30);
}

static double stored_ratio(const kvs_stored_error *stored) {
    return stored->elements > 0 ? ratio(stored->error, stored->energy) : NAN;
}

static void conclude(const sums *s, kvs_errors *errors) {
    kvs_errors_unknown(errors);
    kvs_statistic *statistics[MEASURES] = {&errors->attention_output_rel_l2, &errors->logit_mse, &errors->attention_kl};
    for (int i = 0; i < MEASURES; i++) *statistics[i] = kvs_distribution_statistic(s->distributions[i]);
    if (s->samples > 0) {
        errors->top1_agreement = s->top1 / (double)s->samples;
        errors->top8_agreement = s->top8 / (double)s->samples;
        errors->attention_output_nrmse = ratio(s->output_error, s->output_energy);
    }
    errors->key_rel_l2 = stored_ratio(&s->key);
    errors->value_rel_l2 = stored_ratio(&s->value);
}

void kvs_tally_end_head(kvs_tally *tally, kvs_errors *head) {
    sums *s = &tally->head;
    conclude(s, head);
    if (s->samples > 0) {
        tally->nrmse += head->attention_output_nrmse;
        tally->nrmse_heads++;
    }
    sums next = {0};
    for (int i = 0; i < MEASURES; i++) {
        next.distributions[i] = s->distributions[i];
        kvs_distribution_clear(next.distributions[i]);
    }
    *s = next;
}

void kvs_tally_end(kvs_tally *tally, kvs_errors *errors) {
    conclude(&tally->all, errors);
    if (tally->nrmse_heads > 0) errors->attention_output_nrmse = tally->nrmse / (double)tally->nrmse_heads;
}
