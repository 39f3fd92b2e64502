#include "sim/commands/rank_print.h"

#include <math.h>
#include <stdio.h>

enum { NAME = 26, COLUMNS = 12 }; /* columns of a block of scopes */

/* A number, or "-" where it is not available. */
static void cell(int width, int decimals, double value) {
    if (isnan(value))
        printf(" %*s", width, "-");
    else
        printf(" %*.*f", width, decimals, value);
}

static void print_overall(const kvs_rank_results *r) {
    int low = kvs_rank_ratio_index(r, kvs_rank_main_ratios[0]), main = kvs_rank_ratio_index(r, kvs_rank_main_ratios[1]);
    printf("%d pages, judged alone; gap: (chance - e) / (chance - greedy) with its 95 %% interval at 0.25\n\n",
           r->pages_count);
    printf("%-*s %8s %8s %8s %8s %8s %9s %7s %7s  %s\n", NAME, "metric", "spearman", "kendall", "overlap", "stable",
           "e 0.125", "e 0.25", "gap", "gap", "ci95");
    for (int m = 0; m < r->metrics_count; m++) {
        const kvs_rank_score *score = kvs_rank_score_of(r, 0, m);
        const kvs_rank_error *errors = kvs_rank_summary_of(r, 0, m, KVS_SELECT_DYNAMIC, KVS_BUDGET_HEAD);
        printf("%-*s", NAME, r->metrics[m].name);
        cell(8, 3, score->agreement.spearman);
        cell(8, 3, score->agreement.kendall);
        cell(8, 3, score->agreement.top_k_overlap);
        cell(8, 3, score->overlap_previous);
        cell(8, 5, errors[low].error);
        cell(9, 5, errors[main].error);
        cell(7, 3, errors[low].gap_closed);
        cell(7, 3, errors[main].gap_closed);
        if (m < kvs_rank_chance(r) && !isnan(errors[main].ci95_low))
            printf("  [%.3f, %.3f]", errors[main].ci95_low, errors[main].ci95_high);
        putchar('\n');
    }
    double greedy = 0, exhaustive = 0;
    for (int p = 0; p < r->pages_count; p++) {
        greedy += r->pages[p].four_greedy / r->pages_count;
        exhaustive += r->pages[p].four_exhaustive / r->pages_count;
    }
    printf("4 of 16 channels: greedy %.4e, best of all 1820 %.4e\n", greedy, exhaustive);
}

/* Errors at 0.25 by who shares the boosts and whether channels are chosen on each page. */
static void print_budgets(const kvs_rank_results *r) {
    int at = kvs_rank_ratio_index(r, kvs_rank_main_ratios[1]);
    printf(
        "\nerror at 0.25, equal bits; boosts fixed per head, or shared by the heads of a layer or of the model\n\n%-*s",
        NAME, "metric");
    for (int selection = 0; selection < KVS_SELECTIONS; selection++)
        for (int budget = 0; budget < KVS_BUDGETS; budget++)
            if (r->budgets & 1 << budget)
                printf(" %8s %-5s", kvs_rank_selection_names[selection], kvs_rank_budget_names[budget]);
    putchar('\n');
    for (int m = 0; m < r->metrics_count; m++) {
        printf("%-*s", NAME, r->metrics[m].name);
        for (int selection = 0; selection < KVS_SELECTIONS; selection++)
            for (int budget = 0; budget < KVS_BUDGETS; budget++)
                if (r->budgets & 1 << budget) cell(14, 5, kvs_rank_summary_of(r, 0, m, selection, budget)[at].error);
        putchar('\n');
    }
}

/* The gap closed at 0.25 in scopes first to last - 1, a column each, a few at a time; below it the greedy error. */
static void print_scopes(const kvs_rank_results *r, const char *what, int first, int last) {
    int at = kvs_rank_ratio_index(r, kvs_rank_main_ratios[1]);
    for (int begin = first; begin < last; begin += COLUMNS) {
        int end = begin + COLUMNS < last ? begin + COLUMNS : last;
        printf("\ngap closed at 0.25 by %s\n\n%-*s", what, NAME, "metric");
        for (int scope = begin; scope < end; scope++) {
            const kvs_rank_score *score = kvs_rank_score_of(r, scope, 0);
            char name[32];
            snprintf(name, sizeof name, score->head < 0 ? "%d" : "%d/%d", score->layer, score->head);
            printf(" %8s", name);
        }
        putchar('\n');
        for (int m = 0; m < kvs_rank_chance(r); m++) {
            printf("%-*s", NAME, r->metrics[m].name);
            for (int scope = begin; scope < end; scope++)
                cell(8, 3, kvs_rank_summary_of(r, scope, m, 0, 0)[at].gap_closed);
            putchar('\n');
        }
        for (int m = kvs_rank_chance(r); m < r->metrics_count; m++) {
            printf("%s: %-*s", "error", NAME - 7, r->metrics[m].name);
            for (int scope = begin; scope < end; scope++) cell(8, 5, kvs_rank_summary_of(r, scope, m, 0, 0)[at].error);
            putchar('\n');
        }
    }
}

void kvs_rank_print(const kvs_rank_results *r) {
    print_overall(r);
    print_budgets(r);
    print_scopes(r, "layer", 1, 1 + r->layers);
    print_scopes(r, "layer/KV head", 1 + r->layers, r->scopes_count);
}
