/* info.h: what kvscope info found in a trace, for its two printers. */
#ifndef KVS_SIM_COMMANDS_INFO_H
#define KVS_SIM_COMMANDS_INFO_H

#include "traces/scan.h"

/* The channels of one tensor in one layer, [heads][columns]. */
typedef struct kvs_layer_channels {
    const kvs_channel *channels;
    int heads, columns;
} kvs_layer_channels;

typedef struct kvs_trace_info {
    const kvs_trace *trace;
    double file_bytes;
    kvs_channel *channels[2]; /* of K and V: [layers][kv_heads][head_dim]; NULL: no statistics */
    int top;                  /* channels to name per layer and measure */
} kvs_trace_info;

kvs_layer_channels kvs_info_layer(const kvs_trace_info *info, kvs_tensor tensor, int layer);

/* What channels are ranked by. */
typedef double (*kvs_channel_measure)(const kvs_channel *channel);
double kvs_channel_range(const kvs_channel *channel);
double kvs_channel_magnitude(const kvs_channel *channel);
/* The next largest after the one at `previous` (-1: the largest), or -1; ties go to the lower index. */
int kvs_info_next(kvs_layer_channels layer, kvs_channel_measure of, int previous);
double kvs_info_mean_magnitude(kvs_layer_channels layer);

/* Bytes of k, v and q of a sequence without filters. */
double kvs_info_value_bytes(const kvs_trace_header *header, const kvs_sequence *sequence);

void kvs_info_print_text(const kvs_trace_info *info);
/* KVS_INPUT when memory is short. */
KVS_MUST_CHECK kvs_status kvs_info_print_json(const kvs_trace_info *info, kvs_error *error);

#endif
