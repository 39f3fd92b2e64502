/* commands.c: the list of commands. A new one is a file here and a line in each half of this list. */
#include "sim/command.h"

extern const kvs_command kvs_command_alloc;
extern const kvs_command kvs_command_bench;
extern const kvs_command kvs_command_calibrate;
extern const kvs_command kvs_command_check;
extern const kvs_command kvs_command_eval;
extern const kvs_command kvs_command_gen;
extern const kvs_command kvs_command_import;
extern const kvs_command kvs_command_info;
extern const kvs_command kvs_command_layouts;
extern const kvs_command kvs_command_list;
extern const kvs_command kvs_command_plot;
extern const kvs_command kvs_command_profile;
extern const kvs_command kvs_command_rank;
extern const kvs_command kvs_command_record;
extern const kvs_command kvs_command_replay;
extern const kvs_command kvs_command_serve;
extern const kvs_command kvs_command_sweep;

/* One a line, so that two new ones do not conflict. */
// clang-format off
const kvs_command *const kvs_commands[] = {
    &kvs_command_alloc,
    &kvs_command_bench,
    &kvs_command_calibrate,
    &kvs_command_check,
    &kvs_command_eval,
    &kvs_command_gen,
    &kvs_command_import,
    &kvs_command_info,
    &kvs_command_layouts,
    &kvs_command_list,
    &kvs_command_plot,
    &kvs_command_profile,
    &kvs_command_rank,
    &kvs_command_record,
    &kvs_command_replay,
    &kvs_command_serve,
    &kvs_command_sweep,
    NULL,
};
// clang-format on
