/* profile.h: what kvscope profile shows of a profile. */
#ifndef KVS_SIM_COMMANDS_PROFILE_H
#define KVS_SIM_COMMANDS_PROFILE_H

#include "analysis/profile.h"

/* Prints the report on standard output; with_lines: every memory instruction of the kernels' sources too. */
void kvs_profile_print(const kvs_profile *profile, int with_lines);

#endif
