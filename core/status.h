/* status.h: how a function says that it failed.
 *
 * A function that can fail returns kvs_status and fills a kvs_error. Nothing below the command line prints or
 * exits; sim/main.c prints the error as one line, "kvscope: FILE: OBJECT: RULE", and exits with the status. */
#ifndef KVS_CORE_STATUS_H
#define KVS_CORE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* The values are the program's exit statuses. */
typedef enum kvs_status {
    KVS_OK = 0,
    KVS_CHECK = 1,  /* a check that the caller asked for did not hold */
    KVS_USAGE = 2,  /* an argument, option, scheme or parameter is wrong */
    KVS_INPUT = 3,  /* a file cannot be read or written, or breaks a rule of its format; memory does not suffice */
    KVS_DEVICE = 4, /* a device, driver or program that is needed is missing or failed */
    KVS_INTERRUPTED = 130, /* the user stopped it (128 + SIGINT); what was finished is kept */
} kvs_status;

typedef struct kvs_error {
    kvs_status status;
    char file[256];   /* what failed: a file, an option, a scheme; "" if nothing can be named */
    char object[160]; /* where inside it: a dataset, an attribute, a parameter, a line; may be "" */
    char rule[320];   /* which rule it breaks, in words, with the offending value */
} kvs_error;

#if defined(__GNUC__)
#define KVS_MUST_CHECK          __attribute__((warn_unused_result))
#define KVS_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define KVS_MUST_CHECK
#define KVS_PRINTF(text, first)
#endif

/* Fills *error (which may be NULL) and returns status. file and object may be NULL, meaning "". Long texts are cut. */
kvs_status kvs_fail(kvs_error *error, kvs_status status, const char *file, const char *object, const char *rule, ...)
    KVS_PRINTF(5, 6);

/* Writes "FILE: OBJECT: RULE" (empty parts left out), control characters replaced, always one line and terminated. */
void kvs_error_text(const kvs_error *error, char *text, unsigned long text_bytes);

/* Forwards a failure to the caller. */
#define KVS_TRY(expression)                                                                                            \
    do {                                                                                                               \
        kvs_status kvs_try_status = (expression);                                                                      \
        if (kvs_try_status != KVS_OK) return kvs_try_status;                                                           \
    } while (0)

/* Leaves for a cleanup label; the enclosing function has a variable `status`. */
#define KVS_TRY_OR(expression, label)                                                                                  \
    do {                                                                                                               \
        status = (expression);                                                                                         \
        if (status != KVS_OK) goto label;                                                                              \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
