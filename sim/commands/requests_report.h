/* requests_report.h: kvscope check and info of request traces. */
#ifndef KVS_SIM_COMMANDS_REQUESTS_REPORT_H
#define KVS_SIM_COMMANDS_REQUESTS_REPORT_H

#include "sim/command.h"

/* Whether a file is taken for a request trace: a requests.h5, or text that is no HDF5 file. */
int kvs_requests_probe(const char *path);

/* Reads all of it, by every rule, and prints one line or one JSON document. */
KVS_MUST_CHECK kvs_status kvs_requests_report_check(const char *path, const kvs_common *common, kvs_error *error);
/* What is in it: lengths, arrivals, shared prefixes. */
KVS_MUST_CHECK kvs_status kvs_requests_report_info(const char *path, const kvs_common *common, kvs_error *error);

#endif
