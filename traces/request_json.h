/* request_json.h: numbers out of one JSON object of a request trace. */
#ifndef KVS_TRACES_REQUEST_JSON_H
#define KVS_TRACES_REQUEST_JSON_H

#include <cjson/cJSON.h>
#include <stdint.h>

#include "traces/requests.h"

/* The object of one line, freed with cJSON_Delete; NULL and a rule if the line is no JSON object. */
cJSON *kvs_json_line(const char *line, const char **rule);
/* The first member of a NULL-terminated list of names, or NULL. */
const cJSON *kvs_json_member(const cJSON *object, const char *const *names);
/* A whole number that binary64 holds exactly; 0 on success. */
int kvs_json_whole(const cJSON *item, int64_t *value);
/* A moment of `unit_ns` nanoseconds a unit, to the nearest nanosecond; 0 on success. */
int kvs_json_time(const cJSON *item, double unit_ns, int64_t *ns);
/* The array of ids into request->ids. */
kvs_status kvs_json_ids(const cJSON *array, kvs_raw_request *request, const char **rule);

#endif
