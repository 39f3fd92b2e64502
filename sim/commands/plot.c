/* plot.c: kvscope plot: draws from a results file. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/result.h"
#include "core/progress.h"
#include "core/version.h"
#include "plots/plot.h"
#include "sim/command.h"

typedef struct settings {
    kvs_common common;
    kvs_texts kinds, sets, schemes, traces;
    const char *folder;
} settings;

static const kvs_option options[] = {
    {"kind", KVS_OPTION_LIST, offsetof(settings, kinds), "K", NULL, 0, 0,
     "which plot, or all; repeat for several (kvscope list plots)"},
    {"o", KVS_OPTION_TEXT, offsetof(settings, folder), "DIR", NULL, 0, 0, "the folder to draw into, made if missing"},
    {"scheme", KVS_OPTION_LIST, offsetof(settings, schemes), "TEXT", NULL, 0, 0,
     "only results whose scheme contains TEXT; repeat for more"},
    {"trace", KVS_OPTION_LIST, offsetof(settings, traces), "TEXT", NULL, 0, 0,
     "only traces whose path or model contains TEXT; repeat for more"},
    {"set", KVS_OPTION_LIST, offsetof(settings, sets), "KEY=VALUE", NULL, 0, 0,
     "a parameter of every plot that has it; of one: KIND.KEY=VALUE"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

/* One of the plots that were asked for. */
typedef struct plot_job {
    const kvs_plot_type *type;
    int of_all; /* asked for as one of all only: left out where it does not apply */
    void *config;
    kvs_status status;
    kvs_error error;
} plot_job;

typedef struct jobs {
    plot_job *jobs;
    int count;
} jobs;

static void free_jobs(jobs *list) {
    for (int i = 0; i < list->count; i++) free(list->jobs[i].config);
    free(list->jobs);
}

static kvs_status add_job(jobs *list, const kvs_plot_type *type, int of_all, kvs_error *error) {
    for (int i = 0; i < list->count; i++)
        if (list->jobs[i].type == type) {
            list->jobs[i].of_all &= of_all;
            return KVS_OK;
        }
    plot_job *grown = realloc(list->jobs, sizeof *grown * (size_t)(list->count + 1));
    if (grown == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    list->jobs = grown;
    plot_job *added = &grown[list->count++];
    *added = (plot_job){.type = type, .of_all = of_all, .config = calloc(1, type->config_bytes)};
    if (added->config == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    kvs_params_defaults(type->params, added->config);
    return KVS_OK;
}

static kvs_status add_kind(jobs *list, const kvs_plot_type *const *registry, const char *kind, kvs_error *error) {
    char known[200] = "all";
    for (int i = 0; registry[i] != NULL; i++) {
        const kvs_plot_type *type = registry[i];
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, ", %s", type->name);
        if (strcmp(kind, "all") == 0)
            KVS_TRY(add_job(list, type, 1, error));
        else if (strcmp(kind, type->name) == 0)
            return add_job(list, type, 0, error);
    }
    if (strcmp(kind, "all") == 0) return KVS_OK;
    return kvs_fail(error, KVS_USAGE, "--kind", kind, "unknown plot; known: %s", known);
}

static int has_param(const kvs_param *params, const char *key) {
    for (; params->name != NULL; params++)
        if (strcmp(params->name, key) == 0) return 1;
    return 0;
}

/* "key=value" for every plot that has the key, "kind.key=value" for one. */
static kvs_status apply_set(const jobs *list, const char *text, kvs_error *error) {
    char key[64];
    size_t length = strcspn(text, "=");
    if (text[length] == '\0' || length == 0 || length >= sizeof key)
        return kvs_fail(error, KVS_USAGE, "--set", text, "is written KEY=VALUE or KIND.KEY=VALUE");
    memcpy(key, text, length);
    key[length] = '\0';
    char *dot = strchr(key, '.');
    const char *name = dot != NULL ? dot + 1 : key;
    if (dot != NULL) *dot = '\0';
    int used = 0;
    for (int i = 0; i < list->count; i++) {
        const plot_job *job = &list->jobs[i];
        char owner[64];
        if (dot != NULL ? strcmp(job->type->name, key) != 0 : !has_param(job->type->params, name)) continue;
        snprintf(owner, sizeof owner, "plot %s", job->type->name);
        KVS_TRY(kvs_params_set(job->type->params, owner, name, text + length + 1, job->config, error));
        used = 1;
    }
    if (used) return KVS_OK;
    return kvs_fail(error, KVS_USAGE, "--set", text, "no plot that is drawn has it; see kvscope list plots");
}

/* --- which results ------------------------------------------------------------------------------------------------ */

static int contains_one(const kvs_texts *wanted, const char *text, const char *other) {
    for (int i = 0; i < wanted->count; i++)
        if (strstr(text, wanted->texts[i]) != NULL || strstr(other, wanted->texts[i]) != NULL) return 1;
    return wanted->count == 0;
}

static const char *or_empty(const char *text) {
    return text != NULL ? text : "";
}

/* A view of some of the results: all that they hold belongs to `all`; *view's own arrays are the caller's to free. */
static kvs_status select_results(const kvs_results *all, const settings *s, kvs_results *view, kvs_error *error) {
    *view = *all;
    view->traces_count = view->results_count = 0;
    view->traces = calloc((size_t)all->traces_count + 1, sizeof *view->traces);
    view->results = calloc((size_t)all->results_count + 1, sizeof *view->results);
    if (view->traces == NULL || view->results == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (int t = 0; t < all->traces_count; t++) {
        const kvs_trace_summary *trace = &all->traces[t];
        if (!contains_one(&s->traces, or_empty(trace->path), or_empty(trace->model_name))) continue;
        for (int i = 0; i < all->results_count; i++) {
            const kvs_result *result = &all->results[i];
            if (result->trace != t || !contains_one(&s->schemes, or_empty(result->scheme), "")) continue;
            view->results[view->results_count] = *result;
            view->results[view->results_count++].trace = view->traces_count;
        }
        view->traces[view->traces_count++] = *trace;
    }
    if (view->traces_count == 0 && s->traces.count > 0)
        return kvs_fail(error, KVS_USAGE, "--trace", s->traces.texts[0], "no trace of the file contains it");
    if (view->results_count == 0 && s->schemes.count > 0)
        return kvs_fail(error, KVS_USAGE, "--scheme", s->schemes.texts[0], "no scheme of the file contains it");
    return KVS_OK;
}

/* What is drawn: one of them. */
typedef struct drawn {
    const kvs_results *results;
    const kvs_occupancy_results *occupancy;
    const kvs_profile *profile;
    const kvs_timings *timings;
    const kvs_rank_results *ranking;
} drawn;

static int applies(const kvs_plot_type *type, drawn what) {
    if (what.results != NULL) return type->applies == NULL || type->applies(what.results);
    return what.profile == NULL || type->applies_to_profile == NULL || type->applies_to_profile(what.profile);
}

/* Drops the plots that were asked for only as one of all and are about what the file does not have. */
static void drop_jobs(jobs *list, drawn what) {
    int kept = 0;
    for (int i = 0; i < list->count; i++) {
        plot_job *job = &list->jobs[i];
        if (job->of_all && !applies(job->type, what))
            free(job->config);
        else
            list->jobs[kept++] = *job;
    }
    list->count = kept;
}

/* --- drawing ------------------------------------------------------------------------------------------------------ */

static kvs_status draw(plot_job *job, drawn what, const char *folder, kvs_error *error) {
    kvs_figure figure;
    if (what.results != NULL)
        KVS_TRY(kvs_figure_compose(job->type, what.results, job->config, &figure, error));
    else if (what.occupancy != NULL)
        KVS_TRY(kvs_figure_compose_occupancy(job->type, what.occupancy, job->config, &figure, error));
    else if (what.timings != NULL)
        KVS_TRY(kvs_figure_compose_timings(job->type, what.timings, job->config, &figure, error));
    else if (what.ranking != NULL)
        KVS_TRY(kvs_figure_compose_ranking(job->type, what.ranking, job->config, &figure, error));
    else
        KVS_TRY(kvs_figure_compose_profile(job->type, what.profile, job->config, &figure, error));
    kvs_status status = kvs_figure_write(&figure, folder, error);
    if (status == KVS_OK) status = kvs_figure_draw(&figure, folder, error);
    kvs_figure_clear(&figure);
    return status;
}

/* One plot that cannot be drawn does not keep the others from it; the first failure is what the command returns. */
static kvs_status draw_all(jobs *list, drawn what, const char *folder, int quiet, kvs_error *error) {
    kvs_status first = KVS_OK;
    for (int i = 0; i < list->count && !kvs_interrupted(); i++) {
        plot_job *job = &list->jobs[i];
        job->status = draw(job, what, folder, &job->error);
        if (job->status != KVS_OK && first == KVS_OK) {
            first = job->status;
            *error = job->error;
        }
        if (quiet) continue;
        if (job->status == KVS_OK)
            printf("%-9s %s/%s.png .svg .csv .gp\n", job->type->name, folder, job->type->name);
        else
            printf("%-9s not drawn: %s\n", job->type->name, job->error.rule);
    }
    if (kvs_interrupted()) return kvs_fail(error, KVS_INTERRUPTED, folder, NULL, "interrupted");
    return first;
}

static kvs_status print_json(const jobs *list, const char *path, const char *folder, kvs_error *error) {
    static const char *const suffixes[] = {"csv", "gp", "svg", "png"};
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", "plot");
    cJSON_AddStringToObject(root, "version", KVS_VERSION);
    cJSON_AddStringToObject(root, "results", path);
    cJSON *plots = cJSON_AddArrayToObject(root, "plots");
    for (int i = 0; i < list->count; i++) {
        const plot_job *job = &list->jobs[i];
        cJSON *entry = cJSON_CreateObject();
        cJSON_AddStringToObject(entry, "kind", job->type->name);
        for (int k = 0; k < 4 && job->status == KVS_OK; k++) {
            char file[4096];
            snprintf(file, sizeof file, "%s/%s.%s", folder, job->type->name, suffixes[k]);
            cJSON_AddStringToObject(entry, suffixes[k], file);
        }
        if (job->status != KVS_OK) cJSON_AddStringToObject(entry, "error", job->error.rule);
        cJSON_AddItemToArray(plots, entry);
    }
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    cJSON_free(text);
    return KVS_OK;
}

static kvs_status draw_and_print(jobs *list, const settings *s, drawn what, const char *path, kvs_error *error) {
    drop_jobs(list, what);
    kvs_status status = draw_all(list, what, s->folder, s->common.quiet || s->common.json, error);
    if (error->status != KVS_OK && strcmp(error->file, "results") == 0)
        snprintf(error->file, sizeof error->file, "%s", path);
    if (!s->common.json || status == KVS_INTERRUPTED) return status;
    kvs_status printed = print_json(list, path, s->folder, status == KVS_OK ? error : NULL);
    return status == KVS_OK ? printed : status;
}

static kvs_status draw_results(jobs *list, const settings *s, const char *path, kvs_error *error) {
    kvs_results all = {0}, view = {0};
    KVS_TRY(kvs_results_read_h5(path, &all, error));
    kvs_status status = select_results(&all, s, &view, error);
    if (status == KVS_OK) status = draw_and_print(list, s, (drawn){.results = &view}, path, error);
    free(view.traces);
    free(view.results);
    kvs_results_clear(&all);
    return status;
}

/* A view of the runs whose scheme contains one of the texts; only its array is the caller's. */
static kvs_status select_runs(const kvs_occupancy_results *all, const settings *s, kvs_occupancy_results *view,
                              kvs_error *error) {
    *view = *all;
    view->runs_count = 0;
    view->runs = calloc((size_t)all->runs_count + 1, sizeof *view->runs);
    if (view->runs == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (int i = 0; i < all->runs_count; i++)
        if (contains_one(&s->schemes, or_empty(all->runs[i].scheme), "")) view->runs[view->runs_count++] = all->runs[i];
    if (view->runs_count > 0) return KVS_OK;
    return kvs_fail(error, KVS_USAGE, "--scheme", s->schemes.count > 0 ? s->schemes.texts[0] : NULL,
                    "no run of the file is left");
}

static kvs_status draw_occupancy(jobs *list, const settings *s, const char *path, kvs_error *error) {
    kvs_occupancy_results all = {0}, view = {0};
    KVS_TRY(kvs_occupancy_read_h5(path, &all, error));
    kvs_status status = select_runs(&all, s, &view, error);
    if (status == KVS_OK) status = draw_and_print(list, s, (drawn){.occupancy = &view}, path, error);
    free(view.runs);
    kvs_occupancy_results_clear(&all);
    return status;
}

/* A profile is drawn whole: which kernels and layouts it has was said when it was made. */
static kvs_status draw_profile(jobs *list, const settings *s, const char *path, kvs_error *error) {
    kvs_profile profile;
    KVS_TRY(kvs_profile_read_h5(path, &profile, error));
    kvs_status status = draw_and_print(list, s, (drawn){.profile = &profile}, path, error);
    kvs_profile_clear(&profile);
    return status;
}

static kvs_status draw_timings(jobs *list, const settings *s, const char *path, kvs_error *error) {
    kvs_timings timings;
    KVS_TRY(kvs_timings_read_json(path, &timings, error));
    kvs_status status = draw_and_print(list, s, (drawn){.timings = &timings}, path, error);
    kvs_timings_clear(&timings);
    return status;
}

static kvs_status draw_ranking(jobs *list, const settings *s, const char *path, kvs_error *error) {
    kvs_rank_results results;
    KVS_TRY(kvs_rank_results_read_h5(path, &results, error));
    kvs_status status = draw_and_print(list, s, (drawn){.ranking = &results}, path, error);
    kvs_rank_results_clear(&results);
    return status;
}

/* JSON begins with a brace; all other results that are drawn are HDF5. */
static int is_json(const char *path) {
    char begin[64] = "";
    FILE *file = fopen(path, "rb");
    if (file == NULL) return 0;
    size_t got = fread(begin, 1, sizeof begin - 1, file);
    fclose(file);
    return got > 0 && begin[strspn(begin, " \t\r\n")] == '{';
}

static int always(const char *path) {
    (void)path;
    return 1;
}

/* Kinds of files, and what draws them; the first that a file is counts. */
static const struct kind_of_file {
    int (*is)(const char *path);
    const kvs_plot_type *const *registry;
    kvs_status (*draw)(jobs *list, const settings *s, const char *path, kvs_error *error);
} kinds_of_files[] = {
    {kvs_occupancy_is_h5, kvs_occupancy_plot_types, draw_occupancy},
    {kvs_profile_is_h5, kvs_profile_plot_types, draw_profile},
    {kvs_rank_results_is_h5, kvs_ranking_plot_types, draw_ranking},
    {is_json, kvs_timings_plot_types, draw_timings},
    {always, kvs_plot_types, draw_results},
};

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    const settings *s = config;
    if (s->folder == NULL || s->kinds.count == 0)
        return kvs_fail(error, KVS_USAGE, s->folder == NULL ? "-o" : "--kind", NULL,
                        "is needed: kvscope plot RESULTS --kind K -o DIR");
    jobs list = {NULL, 0};
    kvs_status status = KVS_OK;
    const char *path = operands->texts[0];
    const struct kind_of_file *kind = kinds_of_files;
    while (!kind->is(path)) kind++;
    for (int i = 0; i < s->kinds.count && status == KVS_OK; i++)
        status = add_kind(&list, kind->registry, s->kinds.texts[i], error);
    for (int i = 0; i < s->sets.count && status == KVS_OK; i++) status = apply_set(&list, s->sets.texts[i], error);
    kvs_interrupt_catch();
    if (status == KVS_OK) status = kind->draw(&list, s, path, error);
    free_jobs(&list);
    return status;
}

const kvs_command kvs_command_plot = {
    .name = "plot",
    .arguments = "RESULTS --kind K [--kind K ...] -o DIR",
    .summary = "draw from a results file: .csv, .gp, .svg and .png of each plot",
    .details =
        "Each plot is four files in DIR: the numbers, the gnuplot program, and two pictures; `gnuplot KIND.gp` in DIR\n"
        "draws it again. Where gnuplot is missing, .csv and .gp are still written and the exit status is 4.\n\n"
        "  kvscope plot results.h5 --kind all -o plots\n"
        "  kvscope plot results.h5 --kind frontier --set memory=bytes_per_token --set error=attention_kl -o plots\n"
        "  kvscope plot results.h5 --kind heads --scheme kitty --set panels=3 -o plots\n"
        "  kvscope plot closed.h5 --kind frontier --kind proxy --set proxy.error=attention_kl -o plots\n"
        "  kvscope plot profile.h5 --kind roofline --kind prediction --kind sectors -o plots\n"
        "  kvscope plot allocations.h5 --kind occupancy --kind hit-rate --kind concurrency -o plots\n"
        "  kvscope plot ranking.h5 --kind correlation --kind boost --set budget=model -o plots\n"
        "  kvscope bench --backend cuda --json >bench.json; kvscope plot bench.json --kind bench -o plots\n",
    .options = options,
    .config_bytes = sizeof(settings),
    .min_operands = 1,
    .max_operands = 1,
    .run = run,
};
