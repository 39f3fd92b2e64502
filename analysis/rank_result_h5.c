/* rank_result_h5.c: ranking studies as HDF5 (schema: analysis/RANKING.md). */
#include <stdlib.h>
#include <string.h>

#include "analysis/rank_result.h"
#include "analysis/table.h"
#include "core/h5_isolate.h"

enum { MOST_SIZE = 1 << 16 };

/* The numbers of pages: [metrics] and the like before, then [pages], then one more. */
typedef struct page_numbers {
    const char *name;
    const char *unit;
    int rank;
    hsize_t dims[5];
    void *values;
    hid_t stored, given;
} page_numbers;

enum { PAGE_NUMBERS = 4 };

/* agreements are three numbers each: [metrics][pages][spearman, kendall, overlap]. */
_Static_assert(sizeof(kvs_rank_agreement) == 3 * sizeof(double), "agreements are written as three numbers");

static void list_numbers(const kvs_rank_results *r, page_numbers list[PAGE_NUMBERS]) {
    hsize_t metrics = (hsize_t)r->metrics_count, pages = (hsize_t)r->pages_count, dim = (hsize_t)r->head_dim;
    hsize_t ratios = (hsize_t)r->ratios_count;
    list[0] = (page_numbers){"sensitivity", "1", 2, {pages, dim}, r->sensitivity, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT};
    list[1] = (page_numbers){"rank", "", 3, {metrics, pages, dim}, r->ranks, H5T_STD_I16LE, H5T_NATIVE_INT16};
    list[2] =
        (page_numbers){"agreement", "1", 3, {metrics, pages, 3}, r->agreements, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE};
    list[3] = (page_numbers){
        "error",          "1", 5, {metrics, KVS_SELECTIONS, KVS_BUDGETS, pages, ratios}, r->errors, H5T_IEEE_F64LE,
        H5T_NATIVE_DOUBLE};
}

static int scores_count(const kvs_rank_results *r) {
    return r->scopes_count * r->metrics_count;
}

static int summaries_count(const kvs_rank_results *r) {
    return scores_count(r) * KVS_SELECTIONS * KVS_BUDGETS * r->ratios_count;
}

static kvs_status fill(const kvs_table_file *file, const void *context) {
    const kvs_rank_results *r = context;
    KVS_TRY(kvs_table_put_attributes(file, kvs_rank_results_fields, r));
    KVS_TRY(kvs_table_put(file, "ratios", kvs_rank_ratio_fields, r->ratios, sizeof *r->ratios, r->ratios_count));
    KVS_TRY(kvs_table_put(file, "metrics", kvs_rank_metric_fields, r->metrics, sizeof *r->metrics, r->metrics_count));
    KVS_TRY(kvs_table_put(file, "scores", kvs_rank_score_fields, r->scores, sizeof *r->scores, scores_count(r)));
    KVS_TRY(
        kvs_table_put(file, "errors", kvs_rank_error_fields, r->summaries, sizeof *r->summaries, summaries_count(r)));
    KVS_TRY(kvs_table_put(file, "pages", kvs_rank_page_fields, r->pages, sizeof *r->pages, r->pages_count));
    page_numbers list[PAGE_NUMBERS];
    list_numbers(r, list);
    hid_t group = H5Gcreate2(file->file, "by_page", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (group < 0) return kvs_fail(file->error, KVS_INPUT, file->path, "by_page", "HDF5 cannot build the object");
    kvs_status status = KVS_OK;
    for (int i = 0; i < PAGE_NUMBERS && status == KVS_OK; i++)
        status = kvs_table_put_dataset(file, group, list[i].name, list[i].stored, list[i].given, list[i].rank,
                                       list[i].dims, list[i].values, list[i].unit);
    H5Gclose(group);
    return status;
}

kvs_status kvs_rank_results_write_h5(const kvs_rank_results *results, const char *path, kvs_error *error) {
    return kvs_table_file_write(path, KVS_RANK_FORMAT, KVS_RANK_MAJOR, KVS_RANK_MINOR, fill, results, error);
}

/* --- reading -------------------------------------------------------------------------------------------------------
 */

static kvs_status get_ratios(hid_t file, const char *path, kvs_rank_results *r, kvs_error *error) {
    int64_t count = -1;
    void *rows = NULL;
    kvs_status status =
        kvs_table_get(file, path, "ratios", kvs_rank_ratio_fields, sizeof *r->ratios, &count, &rows, error);
    if (status == KVS_OK && (count < 1 || count > KVS_RANK_RATIOS))
        status = kvs_table_refuse(path, "ratios", "ratio", "are not 1 to 16", error);
    for (int i = 0; status == KVS_OK && i < count; i++) {
        r->ratios[i] = ((const kvs_rank_ratio *)rows)[i];
        if (r->ratios[i].boost_count < 0 || r->ratios[i].boost_count > r->head_dim)
            status = kvs_table_refuse(path, "ratios", "boost_count", "is outside 0 to head_dim", error);
    }
    free(rows);
    r->ratios_count = (int)count;
    KVS_TRY(status);
    if (kvs_rank_ratio_index(r, kvs_rank_main_ratios[0]) < 0 || kvs_rank_ratio_index(r, kvs_rank_main_ratios[1]) < 0)
        return kvs_table_refuse(path, "ratios", "ratio", "lacks 0.125 or 0.25", error);
    return KVS_OK;
}

static kvs_status get_dimensions(hid_t file, const char *path, kvs_rank_results *r, kvs_error *error) {
    KVS_TRY(kvs_table_get_attributes(file, path, kvs_rank_results_fields, r, error));
    const int sizes[] = {r->layers, r->kv_heads, r->head_dim, r->sequences};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i] < 1 || sizes[i] > MOST_SIZE)
            return kvs_table_refuse(path, "", "num_layers", "the model's dimensions are out of bounds", error);
    KVS_TRY(get_ratios(file, path, r, error));
    int64_t metrics = -1, pages = -1;
    void *rows = NULL;
    kvs_status status =
        kvs_table_get(file, path, "metrics", kvs_rank_metric_fields, sizeof *r->metrics, &metrics, &rows, error);
    r->metrics = rows;
    r->metrics_count = rows != NULL ? (int)metrics : 0;
    KVS_TRY(status);
    rows = NULL;
    status = kvs_table_get(file, path, "pages", kvs_rank_page_fields, sizeof *r->pages, &pages, &rows, error);
    r->pages = rows;
    r->pages_count = rows != NULL ? (int)pages : 0;
    KVS_TRY(status);
    double numbers = (double)metrics * (double)pages * r->head_dim * KVS_SELECTIONS * KVS_BUDGETS;
    if (metrics < 3 || pages < 1 || numbers * KVS_RANK_RATIOS > 16.0 * KVS_TABLE_MOST_ROWS)
        return kvs_table_refuse(path, "metrics", "name", "are too few, or there are too many pages", error);
    r->scopes_count = 1 + r->layers + r->layers * r->kv_heads;
    if ((double)r->layers * r->kv_heads > MOST_SIZE || (double)r->scopes_count * (double)metrics > MOST_SIZE * 16.0)
        return kvs_table_refuse(path, "", "num_layers", "the model's dimensions are out of bounds", error);
    return KVS_OK;
}

static kvs_status get_numbers(hid_t file, const char *path, const page_numbers *numbers, kvs_error *error) {
    char name[64];
    snprintf(name, sizeof name, "by_page/%s", numbers->name);
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT), space = dataset < 0 ? -1 : H5Dget_space(dataset);
    hsize_t dims[5] = {0};
    int good = space >= 0 && H5Sget_simple_extent_ndims(space) == numbers->rank &&
               H5Sget_simple_extent_dims(space, dims, NULL) == numbers->rank;
    for (int i = 0; good && i < numbers->rank; i++) good = dims[i] == numbers->dims[i];
    good = good && H5Dread(dataset, numbers->given, H5S_ALL, H5S_ALL, H5P_DEFAULT, numbers->values) >= 0;
    if (space >= 0) H5Sclose(space);
    if (dataset >= 0) H5Dclose(dataset);
    if (good) return KVS_OK;
    return kvs_table_refuse(path, "by_page", numbers->name, "is missing or of other dimensions", error);
}

/* Everything that indexes, and the names that are printed. */
static kvs_status check(const char *path, const kvs_rank_results *r, kvs_error *error) {
    for (int p = 0; p < r->pages_count; p++) {
        const kvs_rank_page *page = &r->pages[p];
        if (page->sequence < 0 || page->sequence >= r->sequences || page->layer < 0 || page->layer >= r->layers ||
            page->head < 0 || page->head >= r->kv_heads || page->page < 0 || page->page > KVS_TABLE_MOST_ROWS)
            return kvs_table_refuse(path, "pages", "layer", "a page is of no sequence, layer or head of the file",
                                    error);
    }
    for (int m = 0; m < r->metrics_count; m++)
        if (r->metrics[m].name == NULL || r->metrics[m].uses == NULL)
            return kvs_table_refuse(path, "metrics", "name", "is empty", error);
    return KVS_OK;
}

static kvs_status get_all(hid_t file, const char *path, kvs_rank_results *r, kvs_error *error) {
    KVS_TRY(kvs_table_check_format(file, path, KVS_RANK_FORMAT, KVS_RANK_MAJOR, error));
    KVS_TRY(get_dimensions(file, path, r, error));
    KVS_TRY(kvs_rank_results_alloc(r, error));
    int64_t count = scores_count(r);
    void *rows = NULL;
    kvs_status status =
        kvs_table_get(file, path, "scores", kvs_rank_score_fields, sizeof *r->scores, &count, &rows, error);
    r->scores = rows;
    KVS_TRY(status);
    count = summaries_count(r);
    rows = NULL;
    status = kvs_table_get(file, path, "errors", kvs_rank_error_fields, sizeof *r->summaries, &count, &rows, error);
    r->summaries = rows;
    KVS_TRY(status);
    KVS_TRY(check(path, r, error));
    page_numbers list[PAGE_NUMBERS];
    list_numbers(r, list);
    for (int i = 0; i < PAGE_NUMBERS; i++) KVS_TRY(get_numbers(file, path, &list[i], error));
    return KVS_OK;
}

static kvs_status read_here(const char *path, kvs_rank_results *results, kvs_error *error) {
    hid_t file;
    *results = (kvs_rank_results){0};
    kvs_h5_lock();
    kvs_status status = kvs_h5_open(path, &file, error);
    if (status == KVS_OK) {
        status = get_all(file, path, results, error);
        H5Fclose(file);
    }
    kvs_h5_unlock();
    if (status != KVS_OK) kvs_rank_results_clear(results);
    return status;
}

/* In a child process, since HDF5 crashes on some damaged files. */
static kvs_status look(const char *path, kvs_error *error) {
    kvs_rank_results results;
    KVS_TRY(read_here(path, &results, error));
    kvs_rank_results_clear(&results);
    return KVS_OK;
}

kvs_status kvs_rank_results_read_h5(const char *path, kvs_rank_results *results, kvs_error *error) {
    *results = (kvs_rank_results){0};
    KVS_TRY(kvs_h5_isolated(path, look, error));
    return read_here(path, results, error);
}

static kvs_status look_for_format(const char *path, kvs_error *error) {
    hid_t file;
    kvs_h5_lock();
    kvs_status status = kvs_h5_open(path, &file, error);
    if (status == KVS_OK) {
        status = kvs_table_check_format(file, path, KVS_RANK_FORMAT, KVS_RANK_MAJOR, error);
        H5Fclose(file);
    }
    kvs_h5_unlock();
    return status;
}

int kvs_rank_results_is_h5(const char *path) {
    return kvs_h5_isolated(path, look_for_format, NULL) == KVS_OK;
}
