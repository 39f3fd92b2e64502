/* profile_html.h: a profile as one self-contained page, to be mailed: tables, and pictures as SVG inside it. */
#ifndef KVS_SIM_COMMANDS_PROFILE_HTML_H
#define KVS_SIM_COMMANDS_PROFILE_HTML_H

#include <stdio.h>

#include "analysis/profile.h"

/* Writes the page, whole or not at all. Fails with KVS_DEVICE where gnuplot is missing or fails, with KVS_INPUT when
 * the page cannot be written. */
KVS_MUST_CHECK kvs_status kvs_profile_write_html(const kvs_profile *profile, const char *path, kvs_error *error);

/* Text with what HTML means something by made harmless. */
void kvs_html_text(FILE *html, const char *text);

/* Every plot of the profile that it has the numbers for, as <figure> elements. */
KVS_MUST_CHECK kvs_status kvs_profile_html_pictures(const kvs_profile *profile, FILE *html, kvs_error *error);

#endif
