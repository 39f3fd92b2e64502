# compare.awk: from the .csv of a sweep over several traces, one row of Markdown a scheme, by rising bits: bits, and of
# every trace the mean and the 99th percentile of the relative L2 change of the attention output.
function split_csv(line, fields,    n, quoted, i, c) {
    n = 1
    fields[1] = ""
    quoted = 0
    for (i = 1; i <= length(line); i++) {
        c = substr(line, i, 1)
        if (c == "\"") quoted = !quoted
        else if (c == "," && !quoted) fields[++n] = ""
        else fields[n] = fields[n] c
    }
    return n
}
function cell(value) { return value == "" ? "" : sprintf("%.5f", value) }
NR == 1 {
    n = split_csv($0, f)
    for (i = 1; i <= n; i++) column[f[i]] = i
    next
}
{
    split_csv($0, f)
    scheme = f[column["scheme"]]
    trace = f[column["trace"]] + 0
    if (!(scheme in bits)) order[schemes++] = scheme
    bits[scheme] = f[column["bits.effective"]] + 0
    model[trace] = f[column["model_name"]]
    if (trace + 1 > traces) traces = trace + 1
    mean[scheme, trace] = cell(f[column["error.attention_output_rel_l2.mean"]])
    p99[scheme, trace] = cell(f[column["error.attention_output_rel_l2.p99"]])
}
END {
    for (i = 1; i < schemes; i++) # stable insertion sort
        for (k = i; k > 0 && bits[order[k - 1]] > bits[order[k]]; k--) {
            moved = order[k]; order[k] = order[k - 1]; order[k - 1] = moved
        }
    printf "| scheme | bits |"
    for (t = 0; t < traces; t++) printf " %s | p99 |", model[t]
    printf "\n|---|---|"
    for (t = 0; t < traces; t++) printf "---|---|"
    print ""
    for (i = 0; i < schemes; i++) {
        shown = order[i]
        sub(/constants=.*\//, "constants=", shown)
        printf "| %s | %.3f |", shown, bits[order[i]]
        for (t = 0; t < traces; t++) printf " %s | %s |", mean[order[i], t], p99[order[i], t]
        print ""
    }
}
