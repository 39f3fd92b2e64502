/* profile_html_pictures.c: the plots of a profile, drawn by gnuplot in a folder of their own and put into the page. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plots/plot.h"
#include "sim/commands/profile_html.h"

/* An SVG without its XML head. Names in it get a prefix, since all pictures of a page share one space of names and
 * gnuplot gives them the same. */
static void put_svg(const char *svg, const char *prefix, FILE *html) {
    static const char *const marks[] = {" id=\"", " id='", "href='#", "href=\"#", "url(#"};
    const char *at = strstr(svg, "<svg");
    while (at != NULL && *at != '\0') {
        size_t length = 0;
        for (size_t i = 0; i < sizeof marks / sizeof *marks && length == 0; i++)
            if (strncmp(at, marks[i], strlen(marks[i])) == 0) length = strlen(marks[i]);
        if (length > 0) {
            fwrite(at, 1, length, html);
            fprintf(html, "%s-", prefix);
            at += length;
        } else {
            fputc(*at++, html);
        }
    }
}

static kvs_status read_file(const char *path, char **text, kvs_error *error) {
    FILE *file = fopen(path, "rb");
    long bytes = file != NULL && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    int good = bytes >= 0 && fseek(file, 0, SEEK_SET) == 0 && (*text = malloc((size_t)bytes + 1)) != NULL;
    if (good) {
        good = fread(*text, 1, (size_t)bytes, file) == (size_t)bytes;
        (*text)[good ? bytes : 0] = '\0';
        if (!good) free(*text);
    }
    if (file != NULL) fclose(file);
    return good ? KVS_OK : kvs_fail(error, KVS_INPUT, path, NULL, "cannot be read: %s", strerror(errno));
}

static kvs_status draw(const kvs_plot_type *type, const kvs_figure *figure, const char *folder, FILE *html,
                       kvs_error *error) {
    char path[4200], *svg = NULL;
    KVS_TRY(kvs_figure_write(figure, folder, error));
    KVS_TRY(kvs_figure_draw(figure, folder, error));
    snprintf(path, sizeof path, "%s/%s.svg", folder, figure->name);
    KVS_TRY(read_file(path, &svg, error));
    fputs("<figure>\n", html);
    put_svg(svg, type->name, html);
    fputs("</figure>\n", html);
    free(svg);
    return KVS_OK;
}

static void remove_files(const char *folder) {
    static const char *const suffixes[] = {"csv", "gp", "svg", "png"};
    for (int i = 0; kvs_profile_plot_types[i] != NULL; i++)
        for (int s = 0; s < 4; s++) {
            char path[4200];
            snprintf(path, sizeof path, "%s/%s.%s", folder, kvs_profile_plot_types[i]->name, suffixes[s]);
            unlink(path);
        }
    rmdir(folder);
}

kvs_status kvs_profile_html_pictures(const kvs_profile *profile, FILE *html, kvs_error *error) {
    const char *temporary = getenv("TMPDIR");
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/kvscope_XXXXXX",
             temporary != NULL && temporary[0] != '\0' ? temporary : "/tmp");
    if (mkdtemp(folder) == NULL)
        return kvs_fail(error, KVS_INPUT, folder, NULL, "no folder for the pictures: %s", strerror(errno));
    kvs_status status = KVS_OK;
    for (int i = 0; kvs_profile_plot_types[i] != NULL && status == KVS_OK; i++) {
        kvs_figure figure;
        const kvs_plot_type *type = kvs_profile_plot_types[i];
        if (type->applies_to_profile != NULL && !type->applies_to_profile(profile)) continue;
        status = kvs_figure_compose_profile(type, profile, NULL, &figure, error);
        if (status == KVS_OK) status = draw(type, &figure, folder, html, error);
        kvs_figure_clear(&figure);
    }
    remove_files(folder);
    return status;
}
