/* test_profile.c: does the model predict what an H200 counted of every kernel and layout? The measured files were made
 * by tools/profile_golden.sh; what they do not have to agree in is listed below. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/profile.h"

static kvs_error error;

static const char *const golden[] = {
    "tests/golden/profile-h200-d128.json",
    "tests/golden/profile-h200-d64.json",
    "tests/golden/profile-h200-qwen3.json",
    "tests/golden/profile-h200-large.json",
};
enum { GOLDEN = sizeof golden / sizeof *golden, MAX_NAMES = 32 };

/* Whether the prediction of this row is another than when it was measured, because the kernels are others. */
static int has_changed(const kvs_profile *now, const kvs_profile *from, const kvs_profile_metric *m) {
    if (from == NULL || strcmp(from->kernel_sources, now->kernel_sources) == 0) return 0;
    for (int i = 0; i < from->launches_count; i++) {
        const kvs_profile_launch *a = &from->launches[i], *b = &now->launches[m->launch];
        if (strcmp(a->kernel, b->kernel) != 0 || (a->layout == NULL) != (b->layout == NULL)) continue;
        if (a->layout != NULL && strcmp(a->layout, b->layout) != 0) continue;
        const kvs_profile_metric *before = kvs_profile_find_metric(from, i, m->metric);
        return before == NULL || before->predicted != m->predicted;
    }
    return 1;
}

/* Every rule holds, but for those that can only be judged by measuring again. Returns how many hold. */
static int check(const kvs_profile *p, const kvs_profile *from, const char *path) {
    int checked = 0, changed = 0;
    for (int i = 0; i < p->metrics_count; i++) {
        const kvs_profile_metric *m = &p->metrics[i];
        const kvs_profile_launch *l = &p->launches[m->launch];
        if (m->verdict == NULL) continue;
        if (has_changed(p, from, m)) {
            changed++;
            continue;
        }
        checked++;
        if (strcmp(m->verdict, "holds") != 0)
            fail_msg("%s: %s, %s: %s: %.0f predicted, %.0f measured", path, l->kernel,
                     l->layout != NULL ? l->layout : "every layout", m->metric, m->predicted, m->measured);
    }
    if (changed > 0)
        print_message("# %s: kernels have changed in %d counts since; tools/profile_golden.sh measures again\n", path,
                      changed);
    return checked;
}

/* Every kernel of the registry was measured with some layout, each with counts above 0. */
static void check_coverage(const kvs_profile *p, const char *path) {
    for (int k = 0; kvs_workload_kernels[k] != NULL; k++) {
        int measured = 0;
        for (int i = 0; i < p->launches_count; i++) {
            const kvs_profile_launch *l = &p->launches[i];
            double requests = l->measured[KVS_COUNTER_LOAD_REQUESTS] + l->measured[KVS_COUNTER_COPY_REQUESTS];
            if (strcmp(l->kernel, kvs_workload_kernels[k]->name) != 0 || l->refused != NULL) continue;
            measured += requests > 0 && l->measured[KVS_COUNTER_STORE_SECTORS] > 0 && l->seconds > 0;
        }
        if (measured == 0) fail_msg("%s holds no measurement of %s", path, kvs_workload_kernels[k]->name);
    }
}

static void read_golden(const char *path, kvs_profile *p) {
    if (kvs_profile_read_json(path, p, &error) != KVS_OK) fail_msg("%s: %s: %s", error.file, error.object, error.rule);
}

/* What was predicted where it was measured. */
static void test_as_recorded(void **state) {
    (void)state;
    for (int i = 0; i < GOLDEN; i++) {
        kvs_profile p;
        read_golden(golden[i], &p);
        check_coverage(&p, golden[i]);
        print_message("# %s: %s, %d rules\n", golden[i], p.device, check(&p, NULL, golden[i]));
        kvs_profile_clear(&p);
    }
}

/* What is predicted now. Of the large one, only of kernels that read no packed pages: packing them takes long. */
static void test_as_predicted_now(void **state) {
    (void)state;
    const kvs_workload_kernel *kernels[MAX_NAMES + 1] = {NULL};
    const kvs_layout *layouts[MAX_NAMES + 1] = {NULL};
    for (int i = 0, count = 0; kvs_layouts[i] != NULL; i++)
        if (kvs_layouts[i]->arrange != NULL && count < MAX_NAMES) layouts[count++] = kvs_layouts[i];
    for (int i = 0; i < GOLDEN; i++) {
        int large = strstr(golden[i], "large") != NULL, count = 0;
        kvs_profile from, now;
        for (int k = 0; kvs_workload_kernels[k] != NULL && count < MAX_NAMES; k++)
            if (!large || strcmp(kvs_workload_kernels[k]->name, "copy") == 0 ||
                strncmp(kvs_workload_kernels[k]->name, "quantize", 8) == 0)
                kernels[count++] = kvs_workload_kernels[k];
        kernels[count] = NULL;
        kvs_profile_request request = {.kernels = kernels, .layouts = layouts, .input = kvs_profile_input, .quiet = 1};
        read_golden(golden[i], &from);
        kvs_status status = kvs_profile_compare(&request, &from, golden[i], &now, &error);
        int others = strcmp(from.kernel_sources, kvs_profile_kernel_sources()) != 0;
        if (status == KVS_CHECK && others) /* another grid */
            print_message("# %s: %s: %s\n", error.file, error.object, error.rule);
        else if (status != KVS_OK)
            fail_msg("%s: %s: %s", error.file, error.object, error.rule);
        else
            assert_true(check(&now, &from, golden[i]) > (large ? 15 : 30));
        kvs_profile_clear(&now);
        kvs_profile_clear(&from);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_recorded),
        cmocka_unit_test(test_as_predicted_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
