/* layouts.h: the parts of kvscope layouts. */
#ifndef KVS_SIM_COMMANDS_LAYOUTS_H
#define KVS_SIM_COMMANDS_LAYOUTS_H

#include "analysis/layout_traffic.h"

struct cJSON;

/* The table of kvscope layouts --transactions: its head, and the lines of one layout. */
void kvs_print_traffic_head(void);
void kvs_print_traffic(const char *layout, const kvs_layout_traffic *traffic);

/* The same as an array, everything per page; the caller's. NULL when memory is short. */
struct cJSON *kvs_traffic_json(const kvs_layout_traffic *traffic);

#endif
