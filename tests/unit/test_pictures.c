/* test_pictures.c: does gnuplot draw what it should, the same every time, and nothing that a file tells it to do? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "plots/plot.h"
#include "tests/unit/plot_results.h"

static char folder[] = "/tmp/kvs_pictures_XXXXXX";

static char *read_file(const char *name, const char *suffix, size_t *bytes) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s%s", folder, name, suffix);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *text = malloc(1 << 23);
    assert_non_null(text);
    *bytes = fread(text, 1, (1 << 23) - 1, file);
    text[*bytes] = '\0';
    fclose(file);
    return text;
}

static int have_gnuplot(void) {
    return access("/usr/bin/gnuplot", X_OK) == 0 || access("/usr/local/bin/gnuplot", X_OK) == 0;
}

/* One layer, one head, one scheme, two channels: nothing to compare, and still pictures. */
static void smallest_results_are_drawn(void **state) {
    (void)state;
    if (!have_gnuplot()) skip();
    kvs_results results = example_results();
    example_closed_loop(&results);
    kvs_trace_summary *trace = &results.traces[0];
    trace->layers = trace->kv_heads = 1;
    trace->head_dim = 2;
    results.traces_count = results.results_count = 1;
    results.results[0].heads_count = 1;
    results.results[0].heads[0].errors.attention_output_rel_l2.mean = 1e-4;
    results.results[0].memory_count = 2;
    for (int i = 0; kvs_plot_types[i] != NULL; i++) {
        kvs_figure figure;
        kvs_error error = {0};
        assert_int_equal(compose(kvs_plot_types[i], &results, "", &figure, &error), KVS_OK);
        assert_int_equal(kvs_figure_write(&figure, folder, &error), KVS_OK);
        kvs_status status = kvs_figure_draw(&figure, folder, &error);
        assert_string_equal(error.rule, "");
        assert_int_equal(status, KVS_OK);
        kvs_figure_clear(&figure);
    }
    results.traces_count = EXAMPLE_TRACES;
    results.results_count = EXAMPLE_TRACES * EXAMPLE_SCHEMES;
    kvs_results_clear(&results);
}

/* What an XML reader makes of the SVG's text, for the characters that gnuplot escapes. */
static int svg_shows(const char *svg, const char *text) {
    char expected[512] = "";
    for (; *text != '\0'; text++) {
        size_t used = strlen(expected);
        const char *escaped = *text == '&' ? "&amp;" : *text == '<' ? "&lt;" : *text == '\'' ? "\xe2\x80\x99" : NULL;
        if (escaped != NULL)
            snprintf(expected + used, sizeof expected - used, "%s", escaped);
        else
            snprintf(expected + used, sizeof expected - used, "%c", *text);
    }
    return strstr(svg, expected) != NULL;
}

static void hostile_names_are_only_shown(void **state) {
    (void)state;
    static const char *const names[] = {
        "'; system(\"touch x\"); set label '",
        "`touch x` @m ${y} \"q\"",
        "a_b^c {/=40 d} & <e> %s #",
        "\\",
        "\\'\n!touch x\n",
    };
    if (!have_gnuplot()) skip();
    kvs_results results = example_results();
    example_closed_loop(&results);
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        free(results.traces[0].model_name);
        free(results.results[1].scheme);
        results.traces[0].model_name = strdup(names[n]);
        results.results[1].scheme = strdup(names[n]);
        for (int i = 0; kvs_plot_types[i] != NULL; i++) {
            kvs_figure figure;
            kvs_error error = {0};
            assert_int_equal(compose(kvs_plot_types[i], &results, "", &figure, &error), KVS_OK);
            assert_int_equal(kvs_figure_write(&figure, folder, &error), KVS_OK);
            kvs_status status = kvs_figure_draw(&figure, folder, &error);
            assert_string_equal(error.rule, "");
            assert_int_equal(status, KVS_OK);
            size_t bytes;
            char *svg = read_file(kvs_plot_types[i]->name, ".svg", &bytes);
            if (n < 4 && kvs_plot_types[i] == kvs_plot_type_find("channels")) assert_true(svg_shows(svg, names[n]));
            free(svg);
            kvs_figure_clear(&figure);
        }
        char made[200];
        snprintf(made, sizeof made, "%s/x", folder);
        assert_int_equal(access(made, F_OK), -1);
        assert_int_equal(access("x", F_OK), -1);
    }
    kvs_results_clear(&results);
}

/* --- pictures ----------------------------------------------------------------------------------------------------- */

static void pictures_are_the_same_every_time(void **state) {
    (void)state;
    if (!have_gnuplot()) skip();
    kvs_results results = example_results();
    example_closed_loop(&results);
    for (int i = 0; kvs_plot_types[i] != NULL; i++) {
        const char *name = kvs_plot_types[i]->name;
        char *svg[2], *png;
        size_t bytes[2], png_bytes;
        for (int run = 0; run < 2; run++) {
            kvs_figure figure;
            kvs_error error = {0};
            assert_int_equal(compose(kvs_plot_types[i], &results, "", &figure, &error), KVS_OK);
            assert_int_equal(kvs_figure_write(&figure, folder, &error), KVS_OK);
            assert_null(strstr(figure.gp_text, folder)); /* relative paths only: the folder may move */
            assert_int_equal(kvs_figure_draw(&figure, folder, &error), KVS_OK);
            kvs_figure_clear(&figure);
            svg[run] = read_file(name, ".svg", &bytes[run]);
        }
        assert_true(bytes[0] > 5000 && bytes[0] == bytes[1]);
        assert_memory_equal(svg[0], svg[1], bytes[0]);
        png = read_file(name, ".png", &png_bytes);
        assert_true(png_bytes > 5000);
        assert_memory_equal(png, "\x89PNG", 4);
        assert_int_equal((unsigned char)png[18] * 256 + (unsigned char)png[19], 1600); /* twice the SVG's 800 */
        free(svg[0]);
        free(svg[1]);
        free(png);
    }
    kvs_results_clear(&results);
}

/* The colours of the cells of a heat map, in the order of the .csv. */
static int cell_colors(const char *svg, int colors[][3], int most) {
    int count = 0;
    for (const char *plot = svg; (plot = strstr(plot, "id=\"gnuplot_plot_")) != NULL; plot++) {
        const char *end = strstr(plot, "</g>"), *cell = plot;
        while ((cell = strstr(cell, "<polygon fill = 'rgb(")) != NULL && cell < end && count < most) {
            int *rgb = colors[count++];
            assert_int_equal(sscanf(cell, "<polygon fill = 'rgb(%d, %d, %d)'", &rgb[0], &rgb[1], &rgb[2]), 3);
            cell++;
        }
    }
    return count;
}

/* One scale for all panels, logarithmic: the geometric mean of its ends has the colour halfway along viridis. */
static void a_value_has_one_color(void **state) {
    (void)state;
    if (!have_gnuplot()) skip();
    kvs_results results = example_results();
    kvs_trace_summary *trace = &results.traces[0];
    trace->layers = 1;
    trace->kv_heads = 3;
    results.results_count = 3; /* fp16, which is left out, and two more */
    const double values[] = {1e-3, 1e-1, 1e-2};
    results.results[0].heads_count = 0;
    for (int i = 1; i < 3; i++) {
        results.results[i].heads_count = 3;
        for (int h = 0; h < 3; h++) {
            results.results[i].heads[h] = (kvs_head_result){.layer = 0, .head = h};
            results.results[i].heads[h].errors.attention_output_rel_l2.mean = values[i == 1 ? h : 2 - h];
        }
    }
    kvs_figure figure;
    kvs_error error = {0};
    assert_int_equal(compose(kvs_plot_type_find("heads"), &results, "", &figure, &error), KVS_OK);
    assert_int_equal(kvs_figure_write(&figure, folder, &error), KVS_OK);
    assert_int_equal(kvs_figure_draw(&figure, folder, &error), KVS_OK);
    size_t bytes;
    char *svg = read_file("heads", ".svg", &bytes);
    int colors[8][3];
    const int expected[3][3] = {{0x44, 0x01, 0x54}, {0xfd, 0xe7, 0x25}, {0x22, 0x90, 0x8b}};
    assert_int_equal(cell_colors(svg, colors, 8), 6);
    for (int cell = 0; cell < 6; cell++)
        for (int part = 0; part < 3; part++)
            assert_in_range(colors[cell][part] + 8 - expected[cell < 3 ? cell : 5 - cell][part], 0, 16);
    free(svg);
    kvs_figure_clear(&figure);
    results.results_count = EXAMPLE_TRACES * EXAMPLE_SCHEMES;
    kvs_results_clear(&results);
}

/* --- gnuplot missing or failing ----------------------------------------------------------------------------------- */

static void write_program(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, 0755), 0);
}

static void gnuplot_missing_or_failing_is_said(void **state) {
    (void)state;
    kvs_results results = example_results();
    kvs_figure figure;
    kvs_error error = {0};
    char path[300], *before = strdup(getenv("PATH"));
    assert_int_equal(compose(kvs_plot_type_find("heads"), &results, "", &figure, &error), KVS_OK);
    assert_int_equal(kvs_figure_write(&figure, folder, &error), KVS_OK);
    setenv("PATH", folder, 1);
    assert_int_equal(kvs_figure_draw(&figure, folder, &error), KVS_DEVICE);
    assert_non_null(strstr(error.rule, "not installed"));
    size_t bytes;
    free(read_file("heads", ".csv", &bytes));
    free(read_file("heads", ".gp", &bytes));

    snprintf(path, sizeof path, "%s/gnuplot", folder);
    write_program(path,
                  "#!/bin/sh\necho >&2\necho 'set bogus' >&2\necho '\"heads.gp\" line 3: no such thing' >&2\nexit 1\n");
    assert_int_equal(kvs_figure_draw(&figure, folder, &error), KVS_DEVICE);
    assert_string_equal(error.rule, "gnuplot failed: \"heads.gp\" line 3: no such thing");
    write_program(path, "#!/bin/sh\nexit 0\n");
    assert_int_equal(kvs_figure_draw(&figure, folder, &error), KVS_DEVICE);
    assert_non_null(strstr(error.rule, "did not write it"));
    write_program(path, "#!/bin/sh\nwhile :; do echo much >&2; i=x$i; [ ${#i} -gt 20000 ] && exit 1; done\n");
    assert_int_equal(kvs_figure_draw(&figure, folder, &error), KVS_DEVICE);
    unlink(path);
    setenv("PATH", before, 1);
    free(before);

    snprintf(path, sizeof path, "%s/heads.svg", folder);
    unlink(path);
    assert_int_equal(mkdir(path, 0777), 0);
    assert_int_equal(kvs_figure_write(&figure, folder, &error), KVS_INPUT);
    assert_string_equal(error.file, path);
    rmdir(path);
    kvs_figure_clear(&figure);
    kvs_results_clear(&results);
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state) {
    (void)state;
    static const char *const suffixes[] = {"csv", "gp", "svg", "png"};
    char path[200];
    for (int i = 0; kvs_plot_types[i] != NULL; i++)
        for (int s = 0; s < 4; s++) {
            snprintf(path, sizeof path, "%s/%s.%s", folder, kvs_plot_types[i]->name, suffixes[s]);
            unlink(path);
        }
    return rmdir(folder); /* also: nothing else was left there */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smallest_results_are_drawn),         cmocka_unit_test(hostile_names_are_only_shown),
        cmocka_unit_test(pictures_are_the_same_every_time),   cmocka_unit_test(a_value_has_one_color),
        cmocka_unit_test(gnuplot_missing_or_failing_is_said),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
