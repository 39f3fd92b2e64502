/* requests.h: request traces: who asked when, for how many tokens, and which prefix blocks they share.
 *
 * A trace is read as a stream of kvs_request records by a kvs_request_reader; kvs_requests holds a whole one in flat
 * arrays. Text formats are registered in kvs_request_formats, one file each; requests.h5 is the binary form that
 * `kvscope import` writes (traces/REQUESTS.md). Block ids are made dense in order of first appearance, so that a
 * replay can index flat tables with them. */
#ifndef KVS_TRACES_REQUESTS_H
#define KVS_TRACES_REQUESTS_H

#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KVS_REQUEST_MAX_TOKENS (1 << 24) /* input and output together; longer ones are taken for damage */

/* Moments an engine recorded for one request, in nanoseconds on the clock of arrival_ns. */
typedef enum kvs_request_moment {
    KVS_MOMENT_QUEUED,
    KVS_MOMENT_SCHEDULED,
    KVS_MOMENT_FIRST_TOKEN,
    KVS_MOMENT_LAST_TOKEN,
    KVS_MOMENTS
} kvs_request_moment;

typedef struct kvs_request {
    int64_t arrival_ns; /* never runs backwards within a trace */
    int32_t input_tokens, output_tokens;
    int32_t blocks; /* ids given: ceil(input_tokens / block_tokens), or 0 */
    const uint32_t
        *block_ids; /* dense; equal ids mean an equal prefix up to there. The last may cover a partial block */
    int64_t moments_ns[KVS_MOMENTS]; /* only if the trace has moments */
} kvs_request;

/* --- one format -------------------------------------------------------------------------------------------------- */

typedef struct kvs_request_reader kvs_request_reader;

/* What one line says; ids as the file has them. */
typedef struct kvs_raw_request {
    int64_t arrival_ns;
    int64_t input_tokens, output_tokens;
    uint64_t *ids; /* grown with kvs_raw_request_reserve; the reader's */
    int64_t ids_count, ids_capacity;
    int64_t moments_ns[KVS_MOMENTS];
} kvs_raw_request;

typedef struct kvs_request_format {
    const char *name, *summary, *source;
    int block_tokens; /* tokens an id covers; 0: the reader's option says */
    int has_header;   /* the first line names the columns */
    /* Whether the first line looks like this format. */
    int (*probe)(const char *line);
    /* The header line: where the columns are, kept in columns[8]. May be NULL when has_header is 0. */
    kvs_status (*header)(const char *line, int columns[8], const char **rule);
    /* One line, NUL-terminated, without its end. On failure *rule says which rule it breaks. */
    kvs_status (*line)(kvs_request_reader *reader, char *line, kvs_raw_request *request, const char **rule);
} kvs_request_format;

extern const kvs_request_format *const kvs_request_formats[]; /* ended by NULL */
const kvs_request_format *kvs_request_format_find(const char *name);

/* --- reading ----------------------------------------------------------------------------------------------------- */

typedef struct kvs_request_options {
    int skip_bad;     /* count and leave out bad lines rather than fail */
    int block_tokens; /* of formats that do not say; 0: 16 */
} kvs_request_options;

/* Opens a text trace; format NULL: guessed from its first line. */
KVS_MUST_CHECK kvs_status kvs_request_reader_open(const char *path, const kvs_request_format *format,
                                                  kvs_request_options options, kvs_request_reader **reader,
                                                  kvs_error *error);
void kvs_request_reader_close(kvs_request_reader *reader);
/* The next request; *end is 1 when there is none. block_ids stay valid until the next call. Errors name the line. */
KVS_MUST_CHECK kvs_status kvs_request_reader_next(kvs_request_reader *reader, kvs_request *request, int *end,
                                                  kvs_error *error);

typedef struct kvs_reader_facts {
    const kvs_request_format *format;
    int block_tokens; /* 0 while no request had ids */
    int has_moments;  /* all so far had them */
    int64_t unique_blocks, lines, skipped;
    char first_skip[256]; /* "line 7: rule" of the first line left out, or "" */
} kvs_reader_facts;
kvs_reader_facts kvs_request_reader_facts(const kvs_request_reader *reader);

/* --- for formats ------------------------------------------------------------------------------------------------- */

KVS_MUST_CHECK kvs_status kvs_raw_request_reserve(kvs_raw_request *request, int64_t ids, const char **rule);
int kvs_reader_block_tokens(const kvs_request_reader *reader);
int *kvs_reader_columns(kvs_request_reader *reader);
void kvs_reader_set_moments(kvs_request_reader *reader);

/* --- a whole trace in memory ------------------------------------------------------------------------------------- */

typedef struct kvs_requests {
    char format[32], source[256], sha256[65]; /* of the text it came from */
    int64_t count, skipped;
    char first_skip[256];
    int64_t *arrival_ns;
    int32_t *input_tokens, *output_tokens;
    int block_tokens;      /* 0: no ids */
    int64_t *block_start;  /* [count + 1] */
    uint32_t *block_ids;   /* [block_start[count]] */
    int64_t unique_blocks; /* ids are below this */
    int64_t *moments_ns;   /* [count][KVS_MOMENTS], or NULL */
    int64_t capacity, ids_capacity;
} kvs_requests;

/* Reads a text trace or a requests.h5; *requests is the caller's, freed with kvs_requests_clear. */
KVS_MUST_CHECK kvs_status kvs_requests_load(const char *path, const kvs_request_format *format,
                                            kvs_request_options options, kvs_requests *requests, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_requests_append(kvs_requests *requests, const kvs_request *request, int has_moments,
                                              kvs_error *error);
void kvs_requests_clear(kvs_requests *requests);
int64_t kvs_requests_total_input(const kvs_requests *requests);
int64_t kvs_requests_total_output(const kvs_requests *requests);

/* `count` synthetic requests (1 .. 10^8) of conversations that share prefixes; the same for the same seed. */
KVS_MUST_CHECK kvs_status kvs_requests_generate(int64_t count, uint64_t seed, kvs_requests *requests, kvs_error *error);

/* Whether path starts with the HDF5 signature and holds requests (not activations). */
int kvs_requests_is_h5(const char *path);
/* Whether it is an HDF5 file of whatever content, and no text. */
int kvs_requests_has_h5_signature(const char *path);
KVS_MUST_CHECK kvs_status kvs_requests_read_h5(const char *path, kvs_requests *requests, kvs_error *error);

/* --- writing requests.h5, a piece at a time ---------------------------------------------------------------------- */

typedef struct kvs_request_writer kvs_request_writer;
/* Writes to a temporary file beside path; _finish renames it, _abandon removes it. The path must outlive it. */
KVS_MUST_CHECK kvs_status kvs_request_writer_create(const char *path, kvs_request_writer **writer, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_request_writer_add(kvs_request_writer *writer, const kvs_request *request,
                                                 int has_moments, kvs_error *error);
/* facts, source and sha256 become attributes. */
KVS_MUST_CHECK kvs_status kvs_request_writer_finish(kvs_request_writer *writer, const kvs_reader_facts *facts,
                                                    const char *source, const char *sha256, kvs_error *error);
void kvs_request_writer_abandon(kvs_request_writer *writer);

#ifdef __cplusplus
}
#endif
#endif
