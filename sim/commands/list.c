/* list.c: kvscope list: prints the registries, and so documents them.
 *
 * A registry is one function that adds its entries to a JSON array, and a row in the table below; the text is drawn
 * from the same array. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "analysis/workload.h"
#include "core/version.h"
#include "kernels/layout.h"
#include "kernels/scheme.h"
#include "plots/plot.h"
#include "sim/allocator.h"
#include "sim/command.h"
#include "traces/requests.h"

enum { LIST_HEAD_DIM = 128 };

/* --- entries -------------------------------------------------------------------------------------------------------
 */

static cJSON *add_entry(cJSON *entries, const char *name, const char *summary) {
    cJSON *entry = cJSON_CreateObject();
    cJSON_AddItemToArray(entries, entry);
    cJSON_AddStringToObject(entry, "name", name);
    cJSON_AddStringToObject(entry, "summary", summary);
    return entry;
}

static void add_parameters(cJSON *entry, const kvs_param *table) {
    static const char *const types[] = {
        [KVS_PARAM_INT] = "int", [KVS_PARAM_REAL] = "real", [KVS_PARAM_CHOICE] = "choice", [KVS_PARAM_TEXT] = "text"};
    cJSON *parameters = cJSON_AddArrayToObject(entry, "parameters");
    for (const kvs_param *p = table; p->name != NULL; p++) {
        cJSON *parameter = add_entry(parameters, p->name, p->summary);
        cJSON_AddStringToObject(parameter, "type", types[p->type]);
        cJSON_AddStringToObject(parameter, "unit", p->unit);
        cJSON_AddStringToObject(parameter, "default", p->fallback);
        if (p->type == KVS_PARAM_CHOICE) {
            cJSON *choices = cJSON_AddArrayToObject(parameter, "choices");
            for (int i = 0; p->choices[i] != NULL; i++)
                cJSON_AddItemToArray(choices, cJSON_CreateString(p->choices[i]));
        } else if (p->type != KVS_PARAM_TEXT) {
            cJSON_AddNumberToObject(parameter, "low", p->low);
            cJSON_AddNumberToObject(parameter, "high", p->high);
        }
    }
}

/* Bits an element of a full page takes with the default parameters, K and V together. */
static void add_bits(cJSON *entry, const kvs_scheme_type *type) {
    kvs_scheme *scheme;
    kvs_error unused;
    if (kvs_scheme_open(type->name, LIST_HEAD_DIM, &scheme, &unused) != KVS_OK) return;
    kvs_bits bits = kvs_scheme_page_bits(scheme);
    kvs_scheme_close(scheme);
    cJSON *object = cJSON_AddObjectToObject(entry, "bits");
    cJSON_AddNumberToObject(object, "head_dim", LIST_HEAD_DIM);
    cJSON_AddNumberToObject(object, "payload", bits.payload);
    cJSON_AddNumberToObject(object, "metadata", bits.metadata);
    cJSON_AddNumberToObject(object, "padding", bits.padding);
    cJSON_AddNumberToObject(object, "effective", kvs_bits_sum(bits));
}

static void add_schemes(cJSON *entries) {
    for (int i = 0; kvs_scheme_types[i] != NULL; i++) {
        const kvs_scheme_type *type = kvs_scheme_types[i];
        cJSON *entry = add_entry(entries, type->name, type->summary);
        cJSON_AddStringToObject(entry, "paper", type->paper);
        cJSON_AddStringToObject(entry, "layout", type->layout);
        add_bits(entry, type);
        add_parameters(entry, type->params);
    }
}

static void add_metrics(cJSON *entries) {
    for (int i = 0; kvs_rankings[i] != NULL; i++) {
        cJSON *entry = add_entry(entries, kvs_rankings[i]->name, kvs_rankings[i]->summary);
        cJSON_AddStringToObject(entry, "formula", kvs_rankings[i]->formula);
    }
}

static void add_layouts(cJSON *entries) {
    for (int i = 0; kvs_layouts[i] != NULL; i++) add_entry(entries, kvs_layouts[i]->name, kvs_layouts[i]->summary);
}

static void add_plots_of(cJSON *entries, const kvs_plot_type *const *types) {
    for (; *types != NULL; types++) {
        cJSON *entry = add_entry(entries, (*types)->name, (*types)->summary);
        add_parameters(entry, (*types)->params);
    }
}

static void add_plots(cJSON *entries) {
    add_plots_of(entries, kvs_plot_types);
    add_plots_of(entries, kvs_occupancy_plot_types);
    add_plots_of(entries, kvs_profile_plot_types);
    add_plots_of(entries, kvs_timings_plot_types);
    add_plots_of(entries, kvs_ranking_plot_types);
}

static void add_kernels(cJSON *entries) {
    for (int i = 0; kvs_workload_kernels[i] != NULL; i++)
        add_entry(entries, kvs_workload_kernels[i]->name, kvs_workload_kernels[i]->summary);
}

static void add_allocators(cJSON *entries) {
    for (int i = 0; kvs_allocator_types[i] != NULL; i++)
        add_entry(entries, kvs_allocator_types[i]->name, kvs_allocator_types[i]->summary);
}

static void add_requests(cJSON *entries) {
    for (int i = 0; kvs_request_formats[i] != NULL; i++)
        add_entry(entries, kvs_request_formats[i]->name, kvs_request_formats[i]->summary);
}

static const struct registry {
    const char *name;
    void (*add)(cJSON *entries);
} registries[] = {
    {"schemes", add_schemes}, {"metrics", add_metrics},       {"layouts", add_layouts},   {"kernels", add_kernels},
    {"plots", add_plots},     {"allocators", add_allocators}, {"requests", add_requests},
};

/* --- text ----------------------------------------------------------------------------------------------------------
 */

static const char *text_of(const cJSON *object, const char *key) {
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    return text != NULL ? text : "";
}

static double number_of(const cJSON *object, const char *key) {
    return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static void print_parameter(const cJSON *parameter) {
    const cJSON *choices = cJSON_GetObjectItemCaseSensitive(parameter, "choices"), *choice;
    const cJSON *low = cJSON_GetObjectItemCaseSensitive(parameter, "low");
    char values[128] = "";
    if (low != NULL) snprintf(values, sizeof values, "%.9g..%.9g", low->valuedouble, number_of(parameter, "high"));
    cJSON_ArrayForEach(choice, choices) {
        size_t used = strlen(values);
        snprintf(values + used, sizeof values - used, "%s%s", used ? "|" : "", choice->valuestring);
    }
    printf("    %-12s %-10s %-32s %-9s %s\n", text_of(parameter, "name"), text_of(parameter, "default"), values,
           text_of(parameter, "unit"), text_of(parameter, "summary"));
}

/* A name and its summary; under them what else is known, then the parameters. */
static void print_entry(const cJSON *entry) {
    const cJSON *field, *parameters = cJSON_GetObjectItemCaseSensitive(entry, "parameters");
    printf("%-16s %s\n", text_of(entry, "name"), text_of(entry, "summary"));
    cJSON_ArrayForEach(field, entry) {
        if (!cJSON_IsString(field) || field->valuestring[0] == '\0') continue;
        if (strcmp(field->string, "name") != 0 && strcmp(field->string, "summary") != 0)
            printf("    %s: %s\n", field->string, field->valuestring);
    }
    const cJSON *bits = cJSON_GetObjectItemCaseSensitive(entry, "bits");
    if (bits != NULL)
        printf("    bits: %.9g an element of a page at head_dim %d: payload %.9g, metadata %.9g, padding %.9g\n",
               number_of(bits, "effective"), LIST_HEAD_DIM, number_of(bits, "payload"), number_of(bits, "metadata"),
               number_of(bits, "padding"));
    if (cJSON_GetArraySize(parameters) > 0)
        printf("    %-12s %-10s %-32s %-9s %s\n", "PARAMETER", "DEFAULT", "VALUES", "UNIT", "MEANING");
    cJSON_ArrayForEach(field, parameters) print_parameter(field);
}

/* --- the command ---------------------------------------------------------------------------------------------------
 */

static kvs_status print_registry(const struct registry *registry, int json, kvs_error *error) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", "list");
    cJSON_AddStringToObject(root, "version", KVS_VERSION);
    cJSON *entries = cJSON_AddArrayToObject(root, registry->name), *entry;
    registry->add(entries);
    char *text = cJSON_Print(root);
    if (text != NULL && json) puts(text);
    if (text != NULL && !json) {
        cJSON_ArrayForEach(entry, entries) print_entry(entry);
    }
    cJSON_free(text);
    cJSON_Delete(root);
    return text != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
}

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    const kvs_common *common = config;
    char known[128] = "";
    for (size_t i = 0; i < sizeof registries / sizeof *registries; i++) {
        if (strcmp(registries[i].name, operands->texts[0]) == 0)
            return print_registry(&registries[i], common->json, error);
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", registries[i].name);
    }
    return kvs_fail(error, KVS_USAGE, operands->texts[0], NULL, "unknown registry; known: %s", known);
}

const kvs_command kvs_command_list = {
    .name = "list",
    .arguments = "schemes|metrics|layouts",
    .summary = "schemes, ranking metrics, layouts, plots: what is registered, with parameters",
    .details = "A scheme is written NAME:PARAMETER=VALUE,..., for example kitty:boost=0.25,rank=range or kivi:bits=4.\n"
               "Where the default is `auto`, the meaning says what decides.\n",
    .config_bytes = sizeof(kvs_common),
    .min_operands = 1,
    .max_operands = 1,
    .run = run,
};
