#include "plots/labels.h"

#include <stdlib.h>
#include <string.h>

#include "plots/style.h"

static const char *scheme_of(const kvs_result *result) {
    return result->scheme != NULL ? result->scheme : "";
}

static size_t family_length(const char *scheme) {
    return strcspn(scheme, ":");
}

static int same_family(const char *a, const char *b) {
    size_t length = family_length(a);
    return length == family_length(b) && memcmp(a, b, length) == 0;
}

/* The first "key=value" of a scheme, and the one after `token`; their length by strcspn(token, ","). "" at the end. */
static const char *first_parameter(const char *scheme) {
    scheme += family_length(scheme);
    return *scheme == ':' ? scheme + 1 : scheme;
}

static const char *next_parameter(const char *token) {
    token += strcspn(token, ",");
    return *token == ',' ? token + 1 : token;
}

static int has_parameter(const char *scheme, const char *token) {
    size_t length = strcspn(token, ",");
    for (const char *own = first_parameter(scheme); *own != '\0'; own = next_parameter(own))
        if (strcspn(own, ",") == length && memcmp(own, token, length) == 0) return 1;
    return 0;
}

/* Is the parameter the same in all schemes that name it, of several families? */
static int is_common_to_all(const kvs_results *results, const char *scheme, const char *token) {
    size_t key = strcspn(token, "=") + 1;
    int several = 0;
    for (int i = 0; i < results->results_count; i++) {
        const char *other = scheme_of(&results->results[i]);
        if (has_parameter(other, token)) {
            several |= !same_family(scheme, other);
            continue;
        }
        for (const char *own = first_parameter(other); *own != '\0'; own = next_parameter(own))
            if (strncmp(own, token, key) == 0) return 0;
    }
    return several;
}

/* Is the parameter the same in all of several schemes of the family? */
static int is_common(const kvs_results *results, const char *scheme, const char *token) {
    int several = 0;
    for (int i = 0; i < results->results_count; i++) {
        const char *other = scheme_of(&results->results[i]);
        if (!same_family(scheme, other)) continue;
        if (!has_parameter(other, token)) return 0;
        several |= strcmp(scheme, other) != 0;
    }
    return several;
}

static int has_several_layouts(const kvs_results *results, const kvs_result *result) {
    for (int i = 0; i < results->results_count; i++) {
        const kvs_result *other = &results->results[i];
        if (result->layout != NULL && other->layout != NULL && strcmp(scheme_of(result), scheme_of(other)) == 0 &&
            strcmp(result->layout, other->layout) != 0)
            return 1;
    }
    return 0;
}

static void append(char *text, size_t text_bytes, const char *part, size_t part_bytes) {
    size_t used = strlen(text);
    snprintf(text + used, text_bytes - used, "%s%.*s", used ? " " : "", (int)part_bytes, part);
}

/* "rank=variance" says no more than "variance" does; a number needs its name. */
static int is_word(const char *token, size_t length) {
    size_t key = strcspn(token, "=") + 1;
    return key < length && strchr("abcdefghijklmnopqrstuvwxyz", token[key]) != NULL;
}

/* What a label says of a parameter begins here: a word without its key, of a path only the last part. */
static size_t shown_from(const char *token, size_t length) {
    for (size_t at = length; at > 0; at--)
        if (token[at - 1] == '/') return at;
    return is_word(token, length) ? strcspn(token, "=") + 1 : 0;
}

/* Is the word one of the text's? */
static int has_word(const char *text, const char *word, size_t length) {
    for (; *text != '\0'; text += strcspn(text, " "), text += *text == ' ')
        if (strcspn(text, " ") == length && memcmp(text, word, length) == 0) return 1;
    return 0;
}

static void describe(const kvs_results *results, const kvs_result *result, kvs_scheme_labels *labels,
                     kvs_scheme_label *label) {
    kvs_scheme_family *family = &labels->families[label->family];
    const char *scheme = scheme_of(result);
    append(label->text, sizeof label->text, scheme, family_length(scheme));
    snprintf(family->name, sizeof family->name, "%.*s", (int)family_length(scheme), scheme);
    family->common[0] = '\0';
    for (const char *token = first_parameter(scheme); *token != '\0'; token = next_parameter(token)) {
        size_t length = strcspn(token, ","), key = shown_from(token, length);
        if (is_common_to_all(results, scheme, token)) {
            if (!has_word(labels->shared, token, length)) append(labels->shared, sizeof labels->shared, token, length);
        } else if (is_common(results, scheme, token))
            append(family->common, sizeof family->common, token, length);
        else
            append(label->text, sizeof label->text, token + key, length - key);
    }
    if (has_several_layouts(results, result))
        append(label->text, sizeof label->text, result->layout, strlen(result->layout));
}

kvs_status kvs_scheme_labels_make(const kvs_results *results, kvs_scheme_labels *labels, kvs_error *error) {
    size_t count = (size_t)results->results_count;
    labels->families_count = 0;
    labels->shared[0] = '\0';
    labels->labels = calloc(count + 1, sizeof *labels->labels);
    labels->families = calloc(count + 1, sizeof *labels->families);
    if (labels->labels == NULL || labels->families == NULL) {
        kvs_scheme_labels_clear(labels);
        return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    }
    for (int i = 0; i < results->results_count; i++) {
        int family = labels->families_count;
        for (int k = i - 1; k >= 0; k--)
            if (same_family(scheme_of(&results->results[i]), scheme_of(&results->results[k])))
                family = labels->labels[k].family;
        labels->families_count += family == labels->families_count;
        labels->labels[i].family = family;
        describe(results, &results->results[i], labels, &labels->labels[i]);
    }
    return KVS_OK;
}

void kvs_scheme_label_common(char *text, const char *other) {
    char kept[sizeof((kvs_scheme_label *)0)->text] = "";
    for (const char *word = text; *word != '\0';) {
        size_t length = strcspn(word, " ");
        for (const char *own = other; *own != '\0';) {
            size_t own_length = strcspn(own, " ");
            if (own_length == length && memcmp(own, word, length) == 0) {
                append(kept, sizeof kept, word, length);
                break;
            }
            own += own_length + (own[own_length] == ' ');
        }
        word += length + (word[length] == ' ');
    }
    memcpy(text, kept, strlen(kept) + 1);
}

void kvs_scheme_labels_clear(kvs_scheme_labels *labels) {
    free(labels->labels);
    free(labels->families);
    memset(labels, 0, sizeof *labels);
}

const char *kvs_trace_name(const kvs_trace_summary *trace) {
    int named = trace->model_name != NULL && trace->model_name[0] != '\0';
    return named ? trace->model_name : kvs_style_base_name(trace->path);
}

void kvs_trace_label(const kvs_trace_summary *trace, char *text, size_t text_bytes) {
    int cross = trace->attention != NULL && strcmp(trace->attention, "cross") == 0;
    snprintf(text, text_bytes, "%s: %s%d layer%s, %d KV head%s, head_dim %d", kvs_trace_name(trace),
             cross ? "cross attention, " : "", trace->layers, trace->layers == 1 ? "" : "s", trace->kv_heads,
             trace->kv_heads == 1 ? "" : "s", trace->head_dim);
}
