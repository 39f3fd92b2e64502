/* layouts.c: kvscope layouts: bytes, bits, alignment of every page layout, and where everything lies. */
#include <cjson/cJSON.h>
#include <stdio.h>

#include "core/version.h"
#include "kernels/layout.h"
#include "sim/command.h"
#include "sim/commands/layouts.h"

typedef struct settings {
    kvs_common common;
    const char *layout;
    int64_t head_dim, page, kv_heads, bits, boost_bits, value_bits;
    double boost;
    int transactions;
} settings;

static const kvs_option options[] = {
    {"layout", KVS_OPTION_TEXT, offsetof(settings, layout), "L", NULL, 0, 0, "only this one"},
    {"head-dim", KVS_OPTION_INT, offsetof(settings, head_dim), "N", "128", 1, 4096, "channels of a head"},
    {"page", KVS_OPTION_INT, offsetof(settings, page), "N", "128", 1, 4096, "tokens of a page"},
    {"kv-heads", KVS_OPTION_INT, offsetof(settings, kv_heads), "N", "8", 1, 4096, "KV heads of a layer"},
    {"bits", KVS_OPTION_INT, offsetof(settings, bits), "N", "2", 1, 16, "bits of a key's code"},
    {"boost-bits", KVS_OPTION_INT, offsetof(settings, boost_bits), "N", "4", 1, 16, "the same in boosted channels"},
    {"boost", KVS_OPTION_REAL, offsetof(settings, boost), "R", "0.25", 0, 1, "share of the channels that are boosted"},
    {"value-bits", KVS_OPTION_INT, offsetof(settings, value_bits), "N", "2", 1, 16, "bits of a value's code"},
    {"transactions", KVS_OPTION_FLAG, offsetof(settings, transactions), NULL, NULL, 0, 0,
     "predict how a GPU's memory system serves the kernels that write and read the pages"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

static double per_element(const kvs_format *format, double bits) {
    return bits / (2.0 * format->shape.head_dim * format->shape.page_tokens);
}

/* The largest power of two, up to 256, that every page of a head begins at a multiple of. */
static int alignment_of(const kvs_format *format) {
    int alignment = 256;
    for (int i = 0; i < format->tensors; i++)
        while (format->head_bytes[i] % (unsigned)alignment != 0) alignment /= 2;
    return alignment;
}

static void print_layout(const kvs_layout *layout, const kvs_format *format) {
    static const char *const tensor_names[] = {"pages", "metadata"};
    const kvs_bits *bits = &format->page_bits;
    printf("%s: %s\n", layout->name, layout->summary);
    printf("  bits per element  %.5f = payload %.5f + metadata %.5f + padding %.5f\n",
           per_element(format, kvs_bits_sum(*bits)), per_element(format, bits->payload),
           per_element(format, bits->metadata), per_element(format, bits->padding));
    for (int i = 0; i < format->tensors; i++)
        printf("  tensor %-9s  %u bytes a block, heads %u bytes apart\n", tensor_names[i], format->block_bytes[i],
               format->head_bytes[i]);
    printf("  heads aligned to  %d bytes\n", alignment_of(format));
    for (int i = 0; i < format->sections_count; i++) {
        const kvs_section *section = &format->sections[i];
        printf("    %-9s %7u .. %-7u %s\n", tensor_names[section->tensor], section->begin,
               section->begin + section->bytes, section->name);
    }
    putchar('\n');
}

static cJSON *layout_json(const kvs_layout *layout, const kvs_format *format) {
    cJSON *object = cJSON_CreateObject(), *bits = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "layout", layout->name);
    cJSON_AddStringToObject(object, "summary", layout->summary);
    cJSON_AddNumberToObject(bits, "payload", per_element(format, format->page_bits.payload));
    cJSON_AddNumberToObject(bits, "metadata", per_element(format, format->page_bits.metadata));
    cJSON_AddNumberToObject(bits, "padding", per_element(format, format->page_bits.padding));
    cJSON_AddNumberToObject(bits, "effective", per_element(format, kvs_bits_sum(format->page_bits)));
    cJSON_AddItemToObject(object, "page_bits", bits);
    cJSON_AddNumberToObject(object, "page_bytes", kvs_bits_sum(format->page_bits) / 8);
    cJSON_AddNumberToObject(object, "alignment_bytes", alignment_of(format));
    cJSON *tensors = cJSON_AddArrayToObject(object, "tensors");
    for (int i = 0; i < format->tensors; i++) {
        cJSON *tensor = cJSON_CreateObject();
        cJSON_AddNumberToObject(tensor, "block_bytes", format->block_bytes[i]);
        cJSON_AddNumberToObject(tensor, "head_stride_bytes", format->head_bytes[i]);
        cJSON_AddItemToArray(tensors, tensor);
    }
    cJSON *sections = cJSON_AddArrayToObject(object, "sections");
    for (int i = 0; i < format->sections_count; i++) {
        cJSON *section = cJSON_CreateObject();
        cJSON_AddStringToObject(section, "name", format->sections[i].name);
        cJSON_AddNumberToObject(section, "tensor", format->sections[i].tensor);
        cJSON_AddNumberToObject(section, "begin", format->sections[i].begin);
        cJSON_AddNumberToObject(section, "bytes", format->sections[i].bytes);
        cJSON_AddItemToArray(sections, section);
    }
    return object;
}

static kvs_status print_json(cJSON *rows, kvs_error *error) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", "layouts");
    cJSON_AddStringToObject(root, "version", KVS_VERSION);
    cJSON_AddItemToObject(root, "layouts", rows);
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    cJSON_free(text);
    return KVS_OK;
}

/* One layout, as a JSON row or as text. */
static kvs_status show_layout(const settings *s, const kvs_layout *layout, const kvs_format *format, cJSON *rows,
                              kvs_error *error) {
    kvs_layout_traffic traffic;
    if (s->transactions) KVS_TRY(kvs_layout_traffic_of(format, (uint64_t)s->common.seed, &traffic, error));
    if (rows != NULL) {
        cJSON *row = layout_json(layout, format);
        if (s->transactions) cJSON_AddItemToObject(row, "transactions_per_page", kvs_traffic_json(&traffic));
        cJSON_AddItemToArray(rows, row);
    } else if (s->transactions) {
        kvs_print_traffic(layout->name, &traffic);
    } else {
        print_layout(layout, format);
    }
    return KVS_OK;
}

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    const settings *s = config;
    kvs_page_shape shape = {(int)s->head_dim,
                            (int)s->page,
                            (int)s->kv_heads,
                            (int)s->bits,
                            (int)s->boost_bits,
                            (int)((double)s->head_dim * s->boost + 1e-6),
                            (int)s->value_bits,
                            0,
                            0};
    (void)operands;
    if (s->layout != NULL && kvs_layout_find(s->layout) == NULL)
        return kvs_fail(error, KVS_USAGE, "--layout", s->layout, "unknown layout; `kvscope layouts` lists them");
    cJSON *rows = s->common.json ? cJSON_CreateArray() : NULL;
    if (s->transactions && rows == NULL) kvs_print_traffic_head();
    for (int i = 0; kvs_layouts[i] != NULL; i++) {
        kvs_format format;
        if (s->layout != NULL && kvs_layouts[i] != kvs_layout_find(s->layout)) continue;
        if (s->layout == NULL && kvs_layouts[i]->arrange == NULL) continue;
        if (s->layout == NULL && shape.page_tokens % kvs_layouts[i]->min_page_tokens != 0 &&
            shape.page_tokens % 16 == 0)
            continue;
        kvs_status status = kvs_format_make(kvs_layouts[i], &shape, &format, error);
        if (status == KVS_OK) status = show_layout(s, kvs_layouts[i], &format, rows, error);
        if (status != KVS_OK) {
            cJSON_Delete(rows);
            return status;
        }
    }
    return rows != NULL ? print_json(rows, error) : KVS_OK;
}

const kvs_command kvs_command_layouts = {
    .name = "layouts",
    .arguments = "[--layout L] [--head-dim N] [--page N] [--boost R] [--transactions] ...",
    .summary = "bytes, bits and alignment of every page layout, and where everything lies",
    .details =
        "A page is one KV head's keys and values of some consecutive tokens; a block is that of all heads.\n"
        "Bits are per element of K and V together, of a full page.\n"
        "With --transactions, the kernels run on the host (kernels/simt) over two blocks of random pages, every\n"
        "access is recorded, and the coalescing model (analysis/transactions.h) counts what they take.\n"
        "  kvscope layouts --layout fragment --head-dim 64 --page 64\n"
        "  kvscope layouts --transactions\n",
    .options = options,
    .config_bytes = sizeof(settings),
    .min_operands = 0,
    .max_operands = 0,
    .run = run,
};
