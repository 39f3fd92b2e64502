#include "sim/step_time.h"

#include <math.h>

double kvs_step_seconds(const void *model, const kvs_step *step) {
    const kvs_step_model *m = model;
    if (m->fixed_s > 0) return m->fixed_s;
    double bandwidth = m->device.bandwidth_bytes_per_s, rate = m->device.flops_per_s * m->compute_efficiency;
    double weights = kvs_weight_bytes(&m->shape) / (bandwidth * m->weight_efficiency);
    double linear = 2 * m->shape.parameters * (double)step->tokens / rate;
    double cache = step->kv_bytes / (bandwidth * m->kv_efficiency);
    double heads = (double)(m->shape.layers * m->shape.query_heads * m->shape.head_dim);
    double attention = 4 * heads * step->pairs / rate;
    return fmax(weights, linear) + fmax(cache, attention) + m->overhead_s;
}
