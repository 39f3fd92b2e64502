#include "traces/request_json.h"

#include <math.h>
#include <string.h>

cJSON *kvs_json_line(const char *line, const char **rule) {
    cJSON *object = cJSON_ParseWithOpts(line, NULL, 1);
    if (object != NULL && cJSON_IsObject(object)) return object;
    *rule = object == NULL ? "is not valid JSON" : "is not a JSON object";
    cJSON_Delete(object);
    return NULL;
}

const cJSON *kvs_json_member(const cJSON *object, const char *const *names) {
    for (; *names != NULL; names++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, *names);
        if (item != NULL) return item;
    }
    return NULL;
}

int kvs_json_whole(const cJSON *item, int64_t *value) {
    if (!cJSON_IsNumber(item)) return 1;
    double number = item->valuedouble;
    if (!(fabs(number) <= 9007199254740992.0) || number != floor(number)) return 1;
    *value = (int64_t)number;
    return 0;
}

int kvs_json_time(const cJSON *item, double unit_ns, int64_t *ns) {
    if (!cJSON_IsNumber(item)) return 1;
    double number = item->valuedouble * unit_ns;
    if (!(fabs(number) < 9.2e18)) return 1;
    *ns = (int64_t)rint(number);
    return 0;
}

kvs_status kvs_json_ids(const cJSON *array, kvs_raw_request *request, const char **rule) {
    request->ids_count = 0;
    if (!cJSON_IsArray(array)) {
        *rule = "has ids that are no array";
        return KVS_INPUT;
    }
    for (const cJSON *item = array->child; item != NULL; item = item->next) {
        int64_t id;
        if (kvs_json_whole(item, &id) || id < 0) {
            *rule = "has an id that is no whole number of at least 0";
            return KVS_INPUT;
        }
        KVS_TRY(kvs_raw_request_reserve(request, request->ids_count + 1, rule));
        request->ids[request->ids_count++] = (uint64_t)id;
    }
    return KVS_OK;
}
