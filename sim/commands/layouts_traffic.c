/* What the transaction model predicts of a layout's kernels, as text and as JSON. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>

#include "sim/commands/layouts.h"

static kvs_transaction_counts add(kvs_transaction_counts a, const kvs_transaction_counts *b) {
    a.requests += b->requests;
    a.useful_bytes += b->useful_bytes;
    a.sectors += b->sectors;
    return a;
}

void kvs_print_traffic_head(void) {
    printf("Predicted by the transaction model; per page of one KV head, keys and values apart.\n"
           "B/sector: useful bytes of each 32-byte sector moved. conflicts: wavefronts of shared memory beyond the\n"
           "least. compulsory: sectors of DRAM that must move at least once, in bytes.\n\n");
    printf("%-16s %-12s %-16s | %8s %8s %8s %8s | %8s %8s %8s %8s | %9s | %10s %10s\n", "", "", "", "read", "", "", "",
           "written", "", "", "", "", "compulsory", "");
    printf("%-16s %-12s %-16s | %8s %8s %8s %8s | %8s %8s %8s %8s | %9s | %10s %10s\n", "layout", "", "kernel",
           "requests", "sectors", "/request", "B/sector", "requests", "sectors", "/request", "B/sector", "conflicts",
           "B read", "B written");
}

static void print_counts(const kvs_transaction_counts *counts, double pages) {
    if (counts->requests == 0)
        printf(" %8s %8s %8s %8s |", "-", "-", "-", "-");
    else
        printf(" %8.1f %8.1f %8.2f %8.2f |", (double)counts->requests / pages, (double)counts->sectors / pages,
               kvs_sectors_per_request(counts), kvs_bytes_per_sector(counts));
}

void kvs_print_traffic(const char *layout, const kvs_layout_traffic *traffic) {
    double pages = (double)traffic->pages;
    for (int i = 0; i < traffic->count; i++) {
        const kvs_kernel_traffic *row = &traffic->rows[i];
        kvs_transaction_counts reads = add(row->loads, &row->copies);
        printf("%-16s %-12s %-16s |", layout, row->purpose, row->kernel);
        print_counts(&reads, pages);
        print_counts(&row->stores, pages);
        printf(" %9.1f | %10.1f %10.1f\n", (double)row->shared.conflicts / pages,
               KVS_SECTOR_BYTES * (double)row->footprint.read_sectors / pages,
               KVS_SECTOR_BYTES * (double)row->footprint.written_sectors / pages);
    }
}

static void add_ratio(cJSON *object, const char *name, double value) {
    if (isnan(value))
        cJSON_AddNullToObject(object, name);
    else
        cJSON_AddNumberToObject(object, name, value);
}

static void add_counts(cJSON *row, const char *name, const kvs_transaction_counts *counts, double pages) {
    cJSON *object = cJSON_AddObjectToObject(row, name);
    cJSON_AddNumberToObject(object, "requests", (double)counts->requests / pages);
    cJSON_AddNumberToObject(object, "sectors", (double)counts->sectors / pages);
    cJSON_AddNumberToObject(object, "lines", (double)counts->lines / pages);
    cJSON_AddNumberToObject(object, "useful_bytes", (double)counts->useful_bytes / pages);
    add_ratio(object, "sectors_per_request", kvs_sectors_per_request(counts));
    add_ratio(object, "useful_bytes_per_sector", kvs_bytes_per_sector(counts));
}

cJSON *kvs_traffic_json(const kvs_layout_traffic *traffic) {
    double pages = (double)traffic->pages;
    cJSON *rows = cJSON_CreateArray();
    for (int i = 0; i < traffic->count; i++) {
        const kvs_kernel_traffic *from = &traffic->rows[i];
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "purpose", from->purpose);
        cJSON_AddStringToObject(row, "kernel", from->kernel);
        add_counts(row, "loads", &from->loads, pages);
        add_counts(row, "async_copies", &from->copies, pages);
        add_counts(row, "stores", &from->stores, pages);
        cJSON *shared = cJSON_AddObjectToObject(row, "shared");
        cJSON_AddNumberToObject(shared, "requests", (double)from->shared.requests / pages);
        cJSON_AddNumberToObject(shared, "wavefronts", (double)from->shared.wavefronts / pages);
        cJSON_AddNumberToObject(shared, "conflicts", (double)from->shared.conflicts / pages);
        cJSON_AddNumberToObject(row, "compulsory_read_bytes",
                                KVS_SECTOR_BYTES * (double)from->footprint.read_sectors / pages);
        cJSON_AddNumberToObject(row, "compulsory_written_bytes",
                                KVS_SECTOR_BYTES * (double)from->footprint.written_sectors / pages);
        cJSON_AddNumberToObject(row, "partly_written_sectors", (double)from->footprint.partial_sectors / pages);
        cJSON_AddItemToArray(rows, row);
    }
    return rows;
}
