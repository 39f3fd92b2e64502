#include "sim/model/rope.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

typedef struct scaling_source {
    const char *file;
    const cJSON *object;
    int trained;
} scaling_source;

static kvs_status scale_none(const scaling_source *source, kvs_rope *rope, kvs_error *error) {
    (void)source, (void)rope, (void)error;
    return KVS_OK;
}

static kvs_status need_factor(const scaling_source *source, double *factor, kvs_error *error) {
    if (kvs_json_find(source->object, "factor") == NULL)
        return kvs_fail(error, KVS_INPUT, source->file, "rope_scaling.factor", "is missing");
    return kvs_json_real(source->file, source->object, "factor", 1.0, 1e6, 1.0, factor, error);
}

static kvs_status scale_linear(const scaling_source *source, kvs_rope *rope, kvs_error *error) {
    double factor;
    KVS_TRY(need_factor(source, &factor, error));
    for (int i = 0; i < rope->rotary_dim / 2; i++) rope->inverse_frequency[i] /= factor;
    return KVS_OK;
}

/* Beyond the trained length theta grows with the sequence; within it, which is all a model admits, nothing changes. */
static kvs_status scale_dynamic(const scaling_source *source, kvs_rope *rope, kvs_error *error) {
    double factor;
    (void)rope;
    if (source->trained < 1)
        return kvs_fail(error, KVS_INPUT, source->file, "rope_scaling",
                        "the scaling 'dynamic' is not supported where the trained length is not known");
    return need_factor(source, &factor, error);
}

static kvs_status scale_llama3(const scaling_source *source, kvs_rope *rope, kvs_error *error) {
    double factor, low, high;
    int original;
    KVS_TRY(need_factor(source, &factor, error));
    KVS_TRY(kvs_json_real(source->file, source->object, "low_freq_factor", 1e-6, 1e6, 1.0, &low, error));
    KVS_TRY(kvs_json_real(source->file, source->object, "high_freq_factor", 1e-6, 1e6, 4.0, &high, error));
    KVS_TRY(kvs_json_need_int(source->file, source->object, "original_max_position_embeddings", 1, 1 << 30, &original,
                              error));
    if (!(high > low))
        return kvs_fail(error, KVS_INPUT, source->file, "rope_scaling.high_freq_factor",
                        "must be above low_freq_factor");
    for (int i = 0; i < rope->rotary_dim / 2; i++) {
        double frequency = rope->inverse_frequency[i];
        double turns = original * frequency / (2.0 * M_PI); /* how often the pair turns within the trained length */
        double smooth = (turns - low) / (high - low);
        smooth = smooth < 0 ? 0 : smooth > 1 ? 1 : smooth;
        rope->inverse_frequency[i] = (1 - smooth) * frequency / factor + smooth * frequency;
    }
    return KVS_OK;
}

/* What cosine and sine are multiplied by: 0.1 ln(factor) + 1, or the ratio that mscale and mscale_all_dim give. */
static kvs_status yarn_attention(const scaling_source *source, double factor, double *attention, kvs_error *error) {
    double log_factor = factor > 1 ? 0.1 * log(factor) : 0, above, below;
    KVS_TRY(kvs_json_real(source->file, source->object, "mscale", 0, 1e6, 0, &above, error));
    KVS_TRY(kvs_json_real(source->file, source->object, "mscale_all_dim", 0, 1e6, 0, &below, error));
    double fallback = above > 0 && below > 0 ? (above * log_factor + 1) / (below * log_factor + 1) : log_factor + 1;
    return kvs_json_real(source->file, source->object, "attention_factor", 1e-6, 1e6, fallback, attention, error);
}

/* The index of the pair that turns `turns` times within the trained length (yarn, section 3.2). */
static double yarn_pair(double turns, double theta, int rotary_dim, int original) {
    return rotary_dim * log(original / (turns * 2.0 * M_PI)) / (2.0 * log(theta));
}

static kvs_status scale_yarn(const scaling_source *source, kvs_rope *rope, kvs_error *error) {
    double factor, fast, slow;
    int original, truncate;
    KVS_TRY(need_factor(source, &factor, error));
    KVS_TRY(kvs_json_real(source->file, source->object, "beta_fast", 1e-6, 1e6, 32.0, &fast, error));
    KVS_TRY(kvs_json_real(source->file, source->object, "beta_slow", 1e-6, 1e6, 1.0, &slow, error));
    KVS_TRY(kvs_json_int(source->file, source->object, "original_max_position_embeddings", 1, 1 << 30, source->trained,
                         &original, error));
    if (original < 1)
        return kvs_fail(error, KVS_INPUT, source->file, "rope_scaling.original_max_position_embeddings", "is missing");
    KVS_TRY(kvs_json_bool(source->file, source->object, "truncate", 1, &truncate, error));
    KVS_TRY(yarn_attention(source, factor, &rope->factor, error));
    int dim = rope->rotary_dim;
    double low = yarn_pair(fast, rope->theta, dim, original), high = yarn_pair(slow, rope->theta, dim, original);
    if (truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = low < 0 ? 0 : low;
    high = high > dim - 1 ? dim - 1 : high;
    if (high <= low) high = low + 0.001; /* as the published code avoids the division by zero */
    for (int i = 0; i < dim / 2; i++) {
        double ramp = (i - low) / (high - low);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        double frequency = rope->inverse_frequency[i];
        rope->inverse_frequency[i] = frequency / factor * ramp + frequency * (1 - ramp);
    }
    return KVS_OK;
}

static const struct {
    const char *name;
    kvs_status (*scale)(const scaling_source *source, kvs_rope *rope, kvs_error *error);
} scalings[] = {{"default", scale_none},
                {"linear", scale_linear},
                {"dynamic", scale_dynamic},
                {"llama3", scale_llama3},
                {"yarn", scale_yarn}};

kvs_status kvs_rope_read(const char *file, const cJSON *scaling, double theta, int rotary_dim, int trained,
                         kvs_rope *rope, kvs_error *error) {
    *rope = (kvs_rope){.theta = theta, .rotary_dim = rotary_dim, .factor = 1.0};
    for (int i = 0; i < rotary_dim / 2; i++) rope->inverse_frequency[i] = pow(theta, -2.0 * i / rotary_dim);
    if (scaling == NULL) return KVS_OK;
    if (!cJSON_IsObject(scaling)) return kvs_fail(error, KVS_INPUT, file, "rope_scaling", "must be an object or null");
    for (const cJSON *item = scaling->child; item != NULL; item = item->next)
        if (cJSON_IsObject(item))
            return kvs_fail(error, KVS_INPUT, file, "rope_scaling",
                            "is one for each kind of layer ('%s'), which is not supported", item->string);
    const char *name;
    KVS_TRY(kvs_json_text(file, scaling, "type", "default", &name, error));
    KVS_TRY(kvs_json_text(file, scaling, "rope_type", name, &name, error));
    char *text = cJSON_PrintUnformatted(scaling);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, file, NULL, "out of memory");
    int fits = snprintf(rope->scaling, sizeof rope->scaling, "%s", text) < (int)sizeof rope->scaling;
    free(text);
    if (!fits) return kvs_fail(error, KVS_INPUT, file, "rope_scaling", "is too long");
    scaling_source source = {file, scaling, trained};
    for (size_t i = 0; i < sizeof scalings / sizeof *scalings; i++)
        if (strcmp(scalings[i].name, name) == 0) return scalings[i].scale(&source, rope, error);
    return kvs_fail(error, KVS_INPUT, file, "rope_scaling",
                    "the scaling '%s' is not supported; supported: default, linear, dynamic, llama3, yarn", name);
}

void kvs_rope_table(const kvs_rope *rope, int first, int tokens, float *cosines, float *sines) {
    size_t half = (size_t)rope->rotary_dim / 2;
#pragma omp parallel for schedule(static)
    for (int t = 0; t < tokens; t++)
        for (size_t i = 0; i < half; i++) {
            double angle = (double)(first + t) * rope->inverse_frequency[i];
            cosines[(size_t)t * half + i] = (float)(cos(angle) * rope->factor);
            sines[(size_t)t * half + i] = (float)(sin(angle) * rope->factor);
        }
}

void kvs_rope_rotate(const kvs_rope *rope, const float *cosines, const float *sines, float *x) {
    int half = rope->rotary_dim / 2;
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cosines[i] - b * sines[i];
        x[i + half] = b * cosines[i] + a * sines[i];
    }
}
