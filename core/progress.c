#include "core/progress.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

double kvs_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void kvs_progress_begin(kvs_progress *p, const char *label, const char *unit, double total, int quiet) {
    *p = (kvs_progress){.label = label, .unit = unit, .total = total, .started_s = kvs_seconds()};
    p->visible = !quiet && isatty(STDERR_FILENO);
}

static void show(const kvs_progress *p, double now) {
    double elapsed = now - p->started_s;
    double rate = elapsed > 0 ? p->done / elapsed : 0;
    double left = rate > 0 ? (p->total - p->done) / rate : 0;
    fprintf(stderr, "\r\033[K%s: %.0f/%.0f %s, %.3g/s, %.0f s left", p->label, p->done, p->total, p->unit, rate, left);
}

void kvs_progress_add(kvs_progress *p, double amount) {
#pragma omp critical(kvs_progress)
    {
        p->done += amount;
        double now = p->visible ? kvs_seconds() : 0;
        if (p->visible && now - p->shown_s > 0.2) {
            show(p, now);
            p->shown_s = now;
        }
    }
}

void kvs_progress_end(kvs_progress *p) {
    if (p->visible && p->shown_s > 0) fprintf(stderr, "\r\033[K");
}

static volatile sig_atomic_t stop;

static void on_signal(int number) {
    stop = 1;
    signal(number, SIG_DFL);
}

void kvs_interrupt_catch(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int kvs_interrupted(void) {
    return stop;
}
