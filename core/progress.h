/* progress.h: done, total, rate and time left of long work, on a terminal only; and the user's wish to stop. */
#ifndef KVS_CORE_PROGRESS_H
#define KVS_CORE_PROGRESS_H

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_progress {
    const char *label, *unit; /* "replay", "heads" */
    double total, done;
    double started_s, shown_s;
    int visible;
} kvs_progress;

/* Shows nothing when quiet or when standard error is no terminal. */
void kvs_progress_begin(kvs_progress *progress, const char *label, const char *unit, double total, int quiet);
/* Adds to done; safe from several threads. */
void kvs_progress_add(kvs_progress *progress, double amount);
void kvs_progress_end(kvs_progress *progress);

/* Seconds of a clock that never runs backwards. */
double kvs_seconds(void);

/* From the first call on, SIGINT and SIGTERM only raise a flag: long work looks at it between units, keeps what is
 * finished and returns KVS_INTERRUPTED. A second signal ends the program at once. */
void kvs_interrupt_catch(void);
int kvs_interrupted(void);

#ifdef __cplusplus
}
#endif
#endif
