/* report.h: results as a command leaves them: where they came from, files by extension, a table, JSON. */
#ifndef KVS_SIM_COMMANDS_REPORT_H
#define KVS_SIM_COMMANDS_REPORT_H

#include "analysis/result.h"
#include "sim/replay.h"

/* Says where results come from: command, version, command line, back end, device and options. KVS_DEVICE when the back
 * end's device is missing. */
KVS_MUST_CHECK kvs_status kvs_report_begin(const char *command, const char *command_line,
                                           const kvs_replay_options *options, kvs_results *results, kvs_error *error);

/* Whether results can be written to path: its extension is .h5, .csv or .json (KVS_USAGE), and a file can be made there
 * (KVS_INPUT). Asked before long work. */
KVS_MUST_CHECK kvs_status kvs_report_check_output(const char *path, kvs_error *error);
/* Writes results in the form that path's extension says. */
KVS_MUST_CHECK kvs_status kvs_report_write(const kvs_results *results, const char *path, kvs_error *error);

/* Prints results on standard output. */
KVS_MUST_CHECK kvs_status kvs_report_print_json(const kvs_results *results, kvs_error *error);
void kvs_report_print_table(const kvs_results *results);

#endif
