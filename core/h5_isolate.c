#include "core/h5_isolate.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Bounds of the child, for a small file; both grow with its size. */
enum { BASE_MEMORY = 1 << 30, BASE_SECONDS = 2, BYTES_PER_SECOND = 20 << 20 };

#if defined __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1 /* as gcc says it */
#endif
#endif

static void bound(int resource, rlim_t most) {
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0) return;
    if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > most) limit.rlim_cur = most;
    setrlimit(resource, &limit);
}

#ifdef __SANITIZE_ADDRESS__
/* A child made while another thread was inside the sanitizer's allocator inherits its lock held and spins on it until
 * its time is up, whatever the file. Whether that was so cannot be told from a file that HDF5 loops on, so a look that
 * does not finish is repeated once. glibc's own allocator is made usable by fork. */
enum { LOOKS = 2 };

static void bound_memory(off_t file_bytes) {
    (void)file_bytes; /* no bound fits the shadow memory */
}
#else
enum { LOOKS = 1 };

/* The address space that the process has now, in bytes. */
static rlim_t address_space(void) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL) return RLIM_INFINITY / 4;
    if (fscanf(file, "%lu", &pages) != 1) pages = 0;
    fclose(file);
    return pages > 0 ? (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) : RLIM_INFINITY / 4;
}

static void bound_memory(off_t file_bytes) {
    bound(RLIMIT_AS, address_space() + BASE_MEMORY + 2 * (rlim_t)file_bytes);
}
#endif

static const int deadly[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGALRM, SIGXCPU};

static void run_child(const char *path, kvs_h5_look look, off_t file_bytes, int answer) {
    kvs_error error = {.status = KVS_OK};
    rlim_t seconds = BASE_SECONDS + (rlim_t)file_bytes / BYTES_PER_SECOND;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* it does not outlive its purpose */
    bound(RLIMIT_CORE, 0);
    bound(RLIMIT_CPU, seconds);
    bound_memory(file_bytes);
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++)
        signal(deadly[i], SIG_DFL);  /* no handler of the host's */
    alarm((unsigned)(30 * seconds)); /* a lock that another thread held when we were made */
    int quiet = open("/dev/null", O_WRONLY);
    if (quiet >= 0) dup2(quiet, STDERR_FILENO); /* what libraries say when they die */
    error.status = look(path, &error);
    ssize_t written = write(answer, &error, sizeof error);
    _exit(written == (ssize_t)sizeof error ? 0 : 1);
}

/* Reads the child's answer; returns whether it is whole. */
static int read_answer(int from, kvs_error *answer) {
    size_t used = 0;
    while (used < sizeof *answer) {
        ssize_t got = read(from, (char *)answer + used, sizeof *answer - used);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        used += (size_t)got;
    }
    return used == sizeof *answer;
}

/* One look; *unfinished says whether the child ran out of time. */
static kvs_status look_once(const char *path, kvs_h5_look look, int *unfinished, kvs_error *error) {
    struct stat info = {.st_size = 0};
    int ends[2], ended = 0;
    kvs_error answer;
    *unfinished = 0;
    if (stat(path, &info) != 0 && errno != ENOENT)
        return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be opened: %s", strerror(errno));
    if (pipe(ends) != 0) return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be opened: %s", strerror(errno));
    kvs_h5_lock(); /* so that the child does not inherit it held by another thread */
    pid_t child = fork();
    kvs_h5_unlock();
    if (child == 0) {
        close(ends[0]);
        run_child(path, look, info.st_size, ends[1]);
    }
    close(ends[1]);
    int whole = child > 0 && read_answer(ends[0], &answer);
    close(ends[0]);
    if (child < 0) return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be opened: no process: %s", strerror(errno));
    while (waitpid(child, &ended, 0) < 0 && errno == EINTR) continue;
    if (whole && WIFEXITED(ended) && WEXITSTATUS(ended) == 0) {
        if (answer.status != KVS_OK && error != NULL) *error = answer;
        return answer.status;
    }
    int number = WIFSIGNALED(ended) ? WTERMSIG(ended) : 0;
    *unfinished = number == SIGXCPU || number == SIGALRM || number == SIGKILL;
    return kvs_fail(error, KVS_INPUT, path, NULL, "is a damaged HDF5 file: HDF5 %s on it",
                    *unfinished ? "does not finish" : "crashes");
}

kvs_status kvs_h5_isolated(const char *path, kvs_h5_look look, kvs_error *error) {
    int unfinished = 1;
    kvs_status status = KVS_INPUT;
    for (int i = 0; i < LOOKS && unfinished; i++) status = look_once(path, look, &unfinished, error);
    return status;
}
