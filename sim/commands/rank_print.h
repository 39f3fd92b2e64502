/* rank_print.h: a ranking study as text. */
#ifndef KVS_SIM_COMMANDS_RANK_PRINT_H
#define KVS_SIM_COMMANDS_RANK_PRINT_H

#include "analysis/rank_result.h"

/* Over all, by budget and selection, then by layer and by head. */
void kvs_rank_print(const kvs_rank_results *results);

#endif
