#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>

kvs_status kvs_fail(kvs_error *error, kvs_status status, const char *file, const char *object, const char *rule, ...) {
    if (error != NULL) {
        error->status = status;
        snprintf(error->file, sizeof error->file, "%s", file != NULL ? file : "");
        snprintf(error->object, sizeof error->object, "%s", object != NULL ? object : "");
        va_list arguments;
        va_start(arguments, rule);
        vsnprintf(error->rule, sizeof error->rule, rule, arguments);
        va_end(arguments);
    }
    return status;
}

void kvs_error_text(const kvs_error *error, char *text, unsigned long text_bytes) {
    snprintf(text, text_bytes, "%s%s%s%s%s", error->file, error->file[0] ? ": " : "", error->object,
             error->object[0] ? ": " : "", error->rule);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127) *c = '?'; /* a hostile name cannot forge lines or move the cursor */
}
