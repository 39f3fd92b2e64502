/* profile_html.c: a profile as one self-contained page. Nothing in it refers to anything outside of it. */
#include "sim/commands/profile_html.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"

void kvs_html_text(FILE *html, const char *text) {
    for (; text != NULL && *text != '\0'; text++) {
        const char *safe = *text == '&' ? "&amp;" : *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : NULL;
        if (safe == NULL && *text == '"') safe = "&quot;";
        if (safe != NULL)
            fputs(safe, html);
        else
            fputc((unsigned char)*text < 0x20 ? ' ' : *text, html);
    }
}

static const char style[] =
    "body{font:15px/1.45 system-ui,sans-serif;color:#222;background:#fff;max-width:1360px;margin:2em auto;padding:0 "
    "1em}\n"
    "h1{font-size:1.5em;margin:0}h2{font-size:1.15em;margin:2em 0 .5em;border-bottom:1px solid #ddd}\n"
    "p.about{color:#666;margin:.3em 0 1em}figure{margin:1.5em 0}svg{max-width:100%;height:auto}\n"
    "div.wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;font-size:12px;font-variant-numeric:tabular-nums}\n"
    "th,td{padding:2px 6px;text-align:right;border-bottom:1px solid #eee;white-space:nowrap}\n"
    "th{font-weight:600;border-bottom:1px solid #999}th.l,td.l{text-align:left}th.g{text-align:center}\n"
    "tr.measured td{color:#0050a0}td.bad{color:#b00020;font-weight:600}p.good{color:#00704a}p.bad{color:#b00020}\n"
    "summary{cursor:pointer;margin:.4em 0}code{font-size:12px}\n";

static const char *layout_of(const kvs_profile_launch *launch) {
    return launch->layout != NULL ? launch->layout : "every layout";
}

static void cell_text(FILE *html, const char *class, const char *text) {
    fprintf(html, "<td%s%s%s>", class != NULL ? " class=\"" : "", class != NULL ? class : "",
            class != NULL ? "\"" : "");
    kvs_html_text(html, text);
    fputs("</td>", html);
}

static void cell(FILE *html, int digits, double value) {
    if (isfinite(value))
        fprintf(html, "<td>%.*f</td>", digits, value);
    else
        fputs("<td>&ndash;</td>", html);
}

static double ratio(double a, double b) {
    return b > 0 ? a / b : NAN;
}

/* --- head ----------------------------------------------------------------------------------------------------------
 */

static void put_head(const kvs_profile *p, FILE *html) {
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width\">\n<title>kvscope profile</title>\n<style>\n",
          html);
    fputs(style, html);
    fputs("</style>\n</head>\n<body>\n<h1>How the kernels use memory</h1>\n<p class=\"about\">", html);
    kvs_html_text(html, p->input);
    if (p->sequences == 0)
        fputs(": kernels of another program, of one launch.<br>\n", html);
    else
        fprintf(
            html,
            ": %d sequences of %d sink tokens and %d pages of %d tokens; %d KV heads, %d query heads, head_dim %d.<br>"
            "Keys of %d bits, %d of %d channels of %d; values of %d; the last %d in full precision.<br>\n",
            p->sequences, p->sink_tokens, p->pages, p->page_tokens, p->kv_heads, p->query_heads, p->head_dim, p->bits,
            p->boost_channels, p->head_dim, p->boost_bits, p->value_bits, p->window_tokens);
    if (p->device != NULL) {
        fputs("Measured on ", html);
        kvs_html_text(html, p->device);
        fputs(" with ", html);
        kvs_html_text(html, p->counters);
        fprintf(html, " in %d passes, %s cache, L2 fetch granularity %d bytes.", p->passes,
                p->cache != NULL ? p->cache : "?", p->fetch_granularity_bytes);
    } else
        fputs("Predicted by the transaction model; nothing was measured.", html);
    fputs("</p>\n", html);
}

static void put_verdict(const kvs_profile *p, FILE *html) {
    int holds = 0, differs = 0;
    for (int i = 0; i < p->metrics_count; i++) {
        const char *verdict = p->metrics[i].verdict;
        holds += verdict != NULL && strcmp(verdict, "holds") == 0;
        differs += verdict != NULL && strcmp(verdict, "differs") == 0;
    }
    if (holds + differs == 0) return;
    fprintf(html, "<p class=\"%s\">%d of %d rules hold: equal requests and sectors, DRAM bytes within 5 %%.</p>\n",
            differs == 0 ? "good" : "bad", holds, holds + differs);
}

/* --- tables --------------------------------------------------------------------------------------------------------
 */

static void put_access(FILE *html, const double *c, kvs_counter requests, kvs_counter sectors, kvs_counter useful) {
    int none = !(c[requests] > 0);
    cell(html, 0, none ? NAN : c[requests]);
    cell(html, 0, none ? NAN : c[sectors]);
    cell(html, 2, ratio(c[sectors], c[requests]));
    cell(html, 1, ratio(c[useful], c[sectors]));
}

static void put_counts(FILE *html, const kvs_profile_launch *l, const char *whose, const double *c, double written) {
    fprintf(html, "<tr class=\"%s\">", whose);
    cell_text(html, "l", l->kernel);
    cell_text(html, "l", layout_of(l));
    cell_text(html, "l", whose);
    put_access(html, c, KVS_COUNTER_LOAD_REQUESTS, KVS_COUNTER_LOAD_SECTORS, KVS_COUNTER_LOAD_USEFUL_BYTES);
    put_access(html, c, KVS_COUNTER_COPY_REQUESTS, KVS_COUNTER_COPY_SECTORS, KVS_COUNTER_COPY_USEFUL_BYTES);
    put_access(html, c, KVS_COUNTER_STORE_REQUESTS, KVS_COUNTER_STORE_SECTORS, KVS_COUNTER_STORE_USEFUL_BYTES);
    cell(html, 0, c[KVS_COUNTER_SHARED_LOAD_CONFLICTS] + c[KVS_COUNTER_SHARED_STORE_CONFLICTS]);
    cell(html, 1, c[KVS_COUNTER_DRAM_READ_BYTES] / 1e3);
    cell(html, 1, written / 1e3);
    fputs("</tr>\n", html);
}

static void put_counts_table(const kvs_profile *p, FILE *html) {
    fputs("<h2>Requests, sectors, conflicts and DRAM bytes</h2>\n<div class=\"wide\"><table>\n<tr><th></th><th></th>"
          "<th></th><th class=\"g\" colspan=\"4\">loads</th><th class=\"g\" colspan=\"4\">asynchronous copies</th>"
          "<th class=\"g\" colspan=\"4\">stores</th><th>shared</th><th class=\"g\" colspan=\"2\">DRAM, KB</th></tr>\n"
          "<tr><th class=\"l\">kernel</th><th class=\"l\">layout</th><th></th>",
          html);
    for (int i = 0; i < 3; i++) fputs("<th>requests</th><th>sectors</th><th>/request</th><th>B/sector</th>", html);
    fputs("<th>conflicts</th><th>read</th><th>written</th></tr>\n", html);
    for (int i = 0; i < p->launches_count; i++) {
        const kvs_profile_launch *l = &p->launches[i];
        if (l->refused != NULL) continue;
        if (isfinite(l->predicted[KVS_COUNTER_LOAD_REQUESTS])) /* not those of another program */
            put_counts(html, l, l->recorded_blocks < l->blocks ? "sampled" : "predicted", l->predicted,
                       l->compulsory_written_bytes);
        if (isfinite(l->measured[KVS_COUNTER_LOAD_REQUESTS]))
            put_counts(html, l, "measured", l->measured,
                       l->measured[KVS_COUNTER_DRAM_WRITE_BYTES] + l->measured[KVS_COUNTER_DRAM_WRITE_BACK_BYTES]);
    }
    fputs("</table></div>\n<p class=\"about\">A request is a warp instruction, a sector has 32 bytes. B/sector: useful "
          "bytes of each. Predicted DRAM bytes are compulsory: each sector once.</p>\n",
          html);
}

static double measured_of(const kvs_profile *p, int launch, const char *metric) {
    const kvs_profile_metric *row = kvs_profile_find_metric(p, launch, metric);
    return row != NULL ? row->measured : NAN;
}

static void put_rates_table(const kvs_profile *p, FILE *html) {
    fputs("<h2>Time and use of the device</h2>\n<div class=\"wide\"><table>\n<tr><th class=\"l\">kernel</th>"
          "<th class=\"l\">layout</th><th>&micro;s</th><th>GB/s</th><th>of copy</th><th>L2 hits</th><th>occupancy</th>"
          "<th>threads of 32</th></tr>\n",
          html);
    for (int i = 0; i < p->launches_count; i++) {
        const kvs_profile_launch *l = &p->launches[i];
        if (l->refused != NULL) continue;
        fputs("<tr>", html);
        cell_text(html, "l", l->kernel);
        cell_text(html, "l", layout_of(l));
        cell(html, 1, 1e6 * l->seconds);
        cell(html, 0, measured_of(p, i, "bandwidth") / 1e9);
        cell(html, 2, measured_of(p, i, "fraction_of_copy"));
        cell(html, 2, l->measured[KVS_COUNTER_L2_HIT_RATE]);
        cell(html, 2, l->measured[KVS_COUNTER_OCCUPANCY]);
        cell(html, 1, l->measured[KVS_COUNTER_THREADS_PER_INSTRUCTION]);
        fputs("</tr>\n", html);
    }
    fputs("</table></div>\n<p class=\"about\">Times are medians of unprofiled runs; GB/s: DRAM bytes read and written "
          "over that time.</p>\n",
          html);
}

static void put_differences(const kvs_profile *p, FILE *html) {
    fputs(
        "<h2>Predicted | measured, where they differ</h2>\n<div class=\"wide\"><table>\n<tr><th class=\"l\">kernel</th>"
        "<th class=\"l\">layout</th><th class=\"l\">metric</th><th>predicted</th><th>measured</th><th>difference</th>"
        "<th class=\"l\">rule</th></tr>\n",
        html);
    for (int i = 0; i < p->metrics_count; i++) {
        const kvs_profile_metric *m = &p->metrics[i];
        if (!(fabs(m->difference) > 0)) continue;
        int bad = m->verdict != NULL && strcmp(m->verdict, "differs") == 0;
        fputs("<tr>", html);
        cell_text(html, "l", p->launches[m->launch].kernel);
        cell_text(html, "l", layout_of(&p->launches[m->launch]));
        cell_text(html, "l", m->metric);
        fprintf(html, "<td>%.6g</td><td>%.6g</td><td%s>%+.6g</td>", m->predicted, m->measured,
                bad ? " class=\"bad\"" : "", m->difference);
        cell_text(html, bad ? "l bad" : "l", m->rule);
        fputs("</tr>\n", html);
    }
    fputs("</table></div>\n", html);
}

/* One folded table a launch. */
static void put_lines(const kvs_profile *p, FILE *html) {
    int before = -1;
    fputs("<h2>By source line, predicted</h2>\n", html);
    for (int i = 0; i < p->lines_count; i++) {
        const kvs_profile_line *line = &p->lines[i];
        const kvs_profile_launch *l = &p->launches[line->launch];
        if (line->launch != before) {
            fputs(before >= 0 ? "</table></div></details>\n<details><summary>" : "<details><summary>", html);
            kvs_html_text(html, l->kernel);
            fputs(", ", html);
            kvs_html_text(html, layout_of(l));
            fprintf(html, " (%lld of %lld blocks)", (long long)l->recorded_blocks, (long long)l->blocks);
            fputs(
                "</summary><div class=\"wide\"><table>\n<tr><th class=\"l\">source line</th><th class=\"l\">instruction"
                "</th><th>bytes a lane</th><th>requests</th><th>sectors</th><th>/request</th><th>B/sector</th>"
                "<th>wavefronts</th><th>conflicts</th></tr>\n",
                html);
        }
        before = line->launch;
        fputs("<tr><td class=\"l\"><code>", html);
        kvs_html_text(html, line->file);
        fprintf(html, ":%d</code></td>", line->line);
        cell_text(html, "l", line->instruction);
        cell(html, 0, line->width);
        cell(html, 0, (double)line->requests);
        cell(html, 0, line->sectors > 0 ? (double)line->sectors : NAN);
        cell(html, 2, line->sectors > 0 ? ratio((double)line->sectors, (double)line->requests) : NAN);
        cell(html, 1, ratio((double)line->useful_bytes, (double)line->sectors));
        cell(html, 0, line->wavefronts > 0 ? (double)line->wavefronts : NAN);
        cell(html, 0, line->wavefronts > 0 ? (double)line->conflicts : NAN);
        fputs("</tr>\n", html);
    }
    if (before >= 0) fputs("</table></div></details>\n", html);
}

static void put_end(const kvs_profile *p, FILE *html) {
    if (p->notes_count > 0) fputs("<h2>Notes</h2>\n<ul>\n", html);
    for (int i = 0; i < p->notes_count; i++) {
        fputs("<li>", html);
        kvs_html_text(html, p->notes[i].text);
        fputs("</li>\n", html);
    }
    if (p->notes_count > 0) fputs("</ul>\n", html);
    for (int i = 0; i < p->launches_count; i++)
        if (p->launches[i].refused != NULL) {
            fputs(i == 0 || p->launches[i - 1].refused == NULL ? "<p class=\"about\">Does not run: " : "; ", html);
            kvs_html_text(html, p->launches[i].kernel);
            fputs(" on ", html);
            kvs_html_text(html, layout_of(&p->launches[i]));
            if (i + 1 == p->launches_count || p->launches[i + 1].refused == NULL) fputs(".</p>\n", html);
        }
    fputs("<h2>How this page was made</h2>\n<p class=\"about\"><code>", html);
    kvs_html_text(html, p->command_line);
    fputs("</code><br>kvscope ", html);
    kvs_html_text(html, p->version);
    fputs(", kernels ", html);
    kvs_html_text(html, p->kernel_sources);
    fputs("</p>\n</body>\n</html>\n", html);
}

kvs_status kvs_profile_write_html(const kvs_profile *profile, const char *path, kvs_error *error) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *html = open_memstream(&text, &bytes);
    if (html == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    put_head(profile, html);
    put_verdict(profile, html);
    kvs_status status = kvs_profile_html_pictures(profile, html, error);
    put_counts_table(profile, html);
    if (profile->device != NULL) {
        put_rates_table(profile, html);
        put_differences(profile, html);
    }
    put_lines(profile, html);
    put_end(profile, html);
    int failed = ferror(html);
    failed |= fclose(html) != 0;
    if (status == KVS_OK && failed) status = kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    if (status == KVS_OK) status = kvs_write_text(path, text, error);
    free(text);
    return status;
}
