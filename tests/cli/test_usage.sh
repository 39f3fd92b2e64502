#!/bin/sh
# The front: commands, options, help, exit statuses.
. tests/cli/lib.sh

passes 'help lists the commands' "$KVSCOPE" --help
passes 'version' "$KVSCOPE" --version
fails 2 'frobnicate: unknown command' 'an unknown command' "$KVSCOPE" frobnicate
fails 2 'usage: kvscope list' 'a missing operand' "$KVSCOPE" list
fails 2 'b: unexpected' 'an operand too many' "$KVSCOPE" list a b
fails 2 "unknown option of 'list'" 'an unknown option' "$KVSCOPE" list --nonsense schemes
fails 2 'needs a value' 'an option without its value' "$KVSCOPE" list schemes --seed
fails 2 'whole number' 'an option with a wrong value' "$KVSCOPE" list schemes --seed=1.5
fails 2 'outside 0 to' 'an option out of bounds' "$KVSCOPE" list schemes --threads -1
fails 2 'takes no value' 'a flag with a value' "$KVSCOPE" list schemes --json=yes
fails 2 'unknown registry' 'an unknown registry' "$KVSCOPE" list nothing
run "$KVSCOPE"
[ "$status" = 2 ] && grep -q Commands "$T/.out"
report $? 'no command prints the help and exits with 2'
if [ -w /dev/full ]; then
    "$KVSCOPE" --help >/dev/full 2>"$T/.err"
    [ $? = 3 ] && grep -q 'standard output: cannot be written' "$T/.err"
    report $? 'a full standard output is an error'
else
    skip 'a full standard output is an error' 'no /dev/full'
fi
for command in $("$KVSCOPE" --help | sed -n 's/^  \([a-z]*\) .*/\1/p'); do
    passes "$command --help" "$KVSCOPE" "$command" --help
done
finish
